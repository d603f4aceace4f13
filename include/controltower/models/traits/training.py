"""Training a trait: the weights are learned from customers who were held out, and judged on yet others.

The customers are split into FOLDS. Each fold is looked at by a model of the others, with all of a customer's items and
as of when there were only so many. The weights that are judged on a fold come from the other folds; those that serve
come from all of them.

The card also has past dates: those who told within STEP days after one are looked at by a model of those who had told
by then, and of the items of then; only the weights know of the folds. What is in service stays where it was better
there (publication.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from controltower.models import calibration, publication
from controltower.models.base import Outcome
from controltower.models.publication import Beside
from controltower.models.traits import ages, said
from controltower.models.traits.items import HISTORY, NOBODY, Histories
from controltower.models.traits.model import LENGTHS, ItemsLogistic, Prior, Trait, best, length_of, pooled

GENDER, AGE_BAND = NAMES = ("gender", "age_band")
FEWEST = 50  # customers who told; with fewer nothing is learned
MOST = 40_000  # of more, a drawn sample
FOLDS = 4
STEP = timedelta(days=28)  # between past dates
DATES = 3
FEWEST_SINCE = 20  # customers who told after one
MOST_BEFORE = 10_000  # of those who had told by one; of more, a drawn sample


class ToldBy(NamedTuple):
    """A past date, and which of the customers (flags, n) had told by then, and did so within STEP after it."""

    as_of: datetime
    told: np.ndarray
    since: np.ndarray


class Held(NamedTuple):
    """One row a customer who was held out and number of items that they were looked at with.

    `customer` is a position, `length` one in LENGTHS; `raw` and `prior` are probabilities (rows, classes) in logarithms
    and as they are; `whole` says that these were all of the customer's items.
    """

    customer: np.ndarray
    length: np.ndarray
    raw: np.ndarray
    prior: np.ndarray
    whole: np.ndarray
    fold: np.ndarray
    label: np.ndarray


def drawn(told: np.ndarray) -> np.ndarray:
    """Whom to learn from: the positions where `told` (flags) is true, MOST at most, sorted."""
    there = np.flatnonzero(told)
    return there if len(there) <= MOST else np.sort(np.random.default_rng(7).choice(there, MOST, replace=False))


def untaught(name: str) -> Trait:
    """A model of GENDER or AGE_BAND that tells nothing of anybody."""
    model = Prior().fit(NOBODY, np.arange(0), said.GENDERS if name == GENDER else ages.BANDS)
    model.shares = ages.within(np.arange(0))
    return model


def past_dates(as_of: datetime) -> list[datetime]:
    """The dates that `train` judges on, newest first."""
    return [as_of - STEP * k for k in range(1, DATES + 1)]


def train(
    name: str,
    histories: Histories,
    told: np.ndarray,
    as_of: datetime,
    past: Sequence[ToldBy] = (),
    in_service: publication.InService[Trait] = publication.nothing,
) -> Outcome:
    """The model of GENDER or AGE_BAND. `told`: of each customer the position in said.GENDERS, or the age in years;
    `past`: of `past_dates`."""
    classes, label = (said.GENDERS, told) if name == GENDER else (ages.BANDS, ages.band_of(told))
    prior, challenger = Prior().fit(histories, label, classes), ItemsLogistic().fit(histories, label, classes)
    if name == AGE_BAND:
        prior.shares = challenger.shares = ages.within(told)
    common: dict[str, Any] = {
        "name": name, "challenger": ItemsLogistic.name, "metric": "log_loss", "baseline": Prior.name,
        "window": (as_of - timedelta(seconds=HISTORY), as_of), "rows": {"customers": len(told)},
    }  # fmt: skip
    if len(told) < FEWEST or len(np.unique(label)) < 2:
        why = f"Of {len(told)} customers who agreed to profiling it was told: too few to learn from."
        details: dict[str, Any] = {"backtest": []}
        return Outcome(
            model=prior, published=False, why=why, metrics={}, baseline_metrics={}, details=details, **common
        )
    held = _held_out(histories, label, classes)
    challenger.weights = _weights(held, np.ones(len(held.label), dtype=bool))
    by_other = _weights_of_others(held)
    by_items = _judged(held, by_other, challenger, told if name == AGE_BAND else None)
    for length, items in enumerate(LENGTHS.tolist()):  # never worse than the prior
        judged = by_items.get(str(items))
        if judged and judged["log_loss"] >= judged["prior_log_loss"]:
            challenger.weights[length] = 0.0
    ours = by_items.pop("all")
    theirs = {"log_loss": ours.pop("prior_log_loss")}
    published = bool(challenger.weights.any()) and ours["log_loss"] < theirs["log_loss"]
    why = (
        f"It {'beat' if published else 'did not beat'} everybody's shares: log loss {ours['log_loss']:.3f} against"
        f" {theirs['log_loss']:.3f} of {ours.pop('customers'):.0f} customers held out; said of {ours['said']:.0%}."
    )
    weights = dict(zip(map(str, LENGTHS.tolist()), challenger.weights.tolist(), strict=True))
    splits = [_split(one, held, histories, label, classes) for one in past]
    whole = held.whole
    sure = _sure(pooled(held.prior, held.raw, by_other if published else 0 * by_other)[whole], held.label[whole])
    outcome = Outcome(
        model=challenger if published else prior,
        published=published,
        why=why,
        metrics=ours,
        baseline_metrics=theirs,
        details={
            "by_items": by_items,
            "weights": weights,
            "limits": LIMITS,
            "calibration": {"table": calibration.table(*sure, histories.customer_ids[held.customer[whole]])},
            "drift": _drift(challenger, histories, past),
        },
        **common,
    )
    dates = [_date(one, published) for one in splits if one]
    return publication.no_loss(outcome, as_of, in_service, dates, lower_is_better=True)


class _Split(NamedTuple):
    """Who told after a past date, with the items and the class they had at the end, and what was said of them."""

    as_of: datetime
    histories: Histories
    label: np.ndarray
    challenger: np.ndarray
    prior: np.ndarray


def _split(one: ToldBy, held: Held, histories: Histories, label: np.ndarray, classes: tuple[str, ...]) -> _Split | None:
    """None where too few had told by then, or did within STEP after."""
    end = one.as_of + STEP
    known, since = np.flatnonzero(one.told), np.flatnonzero(one.since)
    if len(known) < FEWEST or len(np.unique(label[known])) < 2 or len(since) < FEWEST_SINCE:
        return None
    if len(known) > MOST_BEFORE:
        known = np.sort(np.random.default_rng(7).choice(known, MOST_BEFORE, replace=False))
    before = histories.of(known).until(one.as_of)
    model = ItemsLogistic().fit(before, label[known], classes)
    model.weights = _weights(held, np.isin(held.customer, known))
    theirs = histories.of(since).until(end)
    prior = np.tile(model.prior, (len(since), 1))
    return _Split(one.as_of, theirs, label[since], model.predict(theirs), prior)


def _date(one: _Split, published: bool) -> publication.Date[Trait]:
    at = np.arange(len(one.label)), one.label
    said = one.challenger if published else one.prior

    def log_loss(p: np.ndarray, rows: np.ndarray) -> float:
        return float(-np.log(p[at])[rows].mean())

    def ask(model: Trait) -> np.ndarray:
        if model.classes.shape[0] != said.shape[1]:
            raise ValueError("It tells of other classes.")
        return model.predict(one.histories)

    everybody = np.ones(len(one.label), dtype=bool)
    ours, theirs = (round(log_loss(p, everybody), 5) for p in (one.challenger, one.prior))
    return publication.Date(
        one.as_of, one.histories.customer_ids, said, ask, log_loss, {"log_loss": ours, "baseline_log_loss": theirs},
        _sure(said, one.label), lambda model: _sure(ask(model), one.label),
    )  # fmt: skip


def _sure(p: np.ndarray, label: np.ndarray) -> Beside:
    """How likely the likeliest class is said to be, and whether it is the right one."""
    return Beside(p.max(axis=1), (p.argmax(axis=1) == label).astype(int))


def _drift(model: Trait, histories: Histories, past: Sequence[ToldBy]) -> dict[str, float]:
    """How the mean class that a model says moved, from those who had told by the newest past date to all."""
    if not past or not past[0].told.any():
        return {}

    def mean_class(some: Histories) -> np.ndarray:
        return model.predict(some) @ np.arange(len(model.classes))

    before = histories.of(np.flatnonzero(past[0].told)).until(past[0].as_of)
    return calibration.drift(mean_class(before), mean_class(histories))


LIMITS = "Judged on customers who told and agreed to profiling; who didn't may differ from them."


def _held_out(histories: Histories, label: np.ndarray, classes: tuple[str, ...]) -> Held:
    fold = np.random.default_rng(7).permutation(len(label)) % FOLDS
    looks = []
    for this in range(FOLDS):
        others, rows = np.flatnonzero(fold != this), np.flatnonzero(fold == this)
        model = ItemsLogistic().fit(histories.of(others), label[others], classes)
        theirs = histories.of(rows)
        own = length_of(theirs.lengths)
        for length, items in enumerate(LENGTHS.tolist()):
            for whole in (True, False):
                there = np.flatnonzero(own == length if whole else own > length)
                if len(there):
                    seen = theirs.of(there) if whole else theirs.of(there).first(items)
                    n = len(there)
                    looks.append(
                        Held(rows[there], np.full(n, length), model.raw(seen), np.tile(model.prior, (n, 1)),
                             np.full(n, whole), np.full(n, this), label[rows[there]])
                    )  # fmt: skip
    return Held(*(np.concatenate(parts) for parts in zip(*looks, strict=True)))


def _weights(held: Held, among: np.ndarray) -> np.ndarray:
    """By LENGTHS, from the rows of a mask. Without items there is nothing to weigh."""
    found = np.zeros(len(LENGTHS))
    for length in range(1, len(LENGTHS)):
        rows = among & (held.length == length)
        found[length] = best(held.prior[rows], held.raw[rows], held.label[rows])
    return found


def _weights_of_others(held: Held) -> np.ndarray:
    """By row, the weight that the other folds say."""
    weight = np.zeros(len(held.label))
    for this in range(FOLDS):
        learned = _weights(held, held.fold != this)
        weight = np.where(held.fold == this, learned[held.length], weight)
    return weight


def _judged(held: Held, weight: np.ndarray, model: Trait, years: np.ndarray | None) -> dict[str, dict[str, float]]:
    """By number of items, and of `all` customers with the items they have: log loss beside the prior's, how many are
    said and of those how many rightly, and how far probabilities are from what was told."""
    p = pooled(held.prior, held.raw, weight)
    at = np.arange(len(p)), held.label
    if years is None:
        says, right = said.says_gender(p), p.argmax(axis=1) == held.label
    else:
        middle, low, high = ages.summary(ages.by_year(p, model.shares))
        told = years[held.customer]
        says, right = said.says_age(p, model.shares), (low <= told) & (told <= high)
    says &= weight > 0
    groups = {f"{items}": held.length == length for length, items in enumerate(LENGTHS.tolist())} | {"all": held.whole}
    found: dict[str, dict[str, float]] = {}
    for group, rows in groups.items():
        if not rows.any():
            continue
        known = rows & says
        found[group] = {
            "customers": float(rows.sum()),
            "log_loss": float(-np.log(p[at])[rows].mean()),
            "prior_log_loss": float(-np.log(held.prior[at])[rows].mean()),
            "said": float(says[rows].mean()),
            "calibration_error": _calibration_error(p[rows], held.label[rows]),
        }
        if known.any():
            found[group]["right_where_said"] = float(right[known].mean())
            if years is not None:
                found[group]["years_off_where_said"] = float(np.abs(middle - told)[known].mean())
    return found


def _calibration_error(p: np.ndarray, label: np.ndarray) -> float:
    """How far the likeliest class's probability is from how often it is right, in ten groups of equal probability."""
    top, right = p.max(axis=1), p.argmax(axis=1) == label
    group = np.minimum((top * 10).astype(int), 9)
    return float(sum(abs((top - right)[group == g].sum()) for g in np.unique(group)) / len(top))
