"""Publication needs no loss to what is in service: beyond chance, by more than a margin, and never for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from controltower.models import calibration, publication
from controltower.models.base import Outcome
from controltower.models.propensity import Classifier, RfmLogistic, Snapshot, TreesAndLogistic, train
from controltower.models.publication import Beside, Date, Serving, compare, no_loss
from controltower.models.registry import Card
from models.test_registry import card
from support.bought import people, snapshots
from support.shop_tables import T

IDS = np.array([f"c{n:05}" for n in range(4000)], dtype=object)
MODEL = RfmLogistic()
OUTCOME = Outcome("m", TreesAndLogistic(), "trees_and_logistic", True, "It beat the baseline.", "hits", {"hits": 0.5},
                  "rfm_logistic", {"hits": 0.4}, (T, T), {})  # fmt: skip


def mean(said: np.ndarray, rows: np.ndarray) -> float:
    return float(said[rows].mean())


def then(days: float, model: Classifier | None = MODEL) -> Serving[Classifier]:
    made: Card = card(days=-days).model_copy(update={"version": f"v{days:.0f}", "window": (T - timedelta(days=99), T)})
    return Serving(made, model)


def dates(ours: np.ndarray, theirs: np.ndarray, count: int = 3) -> list[Date[Classifier]]:
    return [
        Date(
            T - timedelta(days=7 * k), IDS[: len(ours)], ours, lambda _: theirs, mean, {"hits": 0.1 * k},
            Beside(ours / 2, ours), lambda _: Beside(theirs / 4, theirs),
        )
        for k in range(1, count + 1)
    ]  # fmt: skip


def serves(at: datetime) -> Serving[Classifier]:
    return then((T - at).days + 1)


def hits(seed: int, chance: float, n: int = 4000) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < chance).astype(float)


def test_the_interval_is_that_of_the_difference_and_is_kept_as_often_as_it_says() -> None:
    misses = 0
    for seed in range(200):
        one, other = hits(seed, 0.5, 1000), hits(1000 + seed, 0.5, 1000)
        found = compare([(IDS[:1000], lambda rows, one=one, other=other: (mean(one, rows), mean(other, rows)))])  # type: ignore[misc]
        assert found.first - found.second == pytest.approx(one.mean() - other.mean())
        misses += not found.low <= 0 <= found.high
    assert 2 <= misses <= 20, "five in a hundred"
    spread = np.sqrt(2 * 0.25 / 1000)
    assert (found.high - found.low) / 2 == pytest.approx(2.09 * spread, rel=0.5)


def test_the_same_customers_on_more_dates_are_no_more_customers() -> None:
    one, other = hits(1, 0.5), hits(2, 0.45)
    once, thrice = (compare([(IDS, lambda rows: (mean(one, rows), mean(other, rows)))] * times) for times in (1, 3))
    assert once == pytest.approx(thrice)


def test_what_was_better_beyond_chance_stays_and_the_card_says_why() -> None:
    kept = no_loss(OUTCOME, T, serves, dates(hits(1, 0.4), hits(2, 0.5)))
    assert kept.model is MODEL and not kept.published and kept.window == (T - timedelta(days=99), T)
    assert kept.why.startswith("It beat the baseline. But what was in service was better beyond chance: hits 0.5")
    assert kept.why.endswith("on 3 past dates. So it stays in service.")
    said = kept.details["in_service"]
    assert (said["version"], said["versions"], said["dates"], said["stays"]) == ("v1", ["v15", "v22", "v8"], 3, True)
    assert said["hits"] > said["ours"] and 0 < said["low"] < said["high"]


def test_the_card_has_the_dates_with_what_was_in_service_and_what_came() -> None:
    ours, theirs = hits(1, 0.5), hits(2, 0.4)
    learned = replace(OUTCOME, details={"calibration": {"slope": 0.9}, "drift": {"score_stability": 0.2}})
    one, *_, oldest = dates(ours, theirs)
    younger = lambda at: serves(at) if at > oldest.as_of else None  # noqa: E731
    made = no_loss(learned, T, younger, [one, replace(oldest, beside=None)])
    row, without = made.details["backtest"]
    assert (row["as_of"], row["customers"], row["hits"]) == ((T - timedelta(days=7)).isoformat(), 4000, 0.1)
    assert row["in_service_hits"] == pytest.approx(theirs.mean()) and without["in_service_hits"] is None
    assert (row["expected"], row["came"], row["variance"]) == (ours.sum() / 2, ours.sum(), ours.sum() / 4)
    assert "expected" not in without and made.details["calibration"]["slope"] == 0.9
    table = made.details["calibration"]["table"]
    assert [r["said"] for r in table] == sorted(r["said"] for r in table) and table[-1]["said"] == 0.5
    assert all(r["low"] <= r["came"] <= r["high"] for r in table) and min(r["low"] for r in table) == 0
    assert sum(r["came"] for r in table) / 10 == pytest.approx(ours.mean(), abs=1e-5)
    assert "in_service_hits" not in no_loss(OUTCOME, T, publication.nothing, [one]).details["backtest"][0]
    own = {"calibration": {"table": ["made by the training"]}}
    assert no_loss(replace(OUTCOME, details=own), T, serves, [one]).details["calibration"] == own["calibration"]


def test_the_card_of_what_stays_has_its_own_settings_but_what_is_measured_now() -> None:
    def aged(at: datetime) -> Serving[Classifier]:
        old = {"weights": [1], "calibration": {"slope": 2.0, "table": []}, "drift": {}, "backtest": []}
        return Serving(then((T - at).days + 1).card.model_copy(update={"details": old}), MODEL)

    theirs = hits(2, 0.5)
    learned = replace(OUTCOME, details={"weights": [2], "drift": {"score_stability": 0.2}})
    kept = no_loss(learned, T, aged, dates(hits(1, 0.4), theirs)).details
    assert (kept["weights"], kept["drift"]) == ([1], {"score_stability": 0.2})
    assert kept["calibration"]["slope"] == 2 and kept["calibration"]["table"][-1]["said"] == 0.25
    assert [(row["expected"], row["hits"]) for row in kept["backtest"]] == [
        (theirs.sum() / 4, 0.1 * k) for k in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (hits(1, 0.5), hits(2, 0.4)),  # worse
        (hits(1, 0.5, 60), hits(2, 0.55, 60)),  # better by chance
        (hits(1, 0.5), np.where(np.arange(4000) < 20, 1.0, hits(1, 0.5))),  # surely, but by less than the margin
    ],
)
def test_no_other_stays(ours: np.ndarray, theirs: np.ndarray) -> None:
    made = no_loss(OUTCOME, T, serves, dates(ours, theirs))
    assert made == replace(OUTCOME, details=made.details) and made.details["in_service"]["stays"] is False


def test_where_lower_is_better_the_lower_stays() -> None:
    assert no_loss(OUTCOME, T, serves, dates(hits(1, 0.5), hits(2, 0.4)), lower_is_better=True).model is MODEL
    assert no_loss(OUTCOME, T, serves, dates(hits(1, 0.4), hits(2, 0.5)), lower_is_better=True).published


def refuses(_: Classifier) -> np.ndarray:
    raise ValueError("It needs features that are no longer there: carts_7d.")


@pytest.mark.parametrize(
    ("in_service", "asked", "told"),
    [
        (publication.nothing, None, "Nothing was in service before that it could be compared with."),
        (lambda at: then(1) if at == T else None, None, "On the past dates nothing was in service yet."),
        (lambda at: then(9, None), None, "This version of Control Tower can't read it."),
        (serves, refuses, "It needs features that are no longer there: carts_7d."),
    ],
)
def test_what_cannot_be_judged_is_told_and_replaced(in_service: Any, asked: Any, told: str) -> None:
    past = [replace(d, ask=asked or d.ask) for d in dates(hits(1, 0.4), hits(2, 0.5))]
    made = no_loss(OUTCOME, T, in_service, past)
    assert made == replace(OUTCOME, details=made.details)
    assert made.details["in_service"]["why"].endswith(told)
    assert no_loss(OUTCOME, T, serves, []).details["in_service"]["why"].endswith("no past dates to judge on.")


def test_a_better_model_that_can_no_longer_be_read_is_told_but_replaced() -> None:
    read_then = lambda at: then(1, None) if at == T else then(9)  # noqa: E731
    made = no_loss(OUTCOME, T, read_then, dates(hits(1, 0.4), hits(2, 0.5)))
    assert made.model is OUTCOME.model and "can't stay" in made.why


def test_a_propensity_that_knew_more_stays() -> None:
    """It learned from ten thousand customers; since then only ninety a week are told of."""
    rng = np.random.default_rng(8)
    many = people(rng, 10_000)
    odds = 3 * many["carts_7d"] - 2.5
    knew = TreesAndLogistic().fit(many, (rng.random(len(many)) < 1 / (1 + np.exp(-odds))).astype(int).to_numpy())
    few = [_lacking_carts(s) if n > 2 else s for n, s in enumerate(snapshots(7, informative=True, count=1500))]
    today = few[0].features
    new = train(7, T, few[1:], today)
    assert new.details["in_service"] == {"why": "Nothing was in service before that it could be compared with."}
    kept = train(7, T, few, today, in_service=lambda at: then((T - at).days, knew))
    assert kept.model is knew and "So it stays in service." in kept.why
    said = kept.details["in_service"]
    assert said["average_precision"] > said["ours"] and kept.metrics == train(7, T, few, today).metrics
    now = kept.details["backtest"][0]
    assert now["in_service_average_precision"] > now["average_precision"]
    assert now["expected"] == pytest.approx(knew.predict(few[0].features, few[0].as_of).sum(), abs=0.01)
    gone = [Snapshot(s.as_of, s.features.drop(columns=["carts_7d"]), s.bought) for s in few]
    assert (
        train(7, T, gone, gone[0].features, in_service=lambda at: then(9, knew))
        .details["in_service"]["why"]
        .endswith("no longer there: carts_7d.")
    )


def _lacking_carts(one: Snapshot) -> Snapshot:
    """Data in which the carts weren't counted."""
    return Snapshot(one.as_of, one.features.assign(carts_7d=0.0), one.bought)


