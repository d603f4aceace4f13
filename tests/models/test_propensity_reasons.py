"""Reasons add up to what the trees say; propensities for a set of products beat the overall one."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pandas as pd
from controltower.models import propensity
from controltower.models.propensity import RfmLogistic, Snapshot, TreesAndLogistic, judged_dates, train
from controltower.models.propensity.forest import Forest
from controltower.models.propensity.habits import TOLD_AS
from controltower.profiles.features import NAMES
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score
from support.bought import people, snapshots
from support.shop_tables import T


def test_the_forest_says_what_scikit_learn_says_and_credits_add_up() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 6))
    x[rng.random(x.shape) < 0.2] = np.nan
    y = (np.nan_to_num(x[:, 0]) + np.isnan(x[:, 1]) + rng.normal(size=3000) > 0.5).astype(int)
    trees = HistGradientBoostingClassifier(max_iter=40, early_stopping=False).fit(x, y)
    forest = Forest.grown(trees)
    assert np.allclose(forest.score(x), trees.decision_function(x))
    credits = forest.credits(x)
    assert np.allclose(forest.start[0] + credits.sum(axis=1), forest.score(x))
    assert np.abs(credits[:, 0]).mean() > 5 * np.abs(credits[:, 5]).mean(), "what decides gets the credit"


def test_reasons_name_documented_features_with_their_values() -> None:
    assert set(TOLD_AS.values()) <= set(NAMES)
    made = snapshots(7, informative=True)
    model = train(7, T, made, made[0].features).model
    assert isinstance(model, TreesAndLogistic)
    features = made[0].features
    told = [json.loads(text) for text in propensity.reasons(model, features).to_pylist()]
    carts = features["carts_7d"].to_numpy() == 1
    for reasons, cart in zip(told, carts, strict=True):
        assert len(reasons) <= 3 and {name for name, *_ in reasons} <= set(NAMES)
        assert sorted((abs(effect) for *_, effect in reasons), reverse=True) == [abs(e) for *_, e in reasons]
        by_name = {name: (value, effect) for name, value, effect in reasons}
        assert not cart or (by_name["carts_7d"][0] == 1 and by_name["carts_7d"][1] > 0.5)
    logistic = RfmLogistic().fit(features, made[0].bought)
    assert {n for t in propensity.reasons(logistic, features).to_pylist() for n, *_ in json.loads(t)} <= {
        *RfmLogistic.RFM
    }
    nothing = propensity.BaseRate().fit(features, made[0].bought)
    assert set(propensity.reasons(nothing, features).to_pylist()) == {"[]"}
    assert propensity.reasons(model, features.iloc[:0]).to_pylist() == []


def test_the_card_holds_a_backtest_calibration_and_drift() -> None:
    outcome = train(7, T, snapshots(7, informative=True), snapshots(7, informative=True)[0].features)
    dates = outcome.details["backtest"]
    assert [row["as_of"] for row in dates] == [d.isoformat() for d in judged_dates(T, 7)]
    assert all(row["average_precision"] > row["baseline_average_precision"] for row in dates)
    assert all(row["calibration_error"] < 0.1 for row in dates[:-1]) and "calibration_error" not in dates[-1]
    table = outcome.details["calibration"]["table"]
    assert len(table) == 10 and table[0]["said"] < table[-1]["said"]
    assert outcome.details["drift"]["score_stability"] < 0.1
    json.dumps(outcome.details)


def test_for_products_ranks_their_buyers_better_than_the_overall_propensity() -> None:
    """Half of the customers like the set: they took it before, and take it again."""
    rng = np.random.default_rng(4)
    fans = rng.random(600) < 0.5
    frames, made, orders = {}, [], []
    for week in range(10):
        date = T - timedelta(days=7 * (week - 1))  # the newest begins at T + 7 days: what is to be foretold
        features = people(rng, 600)
        bought = rng.random(600) < 1 / (1 + np.exp(2.5 - 3 * features["carts_7d"].to_numpy()))
        inside = rng.random(600) < np.where(fans, 0.7, 0.05)
        frames[date] = features
        made.append(Snapshot(date, features, bought.astype(int)))
        second = int(date.timestamp()) + 3 * 86_400
        orders += [(f"c{i}", second, bool(inside[i])) for i in np.flatnonzero(bought)]
    lines = pd.DataFrame(orders, columns=["customer_id", "second", "inside"])
    newest = T + timedelta(days=7)
    model = train(7, newest, made[1:], frames[newest]).model
    assert isinstance(model, propensity.Classifier)
    known = lines[lines["second"] <= newest.timestamp()]
    found = propensity.for_products(model, 7, newest, frames, known)
    p = found.p
    assert found.learned and found.buyers > 200
    overall = model.predict(frames[newest], newest)
    took = lines[(lines["second"] > newest.timestamp()) & lines["inside"]]["customer_id"]
    truth = p.index.isin(took)
    assert average_precision_score(truth, p.to_numpy()) > 1.2 * average_precision_score(truth, overall)
    assert abs(p.mean() - truth.mean()) < 0.04 and (p.to_numpy() <= overall + 1e-12).all()
    few, learned, _ = propensity.for_products(model, 7, newest, {newest: frames[newest]}, known)
    assert not learned
    assert (few.to_numpy() <= overall).all() and average_precision_score(
        truth, few.to_numpy()
    ) > average_precision_score(truth, overall)
    none = propensity.for_products(model, 7, newest, frames, known.assign(inside=False)).p
    assert (none == 0).all()
