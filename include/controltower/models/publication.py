"""Publication needs no loss: to the baseline, which each training judges itself, and to the model in service, here;
and what past dates said of both, for the card.

On the past dates on which a training judges, the model that was in service then is asked beside what would be
published: the newest trained as of that date or earlier, so neither saw what came after. The model in service stays
where it was better

- beyond chance: the 95 % interval of the difference, a mean over the dates, lies above 0. It is that of the jackknife
  which leaves out one twentieth of the customers after the other (Kott 2001, The delete-a-group jackknife, Journal of
  Official Statistics 17). A customer is in the same twentieth on all dates: who is judged several times isn't several
  customers; and
- by more than MARGIN of the metric: on past dates less was at hand to learn from than to those in service then.

Nothing is frozen by that: every training judges anew, on newer dates, and what stayed must be better again, by then as
a model that has grown old. Where nothing was in service on past dates, or it can't be asked, the card says so, and what
would be published is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from controltower.models import calibration
from controltower.models.base import Model, Outcome

if TYPE_CHECKING:
    from controltower.models.registry import Card

GROUPS = 20
SURELY = 2.093  # standard errors: the 97.5 % point of Student's t with 19 degrees of freedom
MARGIN = 0.02
M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Serving(Generic[M]):
    """What was in service at a moment. model: None where this version of the code can't read it."""

    card: Card
    model: M | None


InService = Callable[[datetime], Serving[M] | None]  # None: nothing was yet in service


def nothing(at: datetime) -> None:
    """Of a first training."""


class Beside(NamedTuple):
    """By customer (n,), what was said to be expected, and what came: 0 or 1, a share or an amount."""

    said: np.ndarray
    came: np.ndarray


@dataclass(frozen=True)
class Date(Generic[M]):
    """A past date on which is judged.

    customers: ids (n,). ours: what the one that would be published said of them, in any form. ask: what a model says of
    them, in the same form; ValueError with the reason, a sentence, where it can't be asked. measure: the metric of
    something said, on some of the customers (a mask (n,)).

    For the card: figures of challenger and baseline. beside: what the one that would be published expected of the
    customers, None where that isn't known; expect: what a model does that can be asked.
    """

    as_of: datetime
    customers: np.ndarray
    ours: Any
    ask: Callable[[M], Any]
    measure: Callable[[Any, np.ndarray], float]
    figures: dict[str, Any]
    beside: Beside | None
    expect: Callable[[M], Beside]


class Compared(NamedTuple):
    """Means over dates of the metric of two, and the 95 % interval of first - second."""

    first: float
    second: float
    low: float
    high: float


def half(customers: np.ndarray) -> np.ndarray:
    """A mask (n,) of one half of the customers, by their ids: what is chosen on it is judged on the other."""
    return np.asarray(_hashed(customers) % 2 == 0)


