"""Who buys for the first time: what is known of people, and when which model serves."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from controltower import settings
from controltower.jobs.predictions import Past, acquisition
from controltower.models.acquisition import people, training
from controltower.models.acquisition.model import KINDS, Everybody, LastVisit, Likeness
from controltower.profiles.facts import gather
from support.shop_tables import SHOP, T, ago, event, lake_with, order, orders, product


def drawn(at: int, count: int, told: bool = True, seed: int = 0) -> training.Snapshot:
    """People of whom those with carts buy; or, where nothing is told, those who were here last."""
    rng = np.random.default_rng(seed + at)
    frame = pd.DataFrame({name: rng.poisson(1, count).astype(float) for name in Likeness.COLUMNS})
    frame["carts"] = (rng.random(count) < 0.3).astype(float)
    frame["days_since_last"] = rng.uniform(0, 30, count)
    by = 3 * frame["carts"] if told else 3 * (frame["days_since_last"] < 5)
    became = (rng.random(count) < 1 / (1 + np.exp(3 - by))).astype(int)
    frame.insert(0, "person", [f"v{i}" for i in range(count)])
    return training.Snapshot(T - timedelta(days=28 + 14 * at), frame, became)


def test_all_that_is_known_serves_where_it_tells_more() -> None:
    others = drawn(0, 800, seed=5).people.assign(carts=1.0)
    outcome = training.train(T, [drawn(n, 800) for n in range(8)], today=others)
    assert (outcome.model.name, outcome.published) == ("likeness", True), outcome.why
    assert outcome.metrics["average_precision"] > 1.5 * outcome.baseline_metrics["average_precision"]
    rows = outcome.details["backtest"]
    assert len(rows) == 3 and all(0.7 < row["expected"] / row["came"] < 1.4 for row in rows)
    assert all(row["average_precision"] > row["baseline_average_precision"] for row in rows)
    assert len(outcome.details["calibration"]["table"]) == 10
    assert outcome.details["drift"]["score_stability"] > 0.25, "all of today's people have a cart"
    newest = drawn(0, 800)
    assert isinstance(outcome.model, Likeness)
    assert outcome.model.predict(newest.people).sum() == pytest.approx(newest.became.sum()), "as many as lately"


def test_the_baseline_serves_where_it_isnt_beaten_and_everybody_of_few() -> None:
    outcome = training.train(T, [drawn(n, 300, told=False) for n in range(8)])
    won = outcome.metrics["average_precision"] > outcome.baseline_metrics["average_precision"]
    assert (outcome.published, outcome.model.name) == (won, "likeness" if won else "last_visit")
    assert outcome.metrics["average_precision"] < 1.1 * outcome.baseline_metrics["average_precision"]
    no_dates = training.train(T, [drawn(0, 800)])
    assert isinstance(no_dates.model, LastVisit) and "Too few first orders" in no_dates.why
    assert no_dates.details["backtest"] == [] and no_dates.details["drift"] == {}
    few = training.train(T, [drawn(0, 40)])
    assert isinstance(few.model, Everybody) and "fewer than 20" in few.why
    assert few.model.predict(drawn(0, 3).people) == pytest.approx([drawn(0, 40).became.mean()] * 3)
    nobody = training.train(T, [])
    assert isinstance(nobody.model, Everybody) and nobody.model.predict(drawn(0, 3).people) == pytest.approx(
        [0] * 3, abs=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_comes_back_as_it_was_saved(kind: type[Likeness], tmp_path: Path) -> None:
    some = drawn(1, 300)
    model = kind().fit(some.people, some.became)
    model.save(tmp_path)
    assert np.array_equal(kind.load(tmp_path).predict(some.people), model.predict(some.people))
    with pytest.raises(ValueError, match="differ in length"):
        kind().fit(some.people, some.became[1:])


def test_what_is_known_of_people(home: Path) -> None:
    """A prospect, a visitor, and who is neither: a buyer, a visitor of long ago, somebody without any date."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    lake = lake_with(
        home,
        {
            "customers": [
                {"customer_id": "buyer"}, {"customer_id": "prospect", "signed_up_at": ago(9)},
                {"customer_id": "undated"}, {"customer_id": "other"},
            ],
            "products": [product("a1", category="a"), product("b1", category="b")],
            "events": [
                event("1", None, ago(2), "view_item", visitor_id="v1", product_id="a1", session_id="s1"),
                event("2", None, ago(1), "add_to_cart", visitor_id="v1", product_id="a1", channel="app"),
                event("3", None, ago(8), "view_item", visitor_id="v1", product_id="b1"),
                event("4", None, ago(40), "view_item", visitor_id="old", product_id="b1"),
                event("5", "buyer", ago(3), "view_item", visitor_id="v9", product_id="b1"),
                event("6", None, ago(-1), "view_item", visitor_id="later", product_id="b1"),
            ],
            **orders(order("o1", "buyer", ago(20), ("a1", 9, 50)), order("o2", "other", ago(20), ("b1", 1, 1))),
        },
    )  # fmt: skip
    with lake.read(T) as reading:
        found = people.read_people(reading.table, reading.frame, T, SHOP)
        who = pa.table({"person": ["nobody", "v1"], "visitor": [1, 1], "place": [0, 1]})
        looked = people.read_interests(reading.table, reading.frame, T, SHOP, who)
    assert found["person"].tolist() == ["prospect", "v1"] and found["visitor"].tolist() == [False, True]
    prospect, visitor = found.to_dict("records")
    assert prospect["days_since_signed_up"] == pytest.approx(9) and np.isnan(prospect["days_since_last"])
    assert (prospect["views"], prospect["carts"], prospect["likeness"]) == (0, 0, 0)
    assert (visitor["views"], visitor["views_lately"], visitor["carts"], visitor["products"]) == (2, 1, 1, 2)
    assert visitor["days_since_last"] == pytest.approx(1) and visitor["days_since_first"] == pytest.approx(8)
    assert visitor["app"] == pytest.approx(1 / 3) and visitor["likeness"] > 0, "the best customer buys a, as v1 likes"
    assert looked[["place", "category"]].to_numpy().tolist() == [[1, "a"], [1, "b"]], "of those asked for alone"
    assert looked["share"].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_the_visitors_who_were_here_last_are_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not those on whose device a buyer was logged in, although their newest events may be somebody else's."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    monkeypatch.setattr(people, "MOST_VISITORS", 2)
    shared = [event("in1", "buyer", ago(5), "login", visitor_id="shared"),
              event("in2", "prospect", ago(4), "login", visitor_id="shared"),
              event("out", None, ago(3), "view_item", visitor_id="shared", product_id="a1")]  # fmt: skip
    visits = [event(f"e{n}", None, ago(n), "view_item", visitor_id=f"v{n}", product_id="a1") for n in (7, 1, 9, 8)]
    lake = lake_with(home, {
        "customers": [{"customer_id": c, "signed_up_at": ago(30)} for c in ("buyer", "prospect")],
        "products": [product("a1", category="a")],
        "events": shared + visits,
        **orders(order("o1", "buyer", ago(20), ("a1", 1, 50))),
    })  # fmt: skip
    rows: list[int] = []
    with lake.read(T) as reading:
        events = reading.frame(reading.table("events"))

        def read(expr: ir.Table) -> pd.DataFrame:
            found = reading.frame(expr)
            rows.append(len(found))
            return found

        found = people.read_people(reading.table, read, T, SHOP, reading.computed)
    assert events.loc[events["event_id"] == "out", "customer_id"].isna().all(), "anonymous: two people share the device"
    assert found["person"].tolist() == ["prospect", "v1", "v7"]
    assert max(rows) == 3, "no more come out of the lake"


