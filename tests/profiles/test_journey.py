"""Where customers are on the way to a purchase, to the minute, by what was known by then."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from controltower.data.lake import Lake
from controltower.profiles.journey import journeys
from support.shop_tables import T, ago, event, lake_with, order, orders


def at(minutes: float) -> datetime:
    """So many minutes before T."""
    return ago(minutes=minutes)


def did(name: str, minutes: float, customer: str = "c", product: str | None = "p1", **more: Any) -> dict[str, Any]:
    return event(f"{customer}-{name}-{minutes}-{product}", customer, at(minutes), name, product_id=product, **more)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """One customer a story, told by their id; everything happens in the last hours before T."""
    view, put, out, paid = "view_item", "add_to_cart", "remove_from_cart", "purchase"
    events = [
        did(view, 100, "looked"),
        did(put, 100, "carted"), did(view, 90, "carted"),
        did(put, 100, "removed"), did(out, 99, "removed"),
        did(put, 100, "removed_another"), did(out, 99, "removed_another", "p2"),
        did(out, 101, "put_again"), did(put, 100, "put_again"),
        did(put, 100, "ordered"), did(view, 95, "ordered"),
        did(put, 100, "bought_and_carted"), did(put, 90, "bought_and_carted", "p2"),
        did(put, 200, "back_again"), did(view, 100, "back_again"),
        did(put, 130, "one_visit"), did(view, 101, "one_visit"),
        did(put, 130, "half_hour_later"), did(view, 100, "half_hour_later"),
        did(put, 100, "paid"), did(paid, 95, "paid", None, order_id="not-loaded-yet"),
        did(put, 100, "cancelled"), did(paid, 95, "cancelled", None, order_id="gone"),
        did(view, 100, "late"), did(put, 99, "late", received_at=at(-1)),
        did(view, 100, "bought_later"), did(view, 300, "long_ago"),
        did(paid, 5, "till", None, channel="store"), did(put, 44_641, "a_month_ago"), did(put, 43_199, "lately"),
    ]  # fmt: skip
    made = orders(
        order("1", "ordered", at(96), ("p1", 1, 10)),
        order("2", "bought_and_carted", at(95), ("p1", 1, 10)),
        order("gone", "cancelled", at(95), ("p1", 1, 10), status="cancelled"),
        order("3", "bought_later", at(50), ("p1", 1, 10), channel="store"),
        order("4", "only_store", at(5), ("p1", 1, 10), channel="store"),
        order("5", "long_ago", at(400), ("p1", 1, 10)),
        order("7", "bought_a_month_ago", at(44_641), ("p1", 1, 10)),
        order("6", "looked", at(90), ("p1", 1, 10), updated_at=at(-1)),
    )
    return lake_with(tmp_path_factory.mktemp("lake"), {"events": events, **made})


def areas(lake: Lake, moment: datetime = T) -> dict[str, tuple[str, int]]:
    with lake.read(moment) as reading:
        rows = reading.arrow(journeys(reading.table, moment)).to_pylist()
    return {row["customer_id"]: (row["journey"], row["journey_minutes"]) for row in rows}


def test_each_area(lake: Lake) -> None:
    found = areas(lake)
    assert {customer: area for customer, (area, _) in found.items()} == {
        "looked": "left_without_cart", "carted": "left_with_cart", "removed": "left_without_cart",
        "removed_another": "left_with_cart", "put_again": "left_with_cart", "ordered": "bought",
        "bought_and_carted": "left_with_cart", "back_again": "left_without_cart", "one_visit": "left_with_cart",
        "half_hour_later": "left_without_cart",
        "paid": "bought", "cancelled": "left_with_cart", "late": "left_without_cart", "bought_later": "bought",
        "long_ago": "left_without_cart", "till": "bought", "only_store": "bought",
        "lately": "left_with_cart",
    }  # fmt: skip
    minutes = {customer: number for customer, (_, number) in found.items()}
    then = areas(lake, at(24 * 60 + 2))
    assert (then["a_month_ago"][0], then["bought_a_month_ago"][0]) == ("left_with_cart", "bought"), (
        "no longer, a day on"
    )
    assert (minutes["carted"], minutes["ordered"], minutes["bought_later"], minutes["till"]) == (90, 95, 50, 5)


def test_a_visit_ends_after_thirty_minutes(lake: Lake) -> None:
    """`looked` did one thing, 100 minutes before T."""
    found = [areas(lake, at(100) + timedelta(seconds=s)).get("looked") for s in (-1, 0, 1799, 1800)]
    assert found == [None, ("browsing_now", 0), ("browsing_now", 29), ("left_without_cart", 30)]


def test_what_is_received_later_changes_nothing_until_then(lake: Lake) -> None:
    later = areas(lake, at(-1))
    assert (later["late"][0], later["looked"][0]) == ("left_with_cart", "bought")


def test_a_shop_without_events_or_orders(tmp_path: Path) -> None:
    assert areas(lake_with(tmp_path, {})) == {}
