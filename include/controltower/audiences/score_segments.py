"""AI segments: customers by score in named segments of fixed size, and how many of each came once the days are over.

The first hundredth, the next up to the twentieth, and so on; the rest. Sizes don't depend on the scores, so segments of
two scores, or of one score on two dates, compare like with like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import binomtest

from controltower.errors import BadSpec

EDGES = (0.01, 0.05, 0.1, 0.25, 0.5)  # shares of the customers, the highest scores first
REST = "rest"
LEVEL = 0.95


@dataclass(frozen=True)
class Conversion:
    """Of a segment's customers, how many came: `rate` with its 95 % interval (Wilson 1927), `lift` by everybody's
    rate (None where nobody came)."""

    customers: int
    converted: int
    rate: float
    low: float
    high: float
    lift: float | None


def names(edges: Sequence[float] = EDGES) -> list[str]:
    """The segments, the best first: top_1, top_1_to_5, ... in per cent, and the rest. BadSpec for edges that don't
    rise from above 0 to below 1."""
    edges = list(edges)
    if not edges or edges != sorted(set(edges)) or edges[0] <= 0 or edges[-1] >= 1:
        raise BadSpec(f"Segments can't end at {edges}.", "Give shares that rise, above 0 and below 1: 0.01, 0.05.")
    said = [f"{edge * 100:g}" for edge in edges]
    return [f"top_{said[0]}", *(f"top_{a}_to_{b}" for a, b in pairwise(said)), REST]


def tells_apart(scores: np.ndarray) -> bool:
    """Whether there are scores (NaN: none) that rank anybody: not the same one for everybody."""
    known = np.asarray(scores, dtype=float)
    known = known[~np.isnan(known)]
    return bool(len(known)) and bool(known.min() < known.max())


def cut(customer_ids: np.ndarray, scores: np.ndarray, edges: Sequence[float] = EDGES) -> np.ndarray:
    """By customer (n,), the position of their segment in `names(edges)`.

    The first segments hold n x edge customers, rounded to the nearest; equal scores are ranked by customer id, who has
    none (NaN) comes last. Of few customers, the first segments may be empty.
    """
    count = len(names(edges)) - 1
    n = len(scores)
    if len(customer_ids) != n:
        raise ValueError("customer_ids and scores differ in length")
    unknown = np.isnan(np.asarray(scores, dtype=float))
    order = np.lexsort((customer_ids, np.where(unknown, 0.0, -np.asarray(scores, dtype=float)), unknown))
    ends = [int(edge * n + 0.5) for edge in edges]
    place = np.empty(n, dtype=int)
    place[order] = np.arange(n)
    return np.minimum(np.searchsorted(np.array(ends), place, side="right"), count)


def conversions(segment: np.ndarray, converted: np.ndarray, edges: Sequence[float] = EDGES) -> list[Conversion | None]:
    """Of each of `names(edges)`, how many of its customers came; None of an empty one. segment, converted (0 or 1): by
    customer, (n,), who was scored before and came after."""
    count = len(names(edges))
    size = np.bincount(segment, minlength=count)
    came = np.bincount(segment, weights=np.asarray(converted, dtype=float), minlength=count)
    everybody = float(np.mean(converted)) if len(converted) else 0.0
    return [_conversion(int(k), int(n), everybody) if n else None for k, n in zip(came, size, strict=True)]


def table(
    customer_ids: np.ndarray,
    scores: np.ndarray,
    days_since_last_order: np.ndarray,
    converted: np.ndarray,
    edges: Sequence[float] = EDGES,
) -> list[dict[str, Any]]:
    """A row a segment, as it is shown: `segment`, the fields of Conversion, and those of recency alone beside it.

    Recency alone: whoever ordered last comes first, who never did comes last, in segments of the same sizes, with
    `recency_` before the fields' names. All are (n,) and as of the scores' date, but `converted` (0 or 1): whether the
    customer came within the horizon after it, see `closed`. JSON-able; an empty segment has None.
    """
    by_score = conversions(cut(customer_ids, scores, edges), converted, edges)
    recent = cut(customer_ids, -np.asarray(days_since_last_order, dtype=float), edges)
    by_recency = conversions(recent, converted, edges)
    rows = []
    for name, ours, theirs in zip(names(edges), by_score, by_recency, strict=True):
        beside = {f"recency_{key}": value for key, value in _fields(theirs).items() if key != "customers"}
        rows.append({"segment": name, **_fields(ours), **beside})
    return rows


def closed(as_of: datetime, horizon: int, known_until: datetime | None) -> bool:
    """Whether it can be told who came within `horizon` days after as_of, from orders known until then (None: none)."""
    return known_until is not None and known_until >= as_of + timedelta(days=horizon)


def _conversion(came: int, of: int, everybody: float) -> Conversion:
    interval = binomtest(came, of).proportion_ci(LEVEL, method="wilson")
    rate = float(np.divide(came, of))
    return Conversion(
        of, came, rate, float(interval.low), float(interval.high),
        float(np.divide(rate, everybody)) if everybody > 0 else None,
    )  # fmt: skip


def _fields(one: Conversion | None) -> dict[str, Any]:
    fields = ("customers", "converted", "rate", "low", "high", "lift")
    return asdict(one) if one else {**dict.fromkeys(fields), "customers": 0, "converted": 0}
