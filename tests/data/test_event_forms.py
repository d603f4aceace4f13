"""What programs post becomes rows of `events`, whichever form they speak."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from controltower.data.sources.event_forms import rows

NOW = datetime.fromisoformat("2026-06-15T12:00:00+00:00")


def read(told: Any) -> list[dict[str, Any]]:
    found = list(rows(json.dumps(told).encode(), NOW))
    for row in found:
        assert row.pop("received_at") == NOW.isoformat()
        if "attributes" in row:
            row["attributes"] = json.loads(row["attributes"])
    return found


OURS = {"event_id": "e1", "occurred_at": "2026-06-15T11:59:00Z", "event_name": "view_item", "product_id": "p1"}


@pytest.mark.parametrize("told", [OURS, [OURS], {"events": [OURS]}])
def test_our_own_form(told: Any) -> None:
    assert read(told) == [OURS]


def test_what_the_contract_does_not_know_is_kept() -> None:
    (row,) = read([OURS | {"color": "red", "attributes": {"size": "L"}, "query": ""}])
    assert row == OURS | {"attributes": {"color": "red", "size": "L"}}


def test_when_it_was_received_is_for_us_to_say() -> None:
    (row,) = rows(json.dumps([OURS | {"received_at": "1999-01-01"}]).encode(), NOW)
    assert row["received_at"] == NOW.isoformat()


def ga4(**more: Any) -> dict[str, Any]:
    items = [{"item_id": "p1", "price": 1000, "quantity": 2}, {"item_id": "p2", "item_name": "두부", "index": 3}]
    event = {"name": "add_to_cart", "params": {"ga_session_id": 77, "currency": "KRW", "items": items}}
    return {"client_id": "v.1", "user_id": "c1", "timestamp_micros": "1781524740000000", "events": [event], **more}


def test_ga4s_form_gives_a_row_for_each_item() -> None:
    first, second = read(ga4())
    common = {"event_name": "add_to_cart", "occurred_at": "2026-06-15T11:59:00+00:00", "visitor_id": "v.1",
              "customer_id": "c1", "channel": "web", "session_id": 77}  # fmt: skip
    assert first.pop("event_id") + ":1" == second.pop("event_id")
    assert first == common | {"product_id": "p1", "value": 1000, "quantity": 2, "attributes": {"currency": "KRW"}}
    more = {"currency": "KRW", "item_name": "두부"}
    assert second == common | {"product_id": "p2", "position": 3, "attributes": more}


def test_a_ga4_body_posted_again_has_the_same_ids_and_another_has_others() -> None:
    ids = [row["event_id"] for row in read(ga4())]
    assert [row["event_id"] for row in read(ga4())] == ids
    assert not {row["event_id"] for row in read(ga4(client_id="v.2"))} & set(ids)


def test_ga4_without_a_time_happened_when_it_came() -> None:
    (row,) = read({"client_id": "v", "events": [{"name": "search", "params": {"search_term": "선크림"}}]})
    assert (row["occurred_at"], row["query"]) == (NOW.isoformat(), "선크림")


def segment(event: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "track", "event": event, "messageId": "m1", "anonymousId": "v1", "userId": "c1",
        "timestamp": "2026-06-15T11:59:00Z", "properties": properties,
        "context": {"page": {"url": "https://shop.example/p1", "referrer": "https://search.example"}},
    }  # fmt: skip


def test_segments_form() -> None:
    (row,) = read({"batch": [segment("Product Viewed", product_id="p1", price=9.5, brand="Hana")]})
    assert row == {
        "event_id": "m1", "event_name": "view_item", "occurred_at": "2026-06-15T11:59:00Z", "visitor_id": "v1",
        "customer_id": "c1", "channel": "web", "page_url": "https://shop.example/p1",
        "referrer": "https://search.example", "product_id": "p1", "value": 9.5, "attributes": {"brand": "Hana"},
    }  # fmt: skip


def test_an_order_of_segments_is_a_row_for_each_product() -> None:
    products = [{"product_id": "p1", "quantity": 1}, {"product_id": "p2", "quantity": 3}]
    found = read(segment("Order Completed", order_id="o1", total=30, products=products))
    assert [(r["event_id"], r["event_name"], r["order_id"], r["product_id"], r["quantity"]) for r in found] == [
        ("m1", "purchase", "o1", "p1", 1),
        ("m1:1", "purchase", "o1", "p2", 3),
    ]


def test_segments_other_calls() -> None:
    calls = [
        {
            "type": "identify",
            "messageId": "m1",
            "anonymousId": "v1",
            "userId": "c1",
            "traits": {"email": "a@b.example"},
        },
        {"type": "page", "messageId": "m2", "anonymousId": "v1", "properties": {"url": "https://shop.example/"}},
        {"type": "screen", "messageId": "m3", "anonymousId": "v1"},
        segment("Wish List Shared"),
    ]
    found = read({"batch": calls})
    assert [r["event_name"] for r in found] == ["login", "page_view", "screen_view", "wish_list_shared"]
    assert [r.get("channel") for r in found] == [None, "web", "app", "web"]
    assert "email" not in json.dumps(found), "whose address it is comes from customers"


def test_a_clock_that_is_ahead_is_set_right_by_when_it_was_sent() -> None:
    ahead = segment("Cart Viewed") | {"timestamp": "2026-06-16T00:00:00Z", "sentAt": "2026-06-16T00:00:30Z"}
    assert read(ahead)[0]["occurred_at"] == "2026-06-15T11:59:30+00:00"


@pytest.mark.parametrize("told", ["", "text", 1, None, {}, {"batch": 1}, {"events": {}}, {"type": 1}])
def test_what_is_none_of_the_forms(told: Any) -> None:
    with pytest.raises(ValueError, match="form"):
        read(told)


@pytest.mark.parametrize("odd", [None, 1, "x", [], {"properties": 1}, {"timestamp_micros": "soon"}, {"event": 5}])
def test_odd_events_are_rows_for_the_gate(odd: Any) -> None:
    assert len(read({"batch": [{"type": "track", **odd} if isinstance(odd, dict) else odd]})) == 1
    assert len(read({"client_id": "v", "events": [odd]})) == 1
    assert len(read([odd])) == 1
