"""Training the next order: on what followed past dates, and judged on the three newest beside the baselines.

Past dates lie four weeks apart. Each teaches the intervals after it that are over; a date that is judged, those that
were over by then. `pace` follows the season: the hazards are multiplied by the number that makes the purchases within
28 days of the judged dates come out right, said by models that didn't know them; the newest date weighs most.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from sklearn.metrics import roc_auc_score

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


def train(name: str, some: Series, orders: Series | None, as_of: datetime) -> Outcome:
    """The model of NEXT_ORDER (`some` are the customers' series, no `orders`), or of NEXT_PRODUCT_ORDER (`some` are
    customers with items, `orders` the customers' series). All as of as_of."""
    first = int(some.days.max()) if len(some) else 0
    past = [_past(some, orders, STEP * k, STEP * k) for k in range(1, DATES + 1) if STEP * k <= first - 14]
    today = _sample(describe(some, orders, 0))
    events = int(sum((one.wait <= SOON_DAYS).sum() for one in past))
    if len(today.own.rows) < FEWEST or events < FEWEST_EVENTS:
        return _fallback(name, some, today, past, events)
    metrics, theirs, pace = _judge(some, orders, len(past))
    model: NextOrder
    try:
        model = Hazard().fit(today, past)
        model.pace = pace
    except ValueError:
        return _fallback(name, some, today, past, events)
    best = max((v for k, v in theirs.items() if k.startswith("auc_28d")), default=0.0)
    won = bool(metrics) and metrics["auc_28d"] > best
    if not metrics:
        why = "Too few purchases followed past dates for a time split: the own median gap serves."
    else:
        compared = f"28-day AUC {metrics['auc_28d']:.3f} against {best:.3f} on past dates"
        why = (
            f"It beat the own median gap: {compared}." if won else f"It lost, so the own median gap serves: {compared}."
        )
    return Outcome(
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
        details={"pace": round(model.pace, 4), "everyone": model.everyone, "reach_days": _reach(model)},
    )


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
    at = np.sort(np.random.default_rng(7).choice(number, MOST, replace=False))
    customer = None if rows.customer is None else rows.customer.take(at)
    return Rows(rows.own.take(at), customer, rows.item[at], rows.item_ids)


def _judge(some: Series, orders: Series | None, dates: int) -> tuple[dict[str, float], dict[str, float], float]:
    """Metrics of the hazard and of the baselines, their means over the newest dates; and the pace.

    A date's pace is that of the dates before it, so that the bias says what a season costs.
    """
    found: list[dict[str, float]] = []
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
            found.append(
                {
                    "auc_28d": float(roc_auc_score(y, p)),
                    "bias_28d": float(p.sum() / y.sum()),
                    "log_loss_28d": _log_loss(y, p),
                    "own:auc_28d": float(roc_auc_score(y, ranked(own, one.rows))),
                    "own:auc_28d_by_nearness": float(roc_auc_score(y, nearness(own, one.rows))),
                    "own:constant_wait": float(roc_auc_score(y, ranked(constant, one.rows))),
                    "own:log_loss_28d": _log_loss(y, ranked(own, one.rows)),
                }
            )
        model.pace = 1.0
        paces.insert(0, float(np.log(_pace(model.survival(one.rows)[:, SOON], float(y.mean())))))
    mean = {key: round(float(np.mean([one[key] for one in found])), 5) for key in (found[0] if found else {})}
    ours = {key: value for key, value in mean.items() if ":" not in key}
    return ours, {key[4:]: value for key, value in mean.items() if ":" in key}, _mean_pace(paces)


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
    return Outcome(
        name=name,
        model=model,
        challenger=Hazard.name,
        published=False,
        why=why,
        metric="auc_28d",
        metrics={},
        baseline=ConstantWait.name,
        baseline_metrics={},
        window=None,
        rows={"series": len(some), "dates": len(past), "orders_28d": events, "tried": 0},
    )