def compare(dates: Sequence[tuple[np.ndarray, Callable[[np.ndarray], tuple[float, float]]]]) -> Compared:
    """Of dates with their customers' ids (n,) and a measure of two on some of them (a mask (n,))."""
    groups = [_hashed(customers) // 2 % GROUPS for customers, _ in dates]

    def means(left_out: int) -> np.ndarray:
        found = [measure(group != left_out) for (_, measure), group in zip(dates, groups, strict=True)]
        return np.asarray(np.mean(found, axis=0))

    first, second = means(-1)
    without = np.array([np.subtract(*means(group)) for group in range(GROUPS)])
    spread = ((without - without.mean()) ** 2).sum() * (GROUPS - 1) / GROUPS
    error = SURELY * float(np.sqrt(spread))
    return Compared(float(first), float(second), float(first - second - error), float(first - second + error))


def no_loss(
    outcome: Outcome,
    as_of: datetime,
    in_service: InService[M],
    dates: Sequence[Date[M]],
    *,
    lower_is_better: bool = False,
    bins: int = calibration.BINS,
) -> Outcome:
    """The outcome with what the card says of the dates (newest first) and of the model in service, and with that model
    in place of its own where that was better (see above).

    `details["backtest"]` has a row a date; `details["calibration"]["table"]`, unless the training made it, what was
    said by what serves, and what came, in `bins`. `details["in_service"]`: `version`, and on how many of the `dates`
    which `versions` were judged, what they got of the metric and what would be published did (`ours`), `low` and `high`
    of by how much they were better; or `why` that can't be told.
    """
    now = in_service(as_of)
    judged: dict[int, tuple[np.ndarray, Callable[[np.ndarray], tuple[float, float]]]] = {}
    served: dict[int, M] = {}
    versions, reasons = [], ["On the past dates nothing was in service yet."]
    for n, date in enumerate(dates):
        if (then := in_service(date.as_of)) is None:
            continue
        try:
            if then.model is None:
                raise ValueError("This version of Control Tower can't read it.")
            judged[n] = date.customers, _pair(date, date.ask(then.model))
            served[n] = then.model
            versions.append(then.card.version)
        except ValueError as e:
            reasons.append(str(e))
    theirs = {n: measure(np.ones(len(customers), dtype=bool))[0] for n, (customers, measure) in judged.items()}
    outcome = replace(outcome, details=_on_card(outcome.details, outcome.metric, dates, theirs, None, bins))
    if now is None:
        return _noted(outcome, {"why": "Nothing was in service before that it could be compared with."})
    said: dict[str, Any] = {"version": now.card.version}
    if not judged:
        reason = reasons[-1] if dates else "There were no past dates to judge on."
        return _noted(outcome, said | {"why": f"The model in service could not be judged. {reason}"})
    found = compare(list(judged.values()))
    better, low, high = found.first - found.second, found.low, found.high
    if lower_is_better:
        better, low, high = -better, -high, -low
    said |= {
        "versions": sorted(set(versions)), "dates": len(judged), outcome.metric: _figure(found.first),
        "ours": _figure(found.second), "low": _figure(low), "high": _figure(high), "stays": False,
    }  # fmt: skip
    if not (low > 0 and better > MARGIN * abs(found.first)):
        return _noted(outcome, said)
    sentence = (
        f"But what was in service was better beyond chance: {outcome.metric.replace('_', ' ')} {found.first:.3f}"
        f" against {found.second:.3f} on {len(judged)} past dates"
    )
    if now.model is None:
        why = f"{outcome.why} {sentence}; it can't stay, since this version of Control Tower can't read it."
        return replace(_noted(outcome, said), why=why)
    return replace(
        outcome,
        model=now.model,
        published=False,
        why=f"{outcome.why} {sentence}. So it stays in service.",
        window=now.card.window,
        details=_on_card(
            now.card.details | {"drift": outcome.details.get("drift", {})}, outcome.metric, dates, theirs, served, bins
        )
        | {"in_service": said | {"stays": True}},
    )


def _on_card(
    details: dict[str, Any],
    metric: str,
    dates: Sequence[Date[M]],
    theirs: Mapping[int, float],
    served: Mapping[int, M] | None,
    bins: int,
) -> dict[str, Any]:
    """The details with the dates, by place: `theirs`, the metric of what was in service; `served`, the models that
    were, where they stay: then it is theirs what was said."""
    rows, told = [], []
    besides = [
        d.beside if served is None else d.expect(served[n]) if n in served else None for n, d in enumerate(dates)
    ]
    yes_no = all(np.isin(beside.came, (0, 1)).all() for beside in besides if beside)
    for date, beside, in_service in zip(dates, besides, (theirs.get(n) for n in range(len(dates))), strict=True):
        row = {"as_of": date.as_of.isoformat(), "customers": len(date.customers)} | date.figures
        if theirs:
            row[f"in_service_{metric}"] = None if in_service is None else _figure(in_service)
        if beside:
            said, came = beside
            told.append((said, came, date.customers))
            if yes_no:
                row |= {
                    "calibration_error": _figure(calibration.error(said, came)),
                    "expected": round(float(said.sum()), 2), "came": int(came.sum()),
                    "variance": round(float((said * (1 - said)).sum()), 2),
                }  # fmt: skip
        rows.append(row)
    found = details | {"backtest": rows}
    if told and (served is not None or "table" not in details.get("calibration", {})):
        said, came, customers = (np.concatenate(parts) for parts in zip(*told, strict=True))
        found["calibration"] = details.get("calibration", {}) | {
            "table": calibration.table(said, came, customers, bins)
        }
    return found


def _pair(date: Date[M], theirs: Any) -> Callable[[np.ndarray], tuple[float, float]]:
    return lambda rows: (date.measure(theirs, rows), date.measure(date.ours, rows))


def _noted(outcome: Outcome, said: dict[str, Any]) -> Outcome:
    return replace(outcome, details=outcome.details | {"in_service": said})


def _figure(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None


def _hashed(customers: np.ndarray) -> np.ndarray:
    return np.asarray(pd.util.hash_array(np.asarray(customers, dtype=object)))