def test_who_bought_later_also_under_another_id() -> None:
    some = pd.DataFrame({"person": ["c1", "c2", "v1", "c1"], "visitor": [False, False, True, True]})
    purchases = pd.DataFrame({"customer_id": ["c1", "new", "c2"],
                              "second": [int((T + timedelta(days=d)).timestamp()) for d in (1, 28, 29)]})  # fmt: skip
    became = pd.DataFrame({"customer_id": ["new", "c2"], "visitor_id": ["v1", "v2"]})
    assert people.bought(some, T, 28, purchases, became).tolist() == [1, 0, 1, 0]


def test_who_had_bought_before_is_no_new_customer(home: Path) -> None:
    """A customer back on an unknown device: nobody could know them at the start, yet theirs is no first order."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    start = T - timedelta(days=28)
    lake = lake_with(home, {
        "customers": [{"customer_id": c, "signed_up_at": ago(90)} for c in ("old", "new")],
        "products": [product("a1", category="a")],
        "events": [
            *(event(f"{v} {day}", None, ago(day), "view_item", visitor_id=v, product_id="a1")
              for v in ("v1", "v2", "v3") for day in (70, 29)),
            *(event(f"in {c} {v}", c, ago(day), "login", visitor_id=v)
              for c, v, day in (("old", "v1", 10), ("new", "v2", 10), ("old", "v3", 10), ("new", "v3", 9))),
        ],
        **orders(order("o1", "old", ago(60), ("a1", 1, 50)), order("o2", "old", ago(5), ("a1", 1, 50)),
                 order("o3", "new", ago(5), ("a1", 1, 50))),
    })  # fmt: skip
    with lake.read(start) as reading:
        there = people.read_people(reading.table, reading.frame, start, SHOP)
    with lake.read(T) as reading:
        became = people.read_became(reading.table, reading.frame, T, start, SHOP)
        purchases = reading.frame(gather(reading.table, T, SHOP).orders.select("customer_id", "second"))
    assert there["person"].tolist() == ["new", "v1", "v2", "v3"], "v1 and v3 weren't known to be old's by then"
    assert sorted(became.to_records(index=False).tolist()) == [("new", "v2"), ("new", "v3")]
    assert people.bought(there, start, 28, purchases, became).tolist() == [1, 0, 1, 1]
    everybody = pd.DataFrame({"customer_id": ["old", "new", "new"], "visitor_id": ["v1", "v2", "v3"]})
    assert people.bought(there, start, 28, purchases, everybody).tolist() == [1, 0, 1, 1], "whoever tells it"


def test_people_of_a_date_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MOST", 40)
    some = drawn(0, 100).people
    fewer = training.drawn(some)
    assert len(fewer) == 40 and fewer["person"].is_unique and set(fewer["person"]) < set(some["person"])
    assert fewer.equals(training.drawn(some)), "the same at each training"
    assert training.drawn(fewer) is fewer


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_shop_that_opened_ten_days_ago(home: Path) -> None:
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    lake_with(home, {
        "events": [event("1", None, ago(9), "view_item", visitor_id="v1", product_id="a1")],
        **orders(order("o1", "c1", ago(10), ("a1", 1, 50))),
    })  # fmt: skip
    with Past.of(settings.load(), SHOP, T) as past:
        (outcome,) = acquisition.train(past)
    assert isinstance(outcome.model, Everybody) and outcome.rows["rows"] == 0, outcome.why