def test_halves_and_groups_are_the_customers_own() -> None:
    first, again = publication.half(IDS), publication.half(IDS[::-1])[::-1]
    assert (first == again).all() and 0.45 < first.mean() < 0.55
    assert (publication.half(pd.Index(IDS).to_numpy(dtype=np.str_)) == first).all(), "in whatever form ids come"


def test_untried_outcomes_name_what_serves() -> None:
    made = Outcome.untried("m", RfmLogistic(), TreesAndLogistic, "Too few.", "hits", {"rows": 1})
    assert (made.challenger, made.baseline, made.published) == ("trees_and_logistic", "rfm_logistic", False)


@pytest.mark.parametrize(("n", "chance", "often"), [(100, 0.02, 1), (1000, 0.01, 1), (200, 0.3, 1), (300, 0.05, 3)])
def test_the_interval_of_what_came_holds_the_truth(n: int, chance: float, often: int) -> None:
    """Of rare outcomes, too, and of customers who are judged `often`, always with the same outcome."""
    rng, held = np.random.default_rng(1), 0
    customers = np.tile(np.arange(n), often)
    for _ in range(400):
        came = np.tile((rng.random(n) < chance).astype(float), often)
        (row,) = calibration.table(np.full(len(came), chance), came, customers, bins=1)
        assert 0 <= row["low"] < row["high"] <= 1
        held += row["low"] <= chance <= row["high"]
    assert 0.92 <= held / 400 <= 0.99
