"""Training send times: chosen and judged on what customers did after past dates.

There are up to three past dates, 28 days apart. On each, a model of what was known then says an hour, and the share of
what customers did in the next 28 days within an hour of it counts. How days share hours, how fast hours age, how wide
and how strongly is shrunk is chosen on one half of the customers and judged on the other, and the other way round: so
everybody judges, and nobody what was chosen by them. What is in service stays where it was better (publication.py).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import numpy as np

from controltower.models import calibration, publication
from controltower.models.base import Model, Outcome
from controltower.models.publication import Beside
from controltower.models.send_time.circadian import DAYS, WIDTHS, window_sums
from controltower.models.send_time.evidence import Hours
from controltower.models.send_time.model import EveryonesWeek, OwnWeek, SendTime, best_hour

M = TypeVar("M", bound=Model)
NAME = "send_hour"
SPLIT_DAYS = 28
SPLITS = 3
MOST = 20_000  # customers that are chosen by and judged on; of more, a drawn sample
FEWEST = 50  # customers active before and after a past date
SURELY = 1.96  # standard errors
TRIED: dict[str, tuple[Any, ...]] = {
    "half_life_days": (0.0, 180.0, 90.0, 45.0),
    "days": tuple(DAYS),
    "width": WIDTHS,
    "strength": (2.0, 5.0, 10.0, 20.0, 50.0, 150.0),
}


class Past(NamedTuple):
    """A past date, so many days ago: what was known, and `later` (n, 168) what customers did since; `judging` those who
    were active."""

    days: int
    known: Hours
    later: np.ndarray
    judging: np.ndarray


class Verdict(NamedTuple):
    """Mean shares hit within an hour by our hours and by everyone's best hour, and by how much ours is better as a
    share of the latter, with a 95 % interval. `customers` judged."""

    own: float
    everyone: float
    better: float
    low: float
    high: float
    customers: int


def train(hours: Hours, as_of: datetime, in_service: publication.InService[SendTime] = publication.nothing) -> Outcome:
    """The model `send_hour`: OwnWeek where it is better than everyone's best hour for sure, else EveryonesWeek.

    `hours` are all customers' as of as_of. For sure: the 95 % interval of the relative difference lies above 0.
    """
    n = len(hours.customer_ids)
    some = hours.of_customers(drawn(n))
    pasts = [past for k in range(1, SPLITS + 1) if len((past := _past(some, k * SPLIT_DAYS)).judging) >= FEWEST]
    config, metrics, theirs, won, details = OwnWeek.Config(), {}, {}, False, {}
    dates: list[publication.Date[SendTime]] = []
    if not pasts:
        active = len(np.unique(hours.customer)) if len(hours) else 0
        why = (
            f"Of {active} customers who were ever active fewer than {FEWEST} were so both before and after a past "
            "date: everyone's best hour serves."
        )
    else:
        config = chosen(pasts, None)
        found = judged(pasts)
        verdict = compare(
            np.concatenate([own.came for own, _ in found]), np.concatenate([everyone.came for _, everyone in found]),
            np.concatenate([past.judging for past in pasts]),
        )  # fmt: skip
        won = verdict.low > 0
        dates = [_date(past, *both, won, as_of) for past, both in zip(pasts, found, strict=True)]
        metrics = {
            "hits_3h": round(verdict.own, 5), "better": round(verdict.better, 5), "better_low": round(verdict.low, 5),
            "better_high": round(verdict.high, 5),
        }  # fmt: skip
        theirs = {"hits_3h": round(verdict.everyone, 5)}
        compared = (
            f"{verdict.own:.1%} of what customers did lay within an hour of the chosen one, against "
            f"{verdict.everyone:.1%} ({verdict.low:+.1%} to {verdict.high:+.1%} of it)"
        )
        why = (
            f"It beat everyone's best hour: {compared}."
            if won
            else f"It isn't better than everyone's best hour for sure, which therefore serves: {compared}."
        )
        details = {"customers_judged": verdict.customers, "past_dates": len(pasts)}
    challenger = OwnWeek(config).fit(hours)
    model: SendTime = challenger if won else EveryonesWeek().fit(hours)
    first = int(hours.day.max()) if len(hours) else None
    outcome = Outcome(
        name=NAME,
        model=model,
        challenger=OwnWeek.name,
        published=won,
        why=why,
        metric="hits_3h",
        metrics=metrics,
        baseline=EveryonesWeek.name,
        baseline_metrics=theirs,
        window=(as_of - timedelta(days=first), as_of) if first is not None else None,
        rows={"active_hours": len(hours), "customers": n, "tried": details.get("customers_judged", 0)},
        details=details
        | {
            "settings": config.model_dump(),
            "rhythms": len(challenger.rhythms.usual),
            "drift": _drift(challenger, pasts[0].known, some) if pasts else {},
        },
    )
    return publication.no_loss(outcome, as_of, in_service, dates)


def drawn(n: int) -> np.ndarray:
    """The positions (sorted) of MOST of n customers, or of all."""
    return np.sort(np.random.default_rng(7).choice(n, MOST, replace=False)) if n > MOST else np.arange(n)


def _date(past: Past, own: Beside, everyone: Beside, won: bool, as_of: datetime) -> publication.Date[SendTime]:
    return hit_date(
        as_of - timedelta(days=past.days), past.known.customer_ids[past.judging], own, everyone, won,
        lambda model: hits(model, past, past.judging),
    )  # fmt: skip


def hit_date(
    as_of: datetime,
    customers: np.ndarray,
    own: Beside,
    everyone: Beside,
    won: bool,
    ask: Callable[[M], Beside],
) -> publication.Date[M]:
    """A past date on which the challenger (`own`) and the baseline hit shares of what customers did."""
    return publication.Date(
        as_of,
        customers,
        (own if won else everyone).came,
        lambda model: ask(model).came,
        lambda came, rows: float(came[rows].mean()) if rows.any() else 0.0,
        {"hits_3h": round(float(own.came.mean()), 5), "baseline_hits_3h": round(float(everyone.came.mean()), 5)},
        own if won else everyone,
        ask,
    )


def _drift(model: SendTime, before: Hours, now: Hours) -> dict[str, float]:
    """How what a model expects of those who were ever active moved."""

    def expected(hours: Hours) -> np.ndarray:
        counts = model.dense(model.counts(hours))
        shares = model.shares(counts[counts.any(axis=1)])
        return _near(shares)[np.arange(len(shares)), best_hour(shares)]

    return calibration.drift(expected(before), expected(now))


def judged(pasts: list[Past]) -> list[tuple[Beside, Beside]]:
    """By past date, what own hours and everyone's best hour were said to hit, and hit, of those who judge: each half of
    the customers by what was chosen on the other half."""
    by_other = [chosen(pasts, 1 - half) for half in (0, 1)]
    found = []
    for past in pasts:
        own = Beside(np.empty(len(past.judging)), np.empty(len(past.judging)))
        for half, config in enumerate(by_other):
            mine = past.judging % 2 == half
            own.said[mine], own.came[mine] = hits(OwnWeek(config).fit(past.known), past, past.judging[mine])
        found.append((own, hits(EveryonesWeek().fit(past.known), past, past.judging)))
    return found


def compare(own: np.ndarray, everyone: np.ndarray, who: np.ndarray) -> Verdict:
    """Shares hit (n,) of customers `who` (n,), one of whom may be judged several times; each customer counts once.

    The interval is that of a ratio of means (delta method), over customers.
    """
    people, at = np.unique(who, return_inverse=True)
    times = np.bincount(at)
    ours, theirs = np.bincount(at, own) / times, np.bincount(at, everyone) / times
    base = max(float(theirs.mean()), 1e-9)
    better = float(ours.mean()) / base - 1
    spread = float((ours - (1 + better) * theirs).std(ddof=1)) if len(people) > 1 else np.inf
    error = SURELY * spread / np.sqrt(len(people)) / base
    low, high = float(better - error), float(better + error)
    return Verdict(float(ours.mean()), float(theirs.mean()), better, low, high, len(people))


def hits(model: SendTime, past: Past, rows: np.ndarray) -> Beside:
    """The share of what each of some customers does within an hour of the model's hour of the day: as the model says,
    and since."""
    shares = model.shares(model.dense(model.counts(past.known))[rows])
    at = np.arange(len(rows)), best_hour(shares)
    return Beside(_near(shares)[at].astype(float), _near(past.later[rows])[at])


def chosen(pasts: list[Past], half: int | None) -> OwnWeek.Config:
    """The settings under which what one half of the customers (None: all) did since was most likely, one setting after
    the other. Likely: the mean logarithm of the chance of the three hours around what was done."""
    config = OwnWeek.Config()
    known: dict[tuple[Any, ...], tuple[OwnWeek, np.ndarray]] = {}

    def likely(config: OwnWeek.Config) -> float:
        logs = []
        for number, past in enumerate(pasts):
            rows = past.judging if half is None else past.judging[past.judging % 2 == half]
            key = number, config.half_life_days, config.days  # what is learned depends on these
            if key not in known:
                model = OwnWeek(config).fit(past.known)
                known[key] = model, model.dense(model.counts(past.known))
            learned, counts = known[key]
            model = OwnWeek(config)
            model._restore(learned._state())
            chance = window_sums(model.shares(counts[rows]).reshape(len(rows), 7, 24))
            done = past.later[rows].reshape(len(rows), 7, 24)
            part = done / done.sum(axis=(1, 2), keepdims=True)
            logs.append((part * np.log(np.maximum(chance, 1e-9))).sum(axis=(1, 2)))
        return float(np.concatenate(logs).mean()) if logs else -np.inf

    best = likely(config)
    for setting in ("strength", *TRIED):  # the strength matters most; it is looked at again at the end
        for value in TRIED[setting]:
            other = config.model_copy(update={setting: value})
            if other != config and (found := likely(other)) > best:
                config, best = other, found
    return config


def _past(hours: Hours, days: int) -> Past:
    """So many days before the hours' as_of, judged by the SPLIT_DAYS after."""
    known = hours.where(hours.day >= days, shift=days)
    return past_of(days, known, hours.where((hours.day < days) & (hours.day >= days - SPLIT_DAYS)))


def past_of(days: int, known: Hours, since: Hours) -> Past:
    """What was known, and what the same customers did since."""
    judge = EveryonesWeek().fit(since)  # plain weights, and what messages caused by its own exposure
    later = judge.dense(judge.counts(since))
    before = np.bincount(known.customer[known.kind > 0], minlength=len(known.customer_ids)) > 0
    return Past(days, known, later, np.flatnonzero(before & (later.sum(axis=1) > 0)))


def _near(later: np.ndarray) -> np.ndarray:
    """(n, 24): the share of what was done (n, 168) within an hour of each hour of the day."""
    by_hour = later.reshape(len(later), 7, 24).sum(axis=1)
    return window_sums(by_hour / np.maximum(by_hour.sum(axis=1, keepdims=True), 1e-9))
