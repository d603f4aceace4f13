"""Customer value: the published fits come out, what is planted is found, and few data give a plain sentence."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from controltower.models import publication
from controltower.models.publication import Serving
from controltower.models.value import purchasing, spending, summaries, training
from controltower.models.value.model import COLUMNS, KINDS, Average, Lifetime, NaiveRate, Value
from controltower.models.value.training import Snapshot
from models.test_registry import card
from scipy.optimize import check_grad
from scipy.special import hyp2f1
from support.shop_tables import SHOP, T, ago, lake_with, order, orders
from threadpoolctl import threadpool_limits

CDNOW = pd.read_csv(Path(__file__).parent / "data" / "cdnow.csv", comment="#")
NOTHING = pd.DataFrame()


def cdnow() -> purchasing.Purchasing:
    return purchasing.fit(CDNOW["x"], CDNOW["t_x"], CDNOW["T"], CDNOW["customers"])


def test_the_published_purchasing_parameters() -> None:
    """Fader, Hardie and Lee (2005), table 2, weeks."""
    assert CDNOW["customers"].sum() == 2357
    assert cdnow() == pytest.approx((0.243, 4.414, 0.793, 2.426), abs=0.0005)


def test_the_published_spending_parameters() -> None:
    """Fader and Hardie (2013): p 6.25, q 3.74, gamma 15.44."""
    again = CDNOW[CDNOW["x"] > 0]
    assert spending.fit(again["x"], again["zbar"], again["customers"]) == pytest.approx((6.25, 3.74, 15.44), abs=0.01)


def test_the_published_customer() -> None:
    """Customer 0001 (x 2, t_x 30.43, T 38.86) is expected to buy 1.226 times in the next 39 weeks."""
    made = purchasing.purchases_within(cdnow(), np.array([2]), np.array([30.43]), np.array([38.86]), 39)
    assert made.mean == pytest.approx([1.226], abs=0.0005)


def test_summed_chances_are_the_papers_formula() -> None:
    p, h = cdnow(), 20.0
    rows = CDNOW[CDNOW["x"] > 0]
    x, tx, t = (rows[c].to_numpy(float) for c in ("x", "t_x", "T"))
    z = h / (p.alpha + t + h)
    known = (p.a + p.b + x - 1) / (p.a - 1)
    known *= 1 - (1 - z) ** (p.r + x) * hyp2f1(p.r + x, p.b + x, p.a + p.b + x - 1, z)
    known /= 1 + p.a / (p.b + x - 1) * ((p.alpha + t) / (p.alpha + tx)) ** (p.r + x)
    assert purchasing.purchases_within(p, x, tx, t, h).mean == pytest.approx(known, rel=1e-4)


def test_moments_are_those_of_simulated_customers() -> None:
    p, s, rng, n = cdnow(), spending.Spending(6.25, 3.74, 15.44), np.random.default_rng(1), 300_000
    x, tx, t = (np.array([v]) for v in (2.0, 30.43, 38.86))
    there = rng.random(n) < purchasing.alive(p, x, tx, t)
    rate, leaves = rng.gamma(p.r + 2, 1 / (p.alpha + t), n), rng.beta(p.a, p.b + 2, n)
    bought = np.minimum(rng.poisson(rate * 39), rng.geometric(leaves)) * there
    made = purchasing.purchases_within(p, x, tx, t, 39)
    drawn = bought.mean(), (bought**2).mean(), (bought > 0).mean()
    assert [v[0] for v in made] == pytest.approx(drawn, rel=0.02)
    scale = rng.gamma(s.q + s.p * 2, 1 / (s.gamma + 50), n)
    one, two = rng.gamma(s.p, 1 / scale), rng.gamma(s.p, 1 / scale)
    told = spending.amounts(s, np.array([2]), np.array([50.0]))
    assert [v[0] for v in told] == pytest.approx((one.mean(), (one**2).mean(), (one * two).mean()), rel=0.02)


def test_the_slopes_are_right() -> None:
    x, tx, t = (CDNOW[c].to_numpy(float)[::9] for c in ("x", "t_x", "T"))

    def value(p: np.ndarray) -> float:
        return float(purchasing._log_likelihood(p, x, tx, t)[0].sum())

    def slope(p: np.ndarray) -> np.ndarray:
        return purchasing._log_likelihood(p, x, tx, t)[1].sum(axis=0)

    assert check_grad(value, slope, np.array([0.3, 5.0, 0.7, 2.0])) < 1e-2


def test_a_fit_survives_extremes() -> None:
    """Thousands of purchases, ages of a decade, customers of today."""
    x, tx, t = np.array([0, 0, 5000, 3, 1]), np.array([0, 0, 3600.0, 10, 0.0]), np.array([0, 3650.0, 3650, 3000, 0])
    p = purchasing.fit(x, tx, t, penalty=0.001)
    made = purchasing.purchases_within(p, x, tx, t, 1095)
    assert all(np.isfinite(v) and v > 0 for v in p) and all(np.isfinite(v).all() for v in made)
    assert (purchasing.alive(p, x, tx, t)[[0, 1]] == 1).all()
    with pytest.raises(ValueError, match="nobody bought again"):
        purchasing.fit(np.zeros(3), np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="above 0"):
        spending.fit(np.ones(2), np.array([0.0, 5.0]))


def bought(customers: int, days: int, seed: int = 5, season: float = 1.0) -> pd.DataFrame:
    """customer_id, day, amount: purchases at rates and amounts of the customers' own, nobody leaves.

    In every 364 days the last 60 and the 35 after them have `season` times as many.
    """
    rng = np.random.default_rng(seed)
    rate, mean = rng.gamma(0.8, 1 / 50, customers), rng.gamma(4, 10, customers)
    day = np.arange(days)
    busy = np.where((day % 364 >= 304) | ((day % 364 < 35) & (day >= 364)), season, 1.0)
    start = rng.integers(0, days // 2, customers)
    hit = (rng.random((customers, days)) < np.minimum(rate[:, None] * busy, 1)) & (day > start[:, None])
    hit[np.arange(customers), start] = True
    who, when = np.nonzero(hit)
    ids = np.array([f"c{n:05}" for n in range(customers)])
    return pd.DataFrame({"customer_id": ids[who], "day": when, "amount": mean[who] * rng.gamma(2, 0.5, len(who))})


def summary(rows: pd.DataFrame, day: int) -> pd.DataFrame:
    known = rows[rows["day"] < day]
    found = known.groupby("customer_id").agg(
        purchases=("day", "size"), first=("day", "min"), last=("day", "max"), amount=("amount", "sum")
    )
    return found.assign(first=day - 1 - found["first"], last=day - 1 - found["last"]).reset_index()


def window(rows: pd.DataFrame, day: int, days: int = 30) -> pd.DataFrame:
    inside = rows[(rows["day"] >= day) & (rows["day"] < day + days)]
    return inside.groupby("customer_id", as_index=False).agg(purchases=("day", "size"), amount=("amount", "sum"))


def spent(rows: pd.DataFrame, day: int, known: pd.DataFrame, days: int = 30) -> np.ndarray:
    found = window(rows, day, days).set_index("customer_id")["amount"].reindex(known["customer_id"])
    return found.fillna(0.0).to_numpy()


def features(known: pd.DataFrame) -> pd.DataFrame:
    frame = known.set_index("customer_id")
    return pd.DataFrame({"days_since_last_order": frame["last"], "revenue_total": frame["amount"]}).astype(float)


def trained(
    rows: pd.DataFrame, day: int, in_service: publication.InService[Value] = publication.nothing
) -> training.Outcome:
    first = T - timedelta(days=day)

    def snapshot(at: datetime, told: bool) -> Snapshot:
        then = (at - first).days
        known = summary(rows, then)
        return training.label(at, known, window(rows, then), features(known) if told else NOTHING)

    snapshots = [snapshot(at, True) for at in training.snapshot_times(T, first)]
    seasons = [snapshot(at, False) for at in training.season_times(T, first)]
    with threadpool_limits(limits=1):
        return training.train(T, summary(rows, day), snapshots, seasons, in_service)


def says(model: object, known: pd.DataFrame) -> pd.DataFrame:
    assert isinstance(model, Value)
    return model.predict(known["customer_id"].to_numpy(), known, features(known))


def test_planted_value_is_found_and_beats_the_naive_rate() -> None:
    rows = bought(1500, 600)
    outcome = trained(rows, 300)
    assert outcome.published and isinstance(outcome.model, Lifetime), outcome.why
    assert outcome.name == "clv" and outcome.why.startswith("It beat the naive rate: decile error 0.")
    assert outcome.metrics["decile_error"] < outcome.baseline_metrics["decile_error"]
    assert len(outcome.details["backtest"]) >= 3
    known = summary(rows, 300)
    p, after = says(outcome.model, known), spent(rows, 300, known)
    naive = training.measures(says(NaiveRate().fit(known), known), after)
    found = training.measures(p, after)
    assert found["decile_error"] < naive["decile_error"] and abs(found["bias"] - 1) < 0.15
    order = p["clv_30d"].rank().corr(pd.Series(after).rank())
    assert order > 0.3


def test_what_was_in_service_is_judged_and_stays_only_if_it_was_better() -> None:
    rows = bought(1500, 600)
    naive = Serving[Value](card("clv", -99, "naive_rate"), NaiveRate())
    said = trained(rows, 300, lambda _: naive).details["in_service"]
    assert (said["dates"], said["stays"]) == (5, False) and said["high"] < 0, "the naive rate errs more"
    assert said["decile_error"] == pytest.approx(trained(rows, 300).baseline_metrics["decile_error"], abs=1e-5)
    gone = Lifetime().fit(summary(rows, 300))
    gone.columns, gone.share = np.array(["visits_of_the_moon"]), 0.5
    outcome = trained(rows, 300, lambda _: Serving(naive.card, gone))
    assert outcome.published and outcome.details["in_service"]["why"].endswith("no longer there: visits_of_the_moon.")


def test_intervals_hold_what_they_promise() -> None:
    rows = bought(2500, 800, seed=9)
    known = summary(rows, 350)
    p = says(Lifetime().fit(known), known)
    after = spent(rows, 350, known, 365)
    assert (after > p["clv_1y_high"]).mean() == pytest.approx(0.1, abs=0.03)
    often = (p["clv_1y_low"] > 0).to_numpy()  # of others 0 is inside
    assert often.sum() > 500
    assert 0.02 < (after < p["clv_1y_low"])[often].mean() < 0.13, "rather too low: a gamma has more near 0"
    assert p["clv_1y"].sum() == pytest.approx(after.sum(), rel=0.1)


def test_the_season_of_a_year_ago_is_expected_again() -> None:
    rows = bought(1200, 760, seed=3, season=2.5)
    outcome = trained(rows, 364 + 304)  # the busy weeks begin
    model = outcome.model
    assert isinstance(model, Lifetime) and outcome.details["season_from"] == "a year ago", outcome.why
    assert 1.3 < model.season < 3.0
    known = summary(rows, 364 + 304)
    after = spent(rows, 364 + 304, known)
    expected = says(model, known)
    model.season = 1.0
    plain = says(model, known)
    assert abs(np.log(expected["clv_30d"].sum() / after.sum())) < abs(np.log(plain["clv_30d"].sum() / after.sum()))
    more = expected["clv_30d"] - plain["clv_30d"]
    assert (expected["clv_3y"] - plain["clv_3y"]).to_numpy() == pytest.approx(more.to_numpy()), "of 30 days, not more"


def test_longer_is_more_and_later_is_less() -> None:
    known = summary(bought(400, 300), 300)
    model = Lifetime().fit(known)
    model.season = 1.7
    p = says(model, known)
    assert ((p["clv_30d"] <= p["clv_1y"]) & (p["clv_1y"] <= p["clv_3y"])).all()
    for horizon in ("30d", "1y", "3y"):
        assert (p[f"clv_{horizon}_low"] <= p[f"clv_{horizon}_high"]).all() and (p[f"clv_{horizon}_low"] >= 0).all()
    today = says(Lifetime(Lifetime.Config(discount=0.1)).fit(known), known)
    share = today["clv_3y"].sum() / says(Lifetime().fit(known), known)["clv_3y"].sum()
    assert 1.1**-2 < share < 1.1**-1
    assert today["clv_30d"].sum() == pytest.approx(says(Lifetime().fit(known), known)["clv_30d"].sum())


def test_only_what_was_over_is_learned_from() -> None:
    rows = bought(600, 330)
    first = T - timedelta(days=300)
    known = summary(rows, 290)
    still_open = Snapshot(T - timedelta(days=10), known, np.full(len(known), 1e6), features(known))
    made = []
    for at in training.snapshot_times(T, first):
        then = summary(rows, (at - first).days)
        made.append(training.label(at, then, window(rows, (at - first).days), features(then)))
    one, two = (training.train(T, summary(rows, 300), some, []) for some in (made, [still_open, *made]))
    assert one.metrics == two.metrics and one.details == two.details


def test_dates_are_wanted_only_where_there_are_facts() -> None:
    times = training.snapshot_times(T, T - timedelta(days=100))
    assert times == [T - timedelta(days=35), T - timedelta(days=63)]
    assert training.snapshot_times(T, T) == [] == training.season_times(T, T - timedelta(days=400))
    assert training.season_times(T, T - timedelta(days=460)) == [T - timedelta(days=364)]
    assert len(training.season_times(T, T - timedelta(days=900))) == 1 + training.JUDGED


@pytest.mark.parametrize(
    "again, why",
    [(0, "None of 50 customers has bought twice"), (5, "Only 5 of 50 customers bought twice (20 of 50 are needed)")],
)
def test_few_purchases_give_everyone_the_average(again: int, why: str) -> None:
    known = pd.DataFrame(
        {"customer_id": [f"c{n}" for n in range(50)], "purchases": 1 + (np.arange(50) < again), "first": 60, "last": 20,
         "amount": 40.0}
    )  # fmt: skip
    outcome = training.train(T, known, [], [])
    assert isinstance(outcome.model, Average) and not outcome.published and outcome.why.startswith(why)
    p = says(outcome.model, known)
    assert (p["clv_30d"] > 0).all() and p["clv_30d"].nunique() == 1
    assert 0 < p["clv_30d"][0] < 40


def test_a_shop_without_orders() -> None:
    nobody = pd.DataFrame({"customer_id": [], "purchases": [], "first": [], "last": [], "amount": []})
    outcome = training.train(T, nobody, [], [])
    assert outcome.why == "Nobody has bought yet, so no value can be told."
    assert isinstance(outcome.model, Average)
    p = outcome.model.predict(np.array(["a", "b"]), nobody, NOTHING)
    assert p["customer_id"].tolist() == ["a", "b"] and p[list(COLUMNS)].isna().all().all()


def test_who_never_bought_has_no_value_and_who_gave_all_back_hardly_one() -> None:
    known = summary(bought(300, 200), 200)
    known.loc[0, "amount"] = -20.0
    model = Lifetime().fit(known)
    p = model.predict(np.array(["stranger", known["customer_id"][0], known["customer_id"][1]]), known, NOTHING)
    assert np.isnan(p["clv_30d"][0]) and p["clv_30d"][1:].gt(0).all()
    assert NaiveRate().fit(known).predict(known["customer_id"][:1].to_numpy(), known, NOTHING)["clv_1y"][0] == 0


def test_a_date_that_was_not_tried_leaves_the_naive_rate() -> None:
    outcome = training.train(T, summary(bought(300, 40), 40), [], [])
    assert isinstance(outcome.model, NaiveRate) and "wasn't tried" in outcome.why and outcome.metrics == {}


def test_measures_by_hand() -> None:
    p = pd.DataFrame({"clv_30d": np.arange(20.0), "clv_30d_low": 0.0, "clv_30d_high": 10.0})
    found = training.measures(p, np.arange(20.0)[::-1])
    assert found["bias"] == 1.0 and found["above"] == 0.45 and found["covered"] == 0.55
    assert found["decile_error"] == pytest.approx(sum(abs(4 * k + 1 - (37 - 4 * k)) for k in range(10)) / 190, abs=1e-5)
    assert found["top_tenth"] == pytest.approx(1 / 190, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_saved_and_loaded_it_says_the_same(kind: type[Value], tmp_path: Path) -> None:
    known = summary(bought(400, 300), 300)
    model = kind().fit(known)
    if isinstance(model, Lifetime):
        model.fit_trees(features(known), model.plain(known), known["amount"].to_numpy() / 10)
        model.share, model.season = 0.5, 1.2
        assert model.trees is not None and set(model.columns) == {"days_since_last_order", "revenue_total"}
    for name in "ab":
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
    assert (tmp_path / "a/state.npz").read_bytes() == (tmp_path / "b/state.npz").read_bytes()
    again = kind.load(tmp_path / "a")
    assert again.config == model.config
    pd.testing.assert_frame_equal(says(again, known), says(model, known))


def test_summaries_are_net_of_what_was_cancelled_and_given_back(tmp_path: Path) -> None:
    lake = lake_with(
        tmp_path,
        {
            **orders(
                order("1", "a", ago(40, hours=1), ("p", 2, 10)),
                order("2", "a", ago(10, hours=1), ("p", 1, 30), ("q", 1, 5)),
                order("3", "a", ago(3, hours=1), ("p", -1, 30)),  # given back later
                order("4", "a", ago(5), ("p", 9, 99), status="cancelled"),
                order("5", "b", ago(8, hours=2), ("p", 1, 70)),
                order("6", "b", ago(8, hours=1), ("p", -1, 70)),  # the same day: never a purchase
                order("7", "c", ago(20, hours=1), ("p", 1, 50), status="returned"),
                order("8", "d", ago(1, hours=1), ("p", 1, 7)),
                order("9", "d", ago(1, hours=2), ("p", 1, 8)),
            )
        },
    )
    with lake.read(T) as reading:
        known = reading.frame(summaries.read_summaries(reading.table, T, SHOP))
        later = reading.frame(summaries.read_window(reading.table, ago(30), 28, T, SHOP))
        for start, days in ((ago(20), 30), (ago(20, hours=1), 10)):
            with pytest.raises(ValueError, match="whole days"):
                summaries.read_window(reading.table, start, days, T, SHOP)
    assert known.to_numpy().tolist() == [["a", 2, 40, 10, 25.0], ["d", 1, 1, 1, 15.0]]
    assert later.set_index("customer_id")["amount"].to_dict() == {"a": 5.0, "b": 0.0, "c": 0.0}
    with lake.read(ago(30)) as reading:
        then = reading.frame(summaries.read_summaries(reading.table, ago(30), SHOP))
    assert then.to_numpy().tolist() == [["a", 1, 10, 10, 20.0]]
