"""The delay after a behaviour: what a return is, everyone's and own delays, and when there is little to go by."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controltower.models.publication import Serving
from controltower.models.send_time import delays
from controltower.models.send_time.delays import BEHAVIOURS, KINDS, USUAL_HOURS, EveryonesDelay, OwnDelay, Returns
from models.test_registry import card
from support.shop_tables import SHOP, T, ago, event, lake_with, order, orders


def planted(own: bool, customers: int = 300, each: int = 20, seed: int = 1) -> Returns:
    """Returns after carts, of 120 days: after hours of the customer's own, or 24 for everyone; a fifth at any."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(customers), each)
    delay = (who * 7 % 100 + 3 if own else np.full(len(who), 24)) + rng.integers(-1, 2, len(who))
    delay = np.where(rng.random(len(who)) < 0.2, rng.integers(0, 168, len(who)), delay)
    ids = np.array([f"c{i:04}" for i in range(customers)])
    return Returns(ids, who, np.full(len(who), 1), delay, rng.integers(0, 120, len(who)))


def test_own_delays_are_found() -> None:
    some = planted(own=True)
    outcome = delays.train(some, T)
    assert outcome.name == "send_delay" and outcome.published and isinstance(outcome.model, OwnDelay)
    found = outcome.model.predict(some)
    assert list(found) == ["customer_id", *(f"delay_after_{name}" for name in BEHAVIOURS)]
    off = found["delay_after_add_to_cart"] - (np.arange(300) * 7 % 100 + 3)
    assert (off.abs() <= 1).mean() > 0.95
    assert set(found["delay_after_view_item"]) == {USUAL_HOURS["view_item"]}, "nobody came back after a view"
    rows = outcome.details["backtest"]
    assert [row["as_of"] for row in rows] == [(T - timedelta(days=28 * k)).isoformat() for k in (1, 2, 3)]
    assert all(row["hits_3h"] > row["baseline_hits_3h"] + 0.3 for row in rows)
    table = outcome.details["calibration"]["table"]
    assert len(table) == 10 and all(row["said"] < row["came"] for row in table), "shrunk to everyone's"
    assert 0 < outcome.details["drift"]["score_stability"] < 0.25
    usual = EveryonesDelay().fit(some)
    beside = delays.train(some, T, lambda _: Serving(card("send_delay", -99), usual)).details
    assert beside["in_service"]["dates"] == 3 and beside["in_service"]["high"] < 0
    assert beside["backtest"][0]["in_service_hits_3h"] == pytest.approx(rows[0]["baseline_hits_3h"], abs=0.05)


def test_everyones_delay_serves_where_all_are_alike() -> None:
    for seed in range(5):
        outcome = delays.train(planted(own=False, seed=seed), T)
        assert not outcome.published and isinstance(outcome.model, EveryonesDelay)
    table = outcome.model.table().set_index("behaviour")
    assert table.loc["add_to_cart", "delay"] == 24 and table.loc["add_to_cart", "share"] > 0.7
    assert "isn't better than everyone's best delay for sure" in outcome.why


def test_strangers_get_everyones_delay() -> None:
    some = planted(own=False)
    stranger = Returns(np.array(["x"]), *[np.zeros(0, int)] * 4)
    for kind in KINDS:
        assert kind().fit(some).predict(stranger)["delay_after_add_to_cart"].tolist() == [24]


def test_an_empty_shop_gets_what_is_usual() -> None:
    none = Returns(np.array(["a"]), *[np.zeros(0, int)] * 4)
    outcome = delays.train(none, T)
    assert "Only 0 customers" in outcome.why and outcome.window is None
    assert outcome.model.predict(none).iloc[0, 1:].tolist() == list(USUAL_HOURS.values())


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    some = planted(own=True, customers=60)
    for kind in KINDS:
        (tmp_path / kind.name).mkdir()
        model = kind().fit(some)
        model.save(tmp_path / kind.name)
        assert kind.load(tmp_path / kind.name).predict(some).equals(model.predict(some))


def rows_of(tmp_path: Path, tables: dict[str, Any]) -> list[tuple[Any, ...]]:
    lake = lake_with(tmp_path, tables)
    with lake.read(T) as reading:
        rows = reading.frame(delays.returns(reading.table, T, SHOP, np.array(list("abc"))))
    return sorted((r.customer_id, BEHAVIOURS[r.behaviour], r.delay) for r in rows.itertuples())


def test_a_return_is_the_next_visit(tmp_path: Path) -> None:
    def at(hours: float) -> Any:
        return ago(20, hours=-hours)

    found = rows_of(
        tmp_path,
        {
            "events": [
                event("1", "a", at(0), "view_item"), event("2", "a", at(0.2), "add_to_cart"),
                event("3", "a", at(0.4), "view_item"),  # one visit, with a cart
                event("4", "a", at(5.5), "view_item"),  # back after five hours
                event("5", "a", at(30), "view_item", click_id="m"),  # our message began this one
                event("6", "a", at(400), "view_item"),  # after more than a week
                event("9", "d", at(0), "view_item"), event("10", "d", at(3), "view_item"),  # isn't asked for
                event("7", "b", at(0), "search"), event("8", "b", at(3), "search"),  # neither view, cart nor purchase
            ],
            **orders(order("1", "c", at(1), ("p", 1, 5)), order("2", "c", at(26.5), ("p", 1, 5))),
        },
    )  # fmt: skip
    assert found == [("a", "add_to_cart", 5), ("c", "purchase", 25)]


def test_returns_become_arrays_of_the_customers_asked_for(tmp_path: Path) -> None:
    events = [event(f"{c}{n}", c, ago(9, hours=-n * 10), "view_item") for c in "ab" for n in range(3)]
    lake = lake_with(tmp_path, {"events": events})
    with lake.read(T) as reading:
        rows = reading.arrow(delays.returns(reading.table, T, SHOP, np.array(["a", "b"])))
    some = Returns.of(rows.to_batches(), T, np.array(["b", "x"]))
    assert len(some) == 2 and set(some.customer) == {0} and some.delay.tolist() == [10, 10]
    assert some.counts(0).toarray()[0, 10] == pytest.approx(2)
    assert len(Returns.of([], T, np.array(["b"]))) == 0
