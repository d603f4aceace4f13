"""Training the next order: on what followed past dates, and judged on the three newest beside the baselines.

Past dates lie four weeks apart. Each teaches the intervals after it that are over; a date that is judged, those that
were over by then. `pace` follows the season: the hazards are multiplied by the number that makes the purchases within
28 days of the judged dates come out right, said by models that didn't know them; the newest date weighs most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from controltower.models import calibration, publication
from controltower.models.base import Outcome
from controltower.models.replenishment.hazard import (
    EDGES,
    FEWEST_EVENTS,
    SOON,
    SOON_DAYS,
    ConstantWait,
    Hazard,
    NextOrder,
    OwnMedianGap,
    Past,
    Rows,
    describe,
)
from controltower.models.replenishment.purchases import Series, waits

NEXT_ORDER, NEXT_PRODUCT_ORDER = NAMES = ("next_order", "next_product_order")
STEP = 28  # days between past dates
DATES = 13  # learned from, at most
JUDGED = 3  # the newest of them
FEWEST = 50  # series
MOST = 15_000  # series a past date; of more, a drawn sample
PACES = (0.5, 2.0)  # the slowest and the fastest
FADING = 0.5  # weight of a date beside that of the next newer one, in the pace


def train(
    name: str,
    some: Series,
    orders: Series | None,
    as_of: datetime,
    in_service: publication.InService[NextOrder] = publication.nothing,
) -> Outcome:
    """The model of NEXT_ORDER (`some` are the customers' series, no `orders`), or of NEXT_PRODUCT_ORDER (`some` are
    customers with items, `orders` the customers' series). All as of as_of."""
    first = int(some.days.max()) if len(some) else 0
    past = [_past(some, orders, STEP * k, STEP * k) for k in range(1, DATES + 1) if STEP * k <= first - 14]
    today = _sample(describe(some, orders, 0))
    events = int(sum((one.wait <= SOON_DAYS).sum() for one in past))
    if len(today.own.rows) < FEWEST or events < FEWEST_EVENTS:
        return _fallback(name, some, today, past, events)
    tried, pace = _judge(some, orders, len(past))
    metrics, theirs = _mean([one.metrics for one in tried]), _mean([one.baseline for one in tried])
    model: NextOrder
    try:
        model = Hazard().fit(today, past)
        model.pace = pace
    except ValueError:
        return _fallback(name, some, today, past, events)
    best = max((theirs[m] for m in _AUC[:2] if theirs), default=0.0)
    won = bool(metrics) and metrics["auc_28d"] > best
    if not metrics:
        why = "Too few purchases followed past dates for a time split: the own median gap serves."
    else:
        compared = f"28-day AUC {metrics['auc_28d']:.3f} against {best:.3f} on past dates"
        why = (
            f"It beat the own median gap: {compared}." if won else f"It lost, so the own median gap serves: {compared}."
        )
    outcome = Outcome(
        name=name,
        model=model if won else OwnMedianGap().fit(today, past),
        challenger=Hazard.name,
        published=won,
        why=why,
        metric="auc_28d",
        metrics=metrics,
        baseline=OwnMedianGap.name,
        baseline_metrics=theirs,
        window=(as_of - timedelta(days=STEP * len(past)), as_of),
        rows={"series": len(some), "dates": len(past), "orders_28d": events, "tried": min(JUDGED, len(past))},
        details={
            "pace": round(model.pace, 4), "everyone": model.everyone, "reach_days": _reach(model),
            "drift": calibration.drift(ranked(model, past[0].rows), ranked(model, today)),
        },
    )  # fmt: skip
    dates = [_date(one, one.hazard if won else one.own, some, as_of) for one in tried]
    return publication.no_loss(outcome, as_of, in_service, dates)


class _Judged(NamedTuple):
    """A past date, so many days ago: what followed, the chances that were said of a purchase within 28 days, by the
    hazard and by the own median gap, and what both got."""

    day: int
    past: Past
    hazard: np.ndarray
    own: np.ndarray
    metrics: dict[str, float]
    baseline: dict[str, float]

    @property
    def came(self) -> np.ndarray:
        return self.past.wait <= SOON_DAYS


def auc_of(came: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
    """The AUC of scores among some of the rows (a mask); of one kind alone it is .5."""

    def auc(scores: np.ndarray, rows: np.ndarray) -> float:
        return float(roc_auc_score(came[rows], scores[rows])) if 0 < came[rows].sum() < rows.sum() else 0.5

    return auc


def first_since(series: Series, day: int, customers: np.ndarray) -> np.ndarray:
    """Of customers' series, by customer asked for (n,): the days from `day` days ago until the next purchase; infinite
    where there was none."""
    whose = np.repeat(series.customer, np.diff(series.starts))
    later = series.days < day
    next_one = np.full(len(series.customer_ids), -1.0)
    np.maximum.at(next_one, whose[later], series.days[later])
    found = dict(zip(series.customer_ids.tolist(), np.where(next_one < 0, np.inf, day - next_one - 0.5), strict=True))
    return np.array([found.get(customer, np.inf) for customer in customers], dtype=float)


def judged(found: pd.DataFrame, wait: np.ndarray, as_of: datetime, over: timedelta) -> dict[str, float | None]:
    """What `predict` said of customers beside their waits in days. `by_low`, `by_date`, `by_high`: of those whose day
    lay within what is over, the share who had bought by then."""
    p, came = found["order_28d"].to_numpy(float), wait <= SOON_DAYS
    told: dict[str, float | None] = dict.fromkeys(JUDGED_BY)
    if np.isfinite(p).all():
        told |= {
            "auc_28d": float(roc_auc_score(came, p)), "bias_28d": float(p.sum() / came.sum()),
            "log_loss_28d": _log_loss(came, p), "calibration_error": calibration.error(p, came),
        }  # fmt: skip
    for name, column in (("by_low", "next_order_low"), ("by_date", "next_order_at"), ("by_high", "next_order_high")):
        ahead = (found[column] - pd.Timestamp(as_of)) / pd.Timedelta(days=1)
        there = (ahead <= over / timedelta(days=1)).to_numpy()
        told[name] = float((wait <= ahead.to_numpy(float))[there].mean()) if there.any() else None
    return told


JUDGED_BY = ("auc_28d", "bias_28d", "log_loss_28d", "calibration_error", "by_low", "by_date", "by_high")


def _date(one: _Judged, said: np.ndarray, some: Series, as_of: datetime) -> publication.Date[NextOrder]:
    customers = some.customer_ids[some.customer[one.past.rows.own.rows]]
    figures = {metric: round(one.metrics[metric], 5) for metric in ("auc_28d", "bias_28d")}
    return publication.Date(
        as_of - timedelta(days=one.day), customers, said, lambda model: ranked(model, one.past.rows), auc_of(one.came),
        figures | {"baseline_auc_28d": round(max(one.baseline[m] for m in _AUC), 5)},
        publication.Beside(said, one.came), lambda model: publication.Beside(ranked(model, one.past.rows), one.came),
    )  # fmt: skip


_AUC = ("auc_28d", "auc_28d_by_nearness", "constant_wait")  # of the baselines


def _mean(measured: Sequence[dict[str, float]]) -> dict[str, float]:
    return {m: round(float(np.mean([v[m] for v in measured])), 5) for m in (measured[0] if measured else {})}


def ranked(model: NextOrder, rows: Rows) -> np.ndarray:
    """By row, the chance of a purchase within 28 days."""
    return 1 - model.survival(rows)[:, SOON]


def nearness(model: OwnMedianGap, rows: Rows) -> np.ndarray:
    """By row, minus the days between today and when the next purchase is due: the median gap's plain score."""
    return -np.abs(model.wait(rows) - rows.own.since)


def _past(some: Series, orders: Series | None, day: int, over: int) -> Past:
    rows = _sample(describe(some, orders, day))
    return Past(rows, waits(some, day, rows.own.rows), over)


def _sample(rows: Rows) -> Rows:
    number = len(rows.own.rows)
    if number <= MOST:
        return rows
    return rows.take(np.sort(np.random.default_rng(7).choice(number, MOST, replace=False)))


def _judge(some: Series, orders: Series | None, dates: int) -> tuple[list[_Judged], float]:
    """The newest dates, newest first, and the pace.

    A date's pace is that of the dates before it, so that the bias says what a season costs.
    """
    found: list[_Judged] = []
    paces: list[float] = []  # logarithms, the newest first
    for k in range(min(JUDGED + 1, dates - 1), 0, -1):
        day = STEP * k
        before = [_past(some, orders, STEP * n, STEP * (n - k)) for n in range(k + 1, dates + 1)]
        one = _past(some, orders, day, day)
        y = one.wait <= SOON_DAYS
        if min(y.sum(), (~y).sum()) < FEWEST_EVENTS or len(y) < FEWEST:
            continue
        try:
            model = Hazard().fit(one.rows, before)
        except ValueError:
            continue
        own, constant = OwnMedianGap().fit(one.rows, []), ConstantWait().fit(one.rows, [])
        model.pace = _mean_pace(paces)
        p = ranked(model, one.rows)
        if k <= JUDGED:
            usual = ranked(own, one.rows)
            ours = {
                "auc_28d": float(roc_auc_score(y, p)), "bias_28d": float(p.sum() / y.sum()),
                "log_loss_28d": _log_loss(y, p),
            }  # fmt: skip
            theirs = {
                "auc_28d": float(roc_auc_score(y, usual)),
                "auc_28d_by_nearness": float(roc_auc_score(y, nearness(own, one.rows))),
                "constant_wait": float(roc_auc_score(y, ranked(constant, one.rows))),
                "log_loss_28d": _log_loss(y, usual),
            }
            found.insert(0, _Judged(day, one, p, usual, ours, theirs))
        model.pace = 1.0
        paces.insert(0, float(np.log(_pace(model.survival(one.rows)[:, SOON], float(y.mean())))))
    return found, _mean_pace(paces)


def _mean_pace(logs: list[float]) -> float:
    return float(np.exp(np.average(logs, weights=FADING ** np.arange(len(logs))))) if logs else 1.0


def _pace(dormant: np.ndarray, share: float) -> float:
    """The power of the chances of no purchase that makes their mean what it was."""
    slow, fast = PACES
    for _ in range(40):
        middle = (slow + fast) / 2
        slow, fast = (middle, fast) if (1 - dormant**middle).mean() < share else (slow, middle)
    return (slow + fast) / 2


def _log_loss(y: np.ndarray, p: np.ndarray) -> float:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.where(y, np.log(p), np.log(1 - p)).mean())


def _reach(model: NextOrder) -> int:
    return int(EDGES[model.reach]) if isinstance(model, Hazard) else int(EDGES[-1])


def _fallback(name: str, some: Series, today: Rows, past: list[Past], events: int) -> Outcome:
    model = ConstantWait().fit(today, past)
    what = "customers" if name == NEXT_ORDER else "products bought twice by a customer"
    if not len(some):
        why = f"There are no {what} yet, so no next order can be told."
    elif np.isnan(model.everyone):
        why = f"None of {len(some)} customers bought twice, so how long people wait is not known."
    else:
        why = (
            f"Only {len(some)} {what}, and {events} orders in the weeks after past dates: too few to learn from, so"
            " everybody waits as long as is usual."
        )
    rows = {"series": len(some), "dates": len(past), "orders_28d": events, "tried": 0}
    return Outcome.untried(name, model, Hazard, why, "auc_28d", rows)
