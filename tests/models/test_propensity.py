"""Propensity: better than recency, frequency and money where there is more to know; sensible where there is little."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from controltower.jobs.predictions.propensity import HORIZONS
from controltower.models import propensity
from controltower.models.propensity import (
    BaseRate,
    RfmLogistic,
    Snapshot,
    TreesAndLogistic,
    has_facts,
    judging,
    label,
    train,
)
from controltower.models.publication import half
from controltower.profiles.features import NAMES
from support.bought import people, snapshots
from support.shop_tables import T

EVERY = propensity.KINDS


def test_trees_are_published_where_they_know_more() -> None:
    made = snapshots(7, informative=True)
    outcome = train(7, T, made, made[0].features)
    assert outcome.published and isinstance(outcome.model, TreesAndLogistic)
    assert outcome.metrics["average_precision"] > outcome.baseline_metrics["average_precision"]
    assert "carts_7d" in outcome.model.columns and "views_7d" not in outcome.model.columns
    p = outcome.model.predict(made[0].features)
    assert p.mean() == pytest.approx(made[0].bought.mean(), abs=0.03), "calibrated"


def test_features_that_are_the_same_for_everyone_change_nothing() -> None:
    """A shop that never sent a message: its counts are 0, its ages and rates unknown."""
    made = snapshots(7, informative=True)
    told = {name: 0.0 if name.endswith("d") else np.nan for name in NAMES if made[0].features[name].isna().all()}
    assert {"messages_30d", "click_rate"} <= set(told)
    silent = [Snapshot(s.as_of, s.features.assign(**told), s.bought) for s in made]
    known = [Snapshot(s.as_of, s.features.drop(columns=list(told)), s.bought) for s in made]
    here, before = (train(7, T, s, s[0].features) for s in (silent, known))
    assert (here.metrics, here.baseline_metrics) == (before.metrics, before.baseline_metrics)
    assert (here.model.predict(silent[0].features) == before.model.predict(known[0].features)).all()  # type: ignore[attr-defined]


def test_the_logistic_serves_where_trees_know_no_more() -> None:
    made = snapshots(7, informative=False, count=150)
    outcome = train(7, T, made, made[0].features)
    assert not outcome.published and isinstance(outcome.model, RfmLogistic)
    assert "RFM logistic serves" in outcome.why


def test_only_closed_label_windows_are_learned_from() -> None:
    made = snapshots(28, informative=True)
    still_open = Snapshot(T - timedelta(days=27), made[0].features, np.ones(600, dtype=int))
    with_open, without = (train(28, T, s, made[0].features) for s in ([*made, still_open], made))
    assert with_open.metrics == without.metrics and with_open.rows == without.rows
    assert with_open.window is not None and with_open.window[1] <= T


@pytest.mark.parametrize("horizon", HORIZONS)
def test_snapshots_are_wanted_only_after_facts_and_before_the_window(horizon: int) -> None:
    times = propensity.snapshot_times(T, horizon, T - timedelta(days=90))
    assert times and max(times) == T - timedelta(days=horizon)
    assert min(times) >= T - timedelta(days=76)
    assert propensity.snapshot_times(T, horizon, T) == []


def test_too_few_purchases_give_everyone_the_share() -> None:
    made = [Snapshot(s.as_of, s.features, (np.arange(600) < 1).astype(int)) for s in snapshots(7, True)]
    outcome = train(7, T, made, made[0].features)
    assert isinstance(outcome.model, BaseRate) and not outcome.published
    assert outcome.why.startswith("10 of 6000 rows in closed label windows bought: too few of one kind")
    assert outcome.model.predict(made[0].features) == pytest.approx(1 / 600, rel=1e-3)


def test_a_shop_that_opened_yesterday() -> None:
    today = people(np.random.default_rng(1), 50)
    outcome = train(28, T, [], today)
    assert isinstance(outcome.model, BaseRate) and outcome.window is None
    assert 0 < outcome.model.predict(today)[0] < 1
    assert len(outcome.model.predict(today.iloc[:0])) == 0
    nobody = train(28, T, [], today.iloc[:0])
    assert nobody.model.predict(today.iloc[:0]).tolist() == []


def test_where_no_feature_differs_everyone_gets_the_share() -> None:
    same = [Snapshot(s.as_of, s.features.assign(**dict.fromkeys(NAMES, 1.0)), s.bought) for s in snapshots(7, True)]
    outcome = train(7, T, same, same[0].features)
    assert isinstance(outcome.model, BaseRate) and "no feature differs between them" in outcome.why
    assert outcome.model.predict(same[0].features)[0] == pytest.approx(np.mean([s.bought.mean() for s in same]))
    with pytest.raises(ValueError, match="no feature differs"):
        TreesAndLogistic().fit(same[0].features, same[0].bought)
    assert 0 < RfmLogistic().fit(same[0].features, same[0].bought).predict(same[0].features)[0] < 1


def test_the_blend_is_judged_on_nobody_by_whom_it_was_chosen() -> None:
    made = snapshots(7, informative=True)
    splits = judging.backtest(made, propensity.judged_dates(T, 7), 7)
    halves = [half(s.customers) for s in splits]
    for chooses in (halves, [~h for h in halves]):
        weight = judging.best_weight(splits, chooses)
        for split, h, z in zip(splits, chooses, judging.blended(splits), strict=True):
            assert (z[~h] == split.ours(weight)[~h]).all() and len(splits) == 3


def test_a_customer_of_whom_the_baseline_is_certain_is_judged_too() -> None:
    made = snapshots(7, informative=False)
    for one in made:
        one.features.iloc[0, one.features.columns.get_loc("revenue_total")] = 1e300
    splits = judging.backtest(made, propensity.judged_dates(T, 7), 7)
    assert splits and all(np.isfinite(s.baseline).all() for s in splits)


def test_one_closed_snapshot_is_no_time_split() -> None:
    made = snapshots(7, informative=True, weeks=1)
    outcome = train(7, T, made, made[0].features)
    assert isinstance(outcome.model, RfmLogistic) and not outcome.published
    assert "time split" in outcome.why


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.name)
def test_saved_and_loaded_it_says_the_same(kind: type[propensity.Classifier], tmp_path: Path) -> None:
    one = snapshots(7, informative=True)[0]
    model = kind().fit(one.features, one.bought)
    model.calibration = (0.9, 0.1)
    for name in "ab":
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
    assert (tmp_path / "a/state.npz").read_bytes() == (tmp_path / "b/state.npz").read_bytes()
    again = kind.load(tmp_path / "a")
    shuffled = one.features[one.features.columns[::-1]]
    assert (again.predict(shuffled) == model.predict(one.features)).all()
    assert again.config == model.config


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.name)
def test_customers_of_whom_nothing_is_known(kind: type[propensity.Classifier]) -> None:
    """They are not learned from, and get the lowest probability."""
    one = snapshots(7, informative=True)[0]
    unknown = pd.DataFrame(np.nan, index=["ghost"], columns=one.features.columns)
    unknown[["orders_total", "revenue_total"]] = 0.0
    both = pd.concat([one.features, unknown])
    assert not has_facts(both)[-1]
    made = label(one.as_of, 7, both, pd.DataFrame({"customer_id": ["ghost"], "second": [0]}))
    assert "ghost" not in made.features.index
    p = kind().fit(one.features, one.bought).predict(both)
    assert p[-1] == p.min() and ((p >= 0) & (p <= 1)).all()


def test_labels_are_purchases_after_the_snapshot_and_within_the_horizon() -> None:
    features = people(np.random.default_rng(1), 4)
    at: datetime = T
    purchases = pd.DataFrame(
        {
            "customer_id": ["c0", "c1", "c2", "c3", "c3"],
            "second": [int((at + timedelta(days=d)).timestamp()) for d in (0, 0.01, 7, 7.01, -1)],
        }
    )
    assert label(at, 7, features, purchases).bought.tolist() == [0, 1, 1, 0]


def test_what_only_tells_the_day_is_not_learned_from() -> None:
    """In a week with a holiday everybody buys: a model that learns the week would promise it to all, or to nobody."""
    known = snapshots(28, informative=True)[0]
    day = known.features.assign(**dict.fromkeys(propensity.OF_THE_DAY, 1.0))
    day.iloc[::2, -len(propensity.OF_THE_DAY) :] = 9.0
    assert set(NAMES) >= propensity.OF_THE_DAY
    learned = TreesAndLogistic().fit(day, known.bought)
    assert not propensity.OF_THE_DAY & set(learned.columns) and len(learned.columns)
    assert (learned.predict(day) == TreesAndLogistic().fit(known.features, known.bought).predict(known.features)).all()
