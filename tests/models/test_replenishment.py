"""The next order: planted waits are found, dates and dormancy follow from one curve, few data give a plain sentence."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from controltower.models.base import Outcome
from controltower.models.publication import Serving
from controltower.models.replenishment import hazard, purchases, training
from controltower.models.replenishment.hazard import KINDS, ConstantWait, Hazard, NextOrder, OwnMedianGap, Past
from controltower.models.replenishment.purchases import Series, series, states, waits
from models.test_registry import card
from support.shop_tables import SHOP, T, ago, lake_with, order, orders, product

NOBODY = pd.DataFrame({"customer_id": [], "day": [], "amount": []}).astype({"day": int, "amount": float})


def planted(customers: int, days: int, seed: int = 2, ahead: int = 0) -> pd.DataFrame:
    """customer_id, day (before T, negative: after it), amount. Waits are gamma around a gap of the customer's own, from
    5 to 90 days; after each purchase a tenth leave for good."""
    rng = np.random.default_rng(seed)
    gap = rng.uniform(np.log(5), np.log(90), customers)
    rows = []
    for n in range(customers):
        waited = rng.gamma(6, np.exp(gap[n]) / 6, 80)
        left = rng.geometric(0.1)
        at = days - rng.integers(0, days - 20) - np.r_[0.0, np.cumsum(waited)][:left]
        rows += [(f"c{n:05}", int(np.floor(day))) for day in at if day >= -ahead]
    frame = pd.DataFrame(rows, columns=["customer_id", "day"]).drop_duplicates()
    return frame.assign(amount=20.0)


def known(rows: pd.DataFrame) -> Series:
    return series(rows[rows["day"] >= 0])


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return training.train("next_order", known(planted(900, 400)), None, T)


def test_planted_waits_are_found_and_beat_the_own_median_gap(outcome: Outcome) -> None:
    assert outcome.published and isinstance(outcome.model, Hazard), outcome.why
    assert outcome.name == "next_order" and outcome.metric == "auc_28d"
    assert outcome.metrics["auc_28d"] > 0.75
    theirs = outcome.baseline_metrics
    assert outcome.metrics["auc_28d"] > max(theirs["auc_28d"], theirs["auc_28d_by_nearness"], theirs["constant_wait"])
    assert outcome.metrics["bias_28d"] == pytest.approx(1, abs=0.15)
    rows = planted(900, 400, seed=8, ahead=120)  # others of the same kind
    p = outcome.model.predict(known(rows), None, T)
    soon = rows[(rows["day"] < 0) & (rows["day"] >= -28)]["customer_id"]
    came = p["customer_id"].isin(set(soon))
    assert p["order_28d"].sum() == pytest.approx(came.sum(), rel=0.15)
    assert (p["order_28d"] + p["dormancy_28d"]).to_numpy() == pytest.approx(1)


def test_the_card_has_a_backtest_and_what_was_in_service(outcome: Outcome) -> None:
    dates, table = outcome.details["backtest"], outcome.details["calibration"]["table"]
    assert [row["as_of"][:10] for row in dates] == ["2026-05-18", "2026-04-20", "2026-03-23"]
    assert np.mean([row["auc_28d"] for row in dates]) == pytest.approx(outcome.metrics["auc_28d"], abs=1e-5)
    assert len(table) == 10 and table[0]["came"] < table[-1]["came"]
    some = known(planted(900, 400))
    usual = ConstantWait().fit(hazard.describe(some, None, 0), [])
    made = training.train("next_order", some, None, T, lambda _: Serving(card("next_order", -99), usual))
    said = made.details["in_service"]
    assert made.published and (said["dates"], said["stays"]) == (3, False) and said["high"] < 0
    better = training.train("next_order", some, None, T, lambda _: Serving(card("next_order", -99), _KnowsAll(some)))
    assert isinstance(better.model, _KnowsAll) and "So it stays in service." in better.why


class _KnowsAll(ConstantWait):
    """Told of what came after past dates."""

    def __init__(self, some: Series) -> None:
        super().__init__()
        self.some = some

    def survival(self, rows: hazard.Rows) -> np.ndarray:
        day = next(28 * k for k in (1, 2, 3) if len(states(self.some, 28 * k).rows) == len(rows.own.rows))
        came = waits(self.some, day, rows.own.rows) <= 28
        return np.repeat(np.where(came, 0.1, 0.9)[:, None], hazard.SOON + 1, axis=1)


def test_the_interval_holds_what_it_promises(outcome: Outcome) -> None:
    assert isinstance(outcome.model, NextOrder)
    rows = planted(4000, 400, seed=9, ahead=300)
    p = outcome.model.predict(known(rows), None, T).set_index("customer_id")
    coming = rows[rows["day"] < 0].groupby("customer_id")["day"].max()
    wait = (-coming.reindex(p.index) - 0.5).fillna(np.inf)
    for name, level in zip(("next_order_low", "next_order_at", "next_order_high"), (0.1, 0.5, 0.9), strict=True):
        there = p[name].notna()
        days = (p[name] - T).dt.total_seconds() / 86_400
        assert there.sum() > 100
        assert (wait <= days)[there].mean() == pytest.approx(level, abs=0.06)


def test_no_date_has_a_reason(outcome: Outcome) -> None:
    assert isinstance(outcome.model, NextOrder)
    rows = planted(900, 400)
    p = hazard.asked(
        np.array(["stranger", *sorted(set(rows["customer_id"]))]), outcome.model.predict(known(rows), None, T)
    )
    assert p["customer_id"][0] == "stranger" and p["reason"][0] == hazard.NEVER and np.isnan(p["dormancy_28d"][0])
    rest = p.iloc[1:]
    assert set(rest["reason"]) == {"", hazard.BEYOND}
    assert (rest["next_order_at"].isna() == (rest["reason"] != "")).all()
    dated = rest[rest["next_order_high"].notna()]
    assert (dated["next_order_low"] <= dated["next_order_at"]).all()
    assert (dated["next_order_at"] <= dated["next_order_high"]).all()
    assert (rest["next_order_at"].dropna() >= T).all() and str(rest["next_order_at"].dtype).endswith("UTC]")


def test_who_bought_once_and_long_ago_is_dormant(outcome: Outcome) -> None:
    """The chance of being alive is 1 for both; that is why it is no dormancy."""
    assert isinstance(outcome.model, NextOrder)
    some = series(pd.DataFrame({"customer_id": ["lately", "long ago"], "day": [3, 300], "amount": 20.0}))
    lately, long_ago = outcome.model.predict(some, None, T)["dormancy_28d"]
    assert long_ago > 0.8 > lately


def test_the_curve_falls_and_the_pace_bends_it(outcome: Outcome) -> None:
    assert isinstance(outcome.model, Hazard)
    rows = hazard.describe(known(planted(50, 400)), None, 0)
    curve = outcome.model.survival(rows)
    assert (curve[:, 0] == 1).all() and (np.diff(curve, axis=1) <= 0).all() and (curve > 0).all()
    pace = outcome.model.pace
    try:
        outcome.model.pace = 2 * pace
        assert outcome.model.survival(rows) == pytest.approx(curve**2)
    finally:
        outcome.model.pace = pace
    dormant = curve[:, hazard.SOON]
    found = training._pace(dormant, float((1 - dormant**1.4).mean()))
    assert found == pytest.approx(1.4, abs=1e-6)


def test_quantiles_by_hand() -> None:
    curve = np.array([[1, 0.9, 0.81, 0.5, 0.25], [1, 0.95, 0.93, 0.92, 0.91]])
    assert hazard._quantile(curve, 0.1) == pytest.approx([7, np.nan], nan_ok=True)
    assert hazard._quantile(curve, 0.19) == pytest.approx([14, np.nan], nan_ok=True)
    assert hazard._quantile(curve, 0.5)[0] == pytest.approx(21)
    between = hazard._quantile(curve, 1 - 0.5**1.5)[0]
    assert between == pytest.approx(24.5), "halfway in the logarithm"
    assert np.isnan(hazard._quantile(curve, 0.9)).all()


def test_states_are_those_that_pandas_counts() -> None:
    rows = planted(80, 300, seed=4).assign(amount=lambda r: r["day"] % 7 + 1.0)
    rows = rows[rows["day"] >= 0]
    for day in (0, 28, 150):
        then = rows[rows["day"] >= day].sort_values("day", ascending=False)
        found = states(series(rows), day)
        ids = series(rows).customer_ids[found.rows]
        assert ids.tolist() == sorted(set(then["customer_id"]))
        for n, (_, own) in enumerate(then.groupby("customer_id")):
            gaps = -np.diff(own["day"].to_numpy())
            last = own["day"].to_numpy()[-1] - day
            assert found.since[n] == last and found.number[n] == len(own)
            assert found.age[n] == own["day"].max() - day
            assert found.gap[n] == pytest.approx(np.median(gaps) if len(gaps) else np.nan, nan_ok=True)
            assert found.last_gap[n] == pytest.approx(gaps[-1] if len(gaps) else np.nan, nan_ok=True)
            spread = np.log(gaps).std(ddof=1) if len(gaps) > 1 else np.nan
            assert found.spread[n] == pytest.approx(spread, nan_ok=True)
            assert found.counts[n].tolist() == [(own["day"] < day + w).sum() for w in purchases.WINDOWS]
            assert found.amount[n] == pytest.approx(own["amount"].to_numpy()[-1] / own["amount"].mean())


def test_a_past_date_knows_nothing_later() -> None:
    rows = planted(120, 300, seed=6)
    rows = rows[rows["day"] >= 0]
    then = rows[rows["day"] >= 60].assign(day=lambda r: r["day"] - 60)
    one, two = states(series(rows), 60), states(series(then), 0)
    for name in ("since", "gap", "last_gap", "spread", "number", "age", "counts", "amount"):
        assert np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True)
    ahead = waits(series(rows), 60, one.rows)
    coming = rows[rows["day"] < 60].groupby("customer_id")["day"].max()
    expected = 60 - coming.reindex(series(rows).customer_ids[one.rows]) - 0.5
    assert ahead.tolist() == expected.fillna(np.inf).tolist()


def test_few_orders_give_a_usual_wait_and_a_sentence() -> None:
    few = series(pd.DataFrame({"customer_id": ["a", "a", "b"], "day": [40, 10, 5], "amount": 1.0}))
    outcome = training.train("next_order", few, None, T)
    assert isinstance(outcome.model, ConstantWait) and not outcome.published
    assert outcome.why.startswith("Only 2 customers, and 0 orders in the weeks after past dates: too few")
    p = outcome.model.predict(few, None, T)
    assert p["next_order_at"].notna().all() and p["next_order_at"][1] > p["next_order_at"][0]


def test_one_time_buyers_only() -> None:
    once = series(pd.DataFrame({"customer_id": [f"c{n:02}" for n in range(60)], "day": range(60), "amount": 1.0}))
    outcome = training.train("next_order", once, None, T)
    assert outcome.why == "None of 60 customers bought twice, so how long people wait is not known."
    assert isinstance(outcome.model, ConstantWait)
    p = outcome.model.predict(once, None, T)
    assert p["next_order_at"].isna().all() and p["dormancy_28d"].isna().all()
    assert set(p["reason"]) == {hazard.NO_REPEAT}


def test_a_shop_without_orders() -> None:
    for name, by in (("next_order", None), ("next_product_order", "product_id")):
        empty = series(NOBODY.assign(product_id=[]), by)
        outcome = training.train(name, empty, series(NOBODY) if by else None, T)
        assert outcome.why.startswith("There are no") and isinstance(outcome.model, ConstantWait)
        assert len(outcome.model.predict(empty, series(NOBODY) if by else None, T)) == 0


def of_products(customers: int, days: int = 300) -> pd.DataFrame:
    """customer_id, product_id, day, amount: coffee every 14 days or so, filters every 70."""
    rng = np.random.default_rng(3)
    rows = [
        (f"c{n:04}", name, int(day))
        for n in range(customers)
        for name, gap in (("coffee", 14), ("filters", 70))
        for day in days - rng.integers(0, 60) - np.cumsum(rng.gamma(8, gap / 8, 40))
        if day >= 0
    ]
    frame = pd.DataFrame(rows, columns=["customer_id", "product_id", "day"]).drop_duplicates().assign(amount=1.0)
    return frame[frame.groupby(["customer_id", "product_id"])["day"].transform("size") >= 2]


def test_products_have_waits_of_their_own() -> None:
    rows = of_products(300)
    some = series(rows, "product_id")
    daily = series(rows.drop_duplicates(["customer_id", "day"]))
    outcome = training.train("next_product_order", some, daily, T)
    assert outcome.published and isinstance(outcome.model, Hazard), outcome.why
    p = outcome.model.predict(some, daily, T)
    assert list(p.columns) == ["customer_id", "item", *hazard.COLUMNS] and len(p) == len(some)
    wait = (p["next_order_at"] - T).dt.days.groupby(p["item"]).median()
    assert wait["coffee"] < 14 < wait["filters"] < 70
    assert p.groupby("item")["order_28d"].mean()["coffee"] > 0.8
    with pytest.raises(ValueError, match="lack customers"):
        outcome.model.predict(some, series(NOBODY), T)


def test_an_item_with_few_gaps_is_taken_for_a_usual_one() -> None:
    rows = pd.concat(
        [
            of_products(200),
            pd.DataFrame({"customer_id": ["c0001"] * 2, "product_id": "rare", "day": [8, 7], "amount": 1.0}),
        ]
    )
    model = ConstantWait().fit(hazard.describe(series(rows, "product_id"), None, 0), [])
    usual = dict(zip(model.item_ids.tolist(), np.exp(model.item_gaps), strict=True))
    assert usual["coffee"] < 17 < usual["rare"] < 60 < usual["filters"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_saved_and_loaded_it_says_the_same(kind: type[NextOrder], tmp_path: Path) -> None:
    rows = of_products(120)
    some, daily = series(rows, "product_id"), series(rows.drop_duplicates(["customer_id", "day"]))

    def past(day: int) -> Past:
        then = hazard.describe(some, daily, day)
        return Past(then, waits(some, day, then.own.rows), day)

    model = kind().fit(hazard.describe(some, daily, 0), [past(28), past(56), past(84)])
    model.pace = 1.3
    for name in "ab":
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
    assert (tmp_path / "a/state.npz").read_bytes() == (tmp_path / "b/state.npz").read_bytes()
    again = kind.load(tmp_path / "a")
    assert again.config == model.config
    pd.testing.assert_frame_equal(again.predict(some, daily, T), model.predict(some, daily, T))


def test_a_hazard_needs_purchases_in_the_next_weeks() -> None:
    some = known(planted(60, 300))
    then = hazard.describe(some, None, 28)
    none = Past(then, np.full(len(then.own.rows), np.inf), 28)
    with pytest.raises(ValueError, match="too few purchases"):
        Hazard().fit(then, [none])
    with pytest.raises(ValueError, match="no interval"):
        Hazard().fit(then, [])


def test_the_median_gap_says_when_the_next_is_due() -> None:
    some = series(pd.DataFrame({"customer_id": ["a"] * 4, "day": [70, 50, 30, 12], "amount": 1.0}))
    rows = hazard.describe(some, None, 0)
    model = OwnMedianGap().fit(rows, [])
    assert model.wait(rows).tolist() == [20.0]
    assert training.nearness(model, rows).tolist() == [-8.0]
    due = model.predict(some, None, T)["next_order_at"][0]
    assert timedelta(days=4) < due - T < timedelta(days=12)


def test_orders_are_read_by_customer_product_and_category(tmp_path: Path) -> None:
    lake = lake_with(
        tmp_path,
        {
            "products": [product("p", category="tea"), product("q", category="tea"), product("r")],
            **orders(
                order("1", "a", ago(40, hours=1), ("p", 2, 10), ("r", 1, 1)),
                order("2", "a", ago(10, hours=1), ("q", 1, 30), ("r", 3, 1)),
                order("3", "a", ago(10, hours=2), ("q", 4, 30)),
                order("4", "a", ago(5), ("p", 9, 99), status="cancelled"),
                order("5", "b", ago(8, hours=1), ("p", 1, 70)),
                order("6", "b", ago(2, hours=1), ("p", -1, 70)),
            ),
        },
    )
    with lake.read(T) as reading:
        daily = reading.frame(purchases.read_orders(reading.table, T, SHOP))
        products = reading.frame(purchases.read_product_orders(reading.table, T, SHOP))
        categories = reading.frame(purchases.read_product_orders(reading.table, T, SHOP, "category"))
    assert daily.to_numpy().tolist() == [["a", 10, 153.0], ["a", 40, 21.0], ["b", 8, 70.0]]
    assert products.to_numpy().tolist() == [["a", "r", 10, 3.0], ["a", "r", 40, 1.0]]
    assert categories.to_numpy().tolist() == [["a", "tea", 10, 5.0], ["a", "tea", 40, 2.0]]
    both = series(categories, "category"), series(daily)
    assert hazard.describe(*both, 0).own.gap.tolist() == [30.0]
