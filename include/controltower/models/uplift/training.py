"""Training uplift: learned and judged in turns, and "treat all" where ranking gains nothing for sure.

The customers are drawn into PARTS. Part after part is ranked by models of the parts before it, so that no part is both
learned from and judged at a time, and the parts' errors are those of a martingale: they add up (Wager 2024, "Sequential
validation of treatment heterogeneity"). With ordinary cross-validation every pair of customers counts twice, and an
interval of 95 % would leave out 0 two to three times as often as it should. Which learner ranks a part is said by the
parts before it, too. All parts are learned from in the end, by the learner that did best over all.

The card also has past dates: the newest campaigns, ranked by that learner, taught by those whose outcomes were known
when they began. What was in service then is asked, too, and stays where it was better (publication.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from controltower.models import calibration
from controltower.models.base import Outcome
from controltower.models.publication import Beside, Date, InService, Serving, no_loss, nothing
from controltower.models.uplift import qini
from controltower.models.uplift.learners import (
    Base,
    DoublyRobust,
    Learner,
    TLearner,
    TreatAll,
    TreatNone,
    Uplift,
    XLearner,
    cross_fitted,
    outcomes,
    parts,
    told,
)
from controltower.models.uplift.qini import Estimate
from controltower.models.uplift.trials import DAYS, Experiment
from controltower.profiles.portable import DAY

NAME = "uplift"
LEARNERS: tuple[type[Learner], ...] = (DoublyRobust, XLearner, TLearner)
PARTS = 5
FEWEST = 200  # customers in the smaller group
FEWEST_OUTCOMES = 40  # rows with an outcome other than the most usual one
MOST = 200_000  # rows; of more, a drawn sample
DATES = 3  # past ones on which campaigns began, at most, that are judged
FEWEST_JUDGED = 50  # customers in the smaller group of a date
MOST_BEFORE = 50_000  # rows of before a date; of more, a drawn sample
ALIKE = 5  # groups of customers ranked alike, by which it is told how far off a model is
TARGET, TREAT_ALL, TREAT_NONE = "target", "treat_all", "treat_none"


def sampled(rows: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """At most so many of the rows of `trials.prepared`, drawn by a fixed seed."""
    return rows if len(rows) <= most else rows.sample(most, random_state=7).sort_index()


def train(
    experiment: Experiment,
    as_of: datetime,
    outcome: str = "converted",
    cost: float = 0.0,
    learners: Sequence[type[Learner]] = LEARNERS,
    base: Base = "trees",
    today: pd.DataFrame | None = None,
    in_service: InService[Uplift] = nothing,
    backtest: bool = True,
) -> Outcome:
    """The uplift model of an experiment. learners: those tried, the first ranks as long as none is better; base: of
    the expectations; today: features as of as_of, for drift; backtest: judge on past dates, too, for the card.

    cost: of one treatment, in units of the outcome (0 for visits and orders; a message's cost for what is spent).
    `details["recommend"]` is "target" (rank by uplift), "treat_all" or "treat_none"; `details["curve"]` the Qini curve.
    """
    groups = np.bincount(experiment.treated, minlength=2)
    common: dict[str, Any] = {
        "name": NAME, "metric": "qini", "baseline": TreatAll.name, "window": None,
        "rows": {"rows": len(experiment), "treated": int(groups[1]), "controls": int(groups[0])},
    }  # fmt: skip
    if why := lacking(experiment):
        return Outcome(
            model=_untaught(experiment), challenger=DoublyRobust.name, published=False, why=why, metrics={},
            baseline_metrics={}, **common,
            details={"recommend": TREAT_ALL, "outcome": outcome, "as_of": as_of.isoformat(), "backtest": []},
        )  # fmt: skip
    expected = cross_fitted(experiment, 7, base)
    customer, _ = pd.factorize(experiment.features.index)
    effect = Estimate.of(qini.gains(experiment, *expected), customer)
    found, best, alone = _judge(experiment, customer, learners, base)
    gained = found.pop("qini")
    surely = gained.low > 0
    recommend = TARGET if surely else TREAT_NONE if effect.high <= cost else TREAT_ALL
    served: dict[str, type[Uplift]] = {TARGET: best, TREAT_ALL: TreatAll, TREAT_NONE: TreatNone}
    model = served[recommend]().fit(experiment, expected)
    model.error = found["off"] if recommend == TARGET else effect.error
    made = Outcome(
        model=model,
        challenger=best.name,
        published=surely,
        why=_why(recommend, gained, effect, cost),
        metrics=_rounded({"qini": gained}) | alone,
        baseline_metrics={"qini": 0.0} | _rounded({"effect": effect}),
        details={
            "recommend": recommend, "outcome": outcome, "as_of": as_of.isoformat(), "cost": cost,
            "effect_shown": effect.low > 0 or effect.high < 0, "curve": found["curve"],
            "ranked_by": found["ranked_by"], "columns": model.columns.tolist(),
            "drawn_as_said": _drawn_as_said(experiment), "calibration": {"table": found["table"]},
            "drift": _drift(found["models"][best], experiment, today),
        },
        **common,
    )  # fmt: skip
    dates = _dates(experiment, best, base, recommend == TARGET) if backtest else []
    return no_loss(made, as_of, _rankers(in_service) if recommend == TARGET else nothing, dates, bins=ALIKE)


def _rankers(in_service: InService[Uplift]) -> InService[Uplift]:
    """What was in service, where it ranked customers: whether to write to all or nobody isn't told by the Qini."""

    def at(moment: datetime) -> Serving[Uplift] | None:
        found = in_service(moment)
        return found if found and not isinstance(found.model, (TreatAll, TreatNone)) else None

    return at


def lacking(experiment: Experiment) -> str | None:
    """Why nothing can be learned, in sentences; None where there is enough."""
    if not len(experiment):
        return (
            "No campaign of the last year kept customers back by chance whose orders are known by now, so nothing tells"
            f" what a message changes. Write to all, or keep a holdout of {FEWEST} or more for weeks."
        )
    controls, treated = np.bincount(experiment.treated, minlength=2)
    other = (experiment.outcome != 0).sum()
    rare = min(other, (experiment.outcome != 1).sum()) if experiment.binary else other
    if min(controls, treated) >= FEWEST and rare >= FEWEST_OUTCOMES:
        return None
    return (
        f"{treated} customers were drawn to be written to and {controls} not to be, and {int(rare)} outcomes tell them"
        f" apart: too few to learn from. Write to all, or keep a holdout of {FEWEST} or more for weeks."
    )


def _judge(
    experiment: Experiment, customer: np.ndarray, learners: Sequence[type[Learner]], base: Base
) -> tuple[dict[str, Any], type[Learner], dict[str, float]]:
    """The Qini coefficient and curve of the turns, the learner that was best over all, and each learner's own."""
    part = parts(experiment, PARTS, seed=11)
    sums = dict.fromkeys(learners, 0.0)
    where, terms, said, gains, by = [], [], [], [], []
    models: dict[type[Learner], Learner] = {}
    for this in range(1, PARTS):
        before, now = experiment.take(part < this), experiment.take(part == this)
        if len(np.unique(before.treated)) < 2 or len(now) < 2:
            continue
        models, scores, gain = _turn(before, now, learners, base)
        chosen = max(learners, key=lambda kind: sums[kind])  # the first of equals
        where.append(np.flatnonzero(part == this))
        terms.append(qini.terms(scores[chosen], gain))
        said.append(scores[chosen])
        gains.append(gain)
        by.append(chosen.name)
        for kind in learners:
            sums[kind] += float(qini.terms(scores[kind], gain).sum())
    rows, rank = np.concatenate(where), np.concatenate([qini.ranks(one) for one in said])
    found = {
        "qini": Estimate.of(np.concatenate(terms), customer[rows]),
        "off": _off(rank, np.concatenate(said), np.concatenate(gains)),
        "table": calibration.table(np.concatenate(said), np.concatenate(gains), customer[rows], ALIKE),
        "models": models,
        "curve": [
            {key: round(value, 8) for key, value in point.items()}
            for point in qini.curve(rank, np.concatenate(gains), customer[rows])
        ],
        "ranked_by": by,
    }
    alone = {f"qini_{kind.name}": round(sums[kind] / len(rows), 8) for kind in learners}
    return found, max(learners, key=lambda kind: sums[kind]), alone


class _Turn(NamedTuple):
    """What learners, taught by some rows, say of others, and the gains of these."""

    models: dict[type[Learner], Learner]
    scores: dict[type[Learner], np.ndarray]
    gain: np.ndarray


def _turn(before: Experiment, now: Experiment, learners: Sequence[type[Learner]], base: Base) -> _Turn:
    expected = cross_fitted(before, 7, base)
    columns = told(before.features)
    x, of_now = before.features[columns].to_numpy(float), now.features[columns].to_numpy(float)
    sides = [
        outcomes(x[before.treated == arm], before.outcome[before.treated == arm], base, 7)(of_now) for arm in (0, 1)
    ]
    models = {kind: kind().fit(before, expected) for kind in learners}
    scores = {kind: model.predict(now.features) for kind, model in models.items()}
    return _Turn(models, scores, qini.gains(now, sides[0], sides[1]))


def _dates(experiment: Experiment, kind: type[Learner], base: Base, target: bool) -> list[Date[Uplift]]:
    """The newest dates on which a campaign began that are told enough of, newest first. target: ranking serves."""
    found: list[Date[Uplift]] = []
    if experiment.began is None:
        return found
    days = experiment.began // DAY
    there, place = np.unique(days, return_inverse=True)
    smaller = np.minimum(*(np.bincount(place[experiment.treated == arm], minlength=len(there)) for arm in (0, 1)))
    for day in there[smaller >= FEWEST_JUDGED][::-1].tolist():
        before, now = experiment.take(days + DAYS < day), experiment.take(days == day)
        if lacking(before):
            break
        if len(before) > MOST_BEFORE:
            before = before.take(np.random.default_rng(7).choice(len(before), MOST_BEFORE, replace=False))
        _, scores, gain = _turn(before, now, (kind,), base)
        found.append(_date(datetime.fromtimestamp(day * DAY, UTC), now, scores[kind], gain, target))
        if len(found) == DATES:
            break
    return found


def _date(as_of: datetime, now: Experiment, scores: np.ndarray, gain: np.ndarray, target: bool) -> Date[Uplift]:
    customers = now.features.index.to_numpy()
    who, _ = pd.factorize(customers)

    def ask(model: Uplift) -> np.ndarray:
        lost = sorted(set(model.columns.tolist()) - set(now.features.columns))
        if lost and isinstance(model, Learner):
            raise ValueError(f"It needs columns that are no longer there: {', '.join(lost)}.")
        return model.predict(now.features)

    return Date(
        as_of=as_of,
        customers=customers,
        ours=scores if target else np.zeros(len(scores)),
        ask=ask,
        measure=lambda said, rows: float(qini.terms(said[rows], gain[rows]).mean()),
        figures={
            "controls": int((now.treated == 0).sum()),
            **_rounded({"qini": qini.coefficient(scores, gain, who)}),
            "baseline_qini": 0.0,
            **_rounded({"effect": Estimate.of(gain, who)}),
        },
        beside=Beside(scores, gain),
        expect=lambda model: Beside(ask(model), gain),
    )


def _drift(model: Learner, experiment: Experiment, today: pd.DataFrame | None) -> dict[str, float]:
    """How what a learner says of the newest campaign's customers moved from then to today."""
    if today is None:
        return {}
    began = experiment.began
    newest = experiment.features if began is None else experiment.features[began // DAY == began.max() // DAY]
    newest, now = newest[newest.index.isin(today.index)], today[today.index.isin(newest.index)]
    if min(len(newest), len(now)) < FEWEST_JUDGED:
        return {}
    return calibration.drift(model.predict(newest), model.predict(now))


def judged(model: Uplift, experiment: Experiment) -> dict[str, float]:
    """On rows that the model didn't learn from, with intervals: `qini` of ranking by it, `effect` of treating all."""
    customer, _ = pd.factorize(experiment.features.index)
    gain = qini.gains(experiment, *cross_fitted(experiment, 7))
    ranked = qini.coefficient(model.predict(experiment.features), gain, customer)
    return _rounded({"qini": ranked, "effect": Estimate.of(gain, customer)})


def _off(rank: np.ndarray, said: np.ndarray, gain: np.ndarray) -> float:
    """By how much the mean of what was said of customers ranked alike missed what was measured: root mean square."""
    group = np.minimum((rank * ALIKE).astype(int), ALIKE - 1)
    size = np.bincount(group, minlength=ALIKE)
    missed = np.bincount(group, weights=said - gain, minlength=ALIKE) / np.maximum(size, 1)
    return float(np.sqrt((missed**2 * size).sum() / size.sum()))


def _why(recommend: str, gained: Estimate, effect: Estimate, cost: float) -> str:
    over = f"Qini {gained.value:.5f} ({gained.low:.5f} to {gained.high:.5f}) per customer"
    all_of = f"writing to all changes {effect.value:.5f} ({effect.low:.5f} to {effect.high:.5f}) per customer"
    if recommend == TARGET:
        return f"Writing first to whom it changes most gains over writing at random: {over}."
    if recommend == TREAT_NONE:
        return (
            f"Choosing whom to write to gains nothing for sure: {over}; and {all_of}, no more than its cost {cost:g}."
        )
    shown = "" if effect.low > 0 else ", so no effect is shown either"
    return f"Choosing whom to write to gains nothing for sure: {over}. Write to all: {all_of}{shown}."


def _rounded(estimates: dict[str, Estimate]) -> dict[str, float]:
    return {
        key: round(value, 8)
        for name, e in estimates.items()
        for key, value in ((name, e.value), (f"{name}_low", e.low), (f"{name}_high", e.high))
    }


def _drawn_as_said(experiment: Experiment) -> float:
    """How far the number of treated is from what the propensities say, in standard errors: beyond 4 or so, they are
    wrong, or people were left out of one group."""
    e = experiment.propensity
    return round(float((experiment.treated - e).sum() / np.sqrt((e * (1 - e)).sum())), 2)


def _untaught(experiment: Experiment) -> TreatAll:
    model = TreatAll()
    model.columns = np.zeros(0, dtype=np.str_)
    on = experiment.treated == 1
    if on.any() and (~on).any():
        model.effect = float(experiment.outcome[on].mean() - experiment.outcome[~on].mean())
    return model
