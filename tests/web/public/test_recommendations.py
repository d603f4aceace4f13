"""Recommendations over HTTP: who may ask whose, what is refused with its remedy, and a new version taking over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.content.customer_tokens import sign_customer
from controltower.data.lake import Lake
from controltower.jobs import events as job
from controltower.ledger.database import reading
from controltower.ledger.tables import event_bodies
from controltower.models.recommend.published import publish
from controltower.settings import Settings
from controltower.web.public import live, recommendations
from controltower.web.public.app import create_app
from controltower.web.public.page import PAGES
from delivery.conftest import NOW, write_shop
from starlette.datastructures import QueryParams
from starlette.testclient import TestClient
from support.published_shop import IDS, artefacts

PATH, PAGE, EVENTS, KEY = "/v1/recommendations", "/v1/page/recommendations", "/v1/page/events", "a key of the shop's"
EVENT = {"event_id": "0123456789abcdef", "event_name": "select_item", "visitor_id": "v1", "product_id": "mug",
         "list_id": "similar", "position": 1, "recommendation_id": "0" * 32}  # fmt: skip


@pytest.fixture
def conf(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("CONTROLTOWER_EVENTS_API_KEYS", KEY)
    monkeypatch.setattr(live, "EVERY", 0.0)
    settings = Settings(home=home)
    clock.set_clock(settings, NOW, speed=0)
    write_shop(settings)
    return settings


@pytest.fixture
def http(conf: Settings) -> Iterator[TestClient]:
    publish(conf.home / "serving", artefacts())
    with TestClient(create_app(conf), headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client


def get(http: TestClient, path: str = PATH, headers: dict[str, str] | None = None, **told: Any) -> httpx.Response:
    return http.get(path, params=told, headers=headers or {})


def token(conf: Settings, customer: str, hours: int = 1) -> str:
    return sign_customer(conf.signing_key(), customer, clock.now(conf) + timedelta(hours=hours))


def test_a_list_is_sent_as_it_is_shown(http: TestClient) -> None:
    answer = get(http, placement="similar", product="mug", k=2, locale="en")
    told = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert told["items"][1] == {
        "product_id": "tea", "title": "차 茶", "url": "https://shop.example/tea", "image_url": None, "price": 4.0,
        "currency": "EUR", "rank": 2, "algorithm": "substitutes", "rules": [],
        "reason": {"code": "because_you_viewed", "text": "Because you viewed “Mug <b>”"},
    }  # fmt: skip
    assert (told["placement"], told["model_version"], told["fallback"]) == ("similar", "s-1", None)
    assert told["as_of"] == "2026-06-15T00:00:00+00:00" and len(told["recommendation_id"]) == 32
    korean = get(http, placement="similar", product="mug", k=2, locale="ko-KR").json()
    assert korean["items"][1]["reason"]["text"] == "최근 본 ‘Mug <b>’ 관련 추천"
    assert korean["recommendation_id"] != told["recommendation_id"]


def test_there_is_always_a_list(http: TestClient) -> None:
    for told in (
        {"placement": "nonsense"}, {"placement": "for_you", "customer": "nobody"}, {"placement": "search", "query": ""},
        {"placement": "cart", "cart": ",,gone,"}, {"placement": "similar", "product": "x" * 200},
        {"placement": "similar", "product": "", "visitor": "", "k": ""},
        {"placement": "search", "query": "소파\x00'\";--"},
    ):  # fmt: skip
        answer = get(http, **told)
        assert answer.status_code == 200 and len(answer.json()["items"]) == len(IDS), told
        assert answer.json()["fallback"]["because"]


BAD: list[tuple[Any, str]] = [
    ({}, "placement"),
    ({"placement": "For you"}, "placement"),
    ({"placement": "a" * 41}, "placement"),
    ({"placement": "for_you", "k": "0"}, "k"),
    ({"placement": "for_you", "k": "51"}, "k"),
    ({"placement": "for_you", "k": "٣"}, "k"),
    ({"placement": "for_you", "k": "-1"}, "k"),
    ({"placement": "for_you", "cart": ",".join("p" * 101)}, "cart"),
    ({"placement": "for_you", "recent": ["p"] * 51}, "recent"),
    ({"placement": "for_you", "product": "p" * 201}, "product"),
    ({"placement": "for_you", "customer": "a\nb"}, "customer"),
    ({"placement": "for_you", "product": ["a", "b"]}, "product"),
    ({"placement": "for_you", "locale": "../../x"}, "locale"),
    ({"placement": "for_you", "query": "q" * 501}, "query"),
    ({"placement": "for_you", "recent": "p" * 17_000}, "recent"),
    ({"placement": "for_you", "size": "3"}, "size"),
]


@pytest.mark.parametrize(("told", "name"), BAD)
def test_a_bad_parameter_is_named_with_its_remedy(http: TestClient, told: dict[str, Any], name: str) -> None:
    answer = get(http, **told)
    assert answer.status_code == 400
    assert (answer.json()["error"], answer.json()["parameter"]) == ("bad_parameter", name)
    assert answer.json()["remedy"].endswith(".")


def test_an_id_with_a_comma_is_told_by_repeating_the_parameter() -> None:
    told = [("placement", "cart"), ("cart", "a,b"), ("cart", ""), ("recent", "a, b")]
    asked = recommendations.read(QueryParams(told))
    assert (asked.cart, asked.recent) == (["a,b"], ["a", "b"])


@pytest.mark.parametrize("odd", ["NaN", "NULL", "0", "-1", "1e5", "007", 'qu"ote', "a/../b", "😀", "상" * 200, "%00"])
def test_an_odd_id_is_an_id_without_the_blanks_around_it(http: TestClient, odd: str) -> None:
    told = [
        ("placement", "similar"),
        ("customer", f" {odd} "),
        ("visitor", "  "),
        ("product", f"{odd} "),
        ("cart", odd),
    ]
    asked = recommendations.read(QueryParams(told))
    assert (asked.customer, asked.visitor, asked.product, asked.cart) == (odd, None, odd, [odd])
    assert get(http, placement="similar", product=odd).json()["fallback"]["because"] == "unknown_product"


def test_a_key_asks_for_anybody_and_a_token_for_its_customer(conf: Settings, http: TestClient) -> None:
    ann = get(http, placement="for_you", customer="ann", k=2).json()
    assert [i["product_id"] for i in ann["items"]] == ["tea", "pan"]
    own = {"Authorization": f"Bearer {token(conf, 'ann')}"}
    assert get(http, headers=own, placement="for_you", k=2).json()["items"] == ann["items"]
    assert get(http, headers=own, placement="for_you", customer="ann").status_code == 200
    for headers, told, status, error in (
        (own, {"customer": "bob"}, 403, "other_customer"),
        ({"Authorization": f"Bearer {token(conf, 'ann', -1)}"}, {}, 401, "bad_key"),
        ({"Authorization": "Bearer x"}, {}, 401, "bad_key"),
    ):
        answer = get(http, headers=headers, placement="for_you", **told)
        assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_from_a_page_nobody_is_named_without_a_token(conf: Settings, http: TestClient) -> None:
    assert get(http, PAGE, placement="for_you", visitor="v1", k=1).json()["items"][0]["product_id"] == "lamp"
    for name in ("customer", "%63ustomer"):
        answer = http.get(f"{PAGE}?placement=for_you&{name}=ann")
        assert (answer.status_code, answer.json()["error"]) == (403, "customer_without_token")
    known = get(http, PAGE, {"X-Customer-Token": token(conf, "ann")}, placement="for_you", k=1).json()
    assert known["items"][0]["product_id"] == "tea"
    assert get(http, PAGE, {"X-Customer-Token": token(conf, "ann", -1)}, placement="for_you").status_code == 401


def test_impressions_and_clicks_of_a_page_come_into_the_lake(conf: Settings, http: TestClient) -> None:
    seen = [{**EVENT, "event_id": f"{n:016}", "event_name": "view_item_list", "position": n} for n in (1, 2)]
    answer = http.post(EVENTS, json={"events": seen})
    assert (answer.status_code, answer.json()) == (202, {"body": "stored", "events": 2})
    claimed = {
        **EVENT,
        "visitor_id": "v2",
        "customer_id": "bob",
        "event_time": "x",
        "value": 1e9,
    }  # not for a page to say
    assert http.post(EVENTS, json={"events": [claimed]}, headers={"X-Customer-Token": token(conf, "ann")}).is_success
    assert job.ingest_events()["loaded"] == 3
    with Lake(conf).read() as lake:
        table = lake.arrow(lake.table("events")).sort_by("event_id")
    rows = table.select(["event_name", "customer_id", "visitor_id", "list_id", "position", "value"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("view_item_list", None, "v1", "similar", 1, None), ("view_item_list", None, "v1", "similar", 2, None),
        ("select_item", "ann", "v2", "similar", 1, None),
    ]  # fmt: skip
    assert set(table["recommendation_id"].to_pylist()) == {"0" * 32}


def test_impressions_of_collections_come_into_the_lake(conf: Settings, http: TestClient) -> None:
    seen = {name: value for name, value in EVENT.items() if name != "product_id"} | {"list_id": "offer"}
    assert http.post(EVENTS, json={"events": [seen | {"collection_id": "autumn"}]}).status_code == 202
    assert http.post(EVENTS, json={"events": [seen | {"collection_id": ""}]}).status_code == 400
    assert job.ingest_events()["loaded"] == 1
    with Lake(conf).read() as lake:
        (row,) = lake.arrow(lake.table("events")).to_pylist()
    assert (row["product_id"], json.loads(row["attributes"])) == (None, {"collection_id": "autumn"})


@pytest.mark.parametrize("change", [
    {"event_name": "purchase"}, {"event_name": "login"}, {"position": 0}, {"position": True}, {"position": "1"},
    {"recommendation_id": "x"}, {"list_id": "A"}, {"product_id": ""}, {"product_id": 3}, {"event_id": "e1"},
    {"visitor_id": None},
])  # fmt: skip
def test_a_page_tells_of_nothing_else(conf: Settings, http: TestClient, change: dict[str, Any]) -> None:
    for body in ({"events": [EVENT | change]}, {"events": [EVENT] * 101}, {"events": []}, [EVENT], {"events": ["x"]}):
        assert http.post(EVENTS, json=body).json() == {"error": "unknown_form"}
    with reading(conf) as ledger:
        assert ledger.execute(sa.select(sa.func.count()).select_from(event_bodies)).scalar_one() == 0


def test_before_anything_is_published_the_remedy_is_told_and_then_it_answers(conf: Settings) -> None:
    with TestClient(create_app(conf), headers={"Authorization": f"Bearer {KEY}"}) as http:
        answer = get(http, placement="for_you")
        assert (answer.status_code, answer.json()["error"]) == (503, "not_published")
        assert "controltower score" in answer.json()["remedy"] and answer.headers["retry-after"]
        publish(conf.home / "serving", artefacts())
        assert get(http, placement="for_you").status_code == 200


def test_a_new_version_takes_over_while_the_old_one_answers(
    conf: Settings, http: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    serving = live.Live(conf)
    first = serving.opened().published.version
    second = publish(conf.home / "serving", artefacts(popularity=np.arange(len(IDS))))

    def refreshed() -> str:
        found = serving.serving()
        assert found is not None and serving._opening is not None
        serving._opening.join()
        return found.published.version

    assert (refreshed(), refreshed()) == (first, second)  # the first of them didn't wait
    third = publish(conf.home / "serving", artefacts())
    (conf.home / "serving" / third / "placements.json").write_text("{")
    assert (refreshed(), refreshed()) == (second, second) and "damaged" in caplog.text
    (conf.home / "serving/current.json").write_text("?")
    assert refreshed() == second
    fourth = publish(conf.home / "serving", artefacts())
    assert (refreshed(), refreshed()) == (second, fourth)


def test_a_version_that_cannot_be_opened_is_not_tried_for_each_request(conf: Settings) -> None:
    version = publish(conf.home / "serving", artefacts())
    (conf.home / "serving" / version / "popular.npy").unlink()
    with TestClient(create_app(conf), headers={"Authorization": f"Bearer {KEY}"}) as http:
        for _ in range(2):
            answer = get(http, placement="for_you")
            assert (answer.status_code, answer.json()["error"]) == (503, "not_published")


def test_decisions_are_logged_by_the_id_that_was_sent(conf: Settings, http: TestClient) -> None:
    serving = live.Live(conf)
    made = serving.answer(
        serving.opened(), recommendations.read(QueryParams({"placement": "similar"})),
        "en", recommendations.told,
    )  # fmt: skip
    assert serving._decisions is not None and serving._decisions.flush() == 1
    (path,) = (conf.home / "serving/decisions").rglob("*.parquet")
    assert made["recommendation_id"].encode() in path.read_bytes()


def test_the_script_is_small_and_has_no_way_to_write_html(http: TestClient) -> None:
    answer = http.get("/recommend.js", headers={"Authorization": ""})
    assert answer.headers["content-type"].startswith("text/javascript") and "max-age" in answer.headers["cache-control"]
    assert len(answer.content) == (PAGES / "recommend.js").stat().st_size < 10_000
    assert not [
        word for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(") if word in answer.text
    ]
