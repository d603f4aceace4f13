"""What was said beside what came, and whether a population is still the one that was learned from: for the cards."""

from __future__ import annotations

import numpy as np

BINS = 10
SURELY = 1.96  # standard errors: a 95 % interval


def table(said: np.ndarray, came: np.ndarray, customers: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """The calibration plot: in groups of equal size by what was said, how many were judged, and the means of both.

    `low` and `high` are the 95 % interval of the mean of what came; what came of one of the customers' ids (n,) several
    times depends on each other. Where it came or not (0, 1), it is Wilson's (1927) of as many as tell as much apart.
    """
    rows = []
    yes_no = bool(np.isin(came, (0, 1)).all())
    for b in _bins(said, bins):
        mean = float(came[b].mean())
        who = np.unique(customers[b], return_inverse=True)[1]
        variance = float((np.bincount(who, weights=came[b] - mean) ** 2).sum()) / len(b) ** 2  # of the mean
        if yes_no:
            n = min(mean * (1 - mean) / variance, len(b)) if variance else int(who.max()) + 1
            middle, z = (mean + SURELY**2 / (2 * n)) / (1 + SURELY**2 / n), SURELY / (1 + SURELY**2 / n)
            error = z * float(np.sqrt(mean * (1 - mean) / n + SURELY**2 / (4 * n**2)))
            low, high = max(middle - error, 0.0), min(middle + error, 1.0)
        else:
            error = SURELY * float(np.sqrt(variance))
            low = max(mean - error, min(float(came.min()), 0.0))  # no amount or share lies below 0
            high = mean + error
        means = {"said": float(said[b].mean()), "came": mean, "low": low, "high": high}
        rows.append({"customers": len(b)} | {name: round(value, 5) for name, value in means.items()})
    return rows


def error(said: np.ndarray, came: np.ndarray) -> float:
    """The mean distance of what was said from what came, in ten groups of equal size by what was said."""
    return float(sum(len(b) * abs(came[b].mean() - said[b].mean()) for b in _bins(said)) / max(len(said), 1))


def drift(before: np.ndarray, now: np.ndarray) -> dict[str, float]:
    """How what is said of customers moved from a past date to today."""
    return {"score_stability": round(stability(before, now), 4)}


def stability(before: np.ndarray, now: np.ndarray) -> float:
    """The population stability index of two samples, in tenths of the first: below .1 is alike, above .25 is another
    population (Siddiqi 2006, Credit Risk Scorecards). NaN is a group of its own."""
    known = before[~np.isnan(before)]
    if not len(before) or not len(now):
        return 0.0
    edges = np.unique(np.quantile(known, np.linspace(0.1, 0.9, 9))) if len(known) else np.zeros(0)

    def shares(values: np.ndarray) -> np.ndarray:
        group = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))
        return (np.bincount(group, minlength=len(edges) + 2) + 0.5) / (len(values) + 0.5 * (len(edges) + 2))

    one, other = shares(before), shares(now)
    return float(((other - one) * np.log(other / one)).sum())


def _bins(said: np.ndarray, bins: int = BINS) -> list[np.ndarray]:
    return [b for b in np.array_split(np.argsort(said, kind="stable"), bins) if len(b)]
