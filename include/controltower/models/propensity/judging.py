"""How good a propensity model would have been on past dates, how well calibrated, and how customers changed since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from sklearn.metrics import average_precision_score, roc_auc_score

from controltower.models.propensity.classifiers import RfmLogistic, TreesAndLogistic, logistic
from controltower.models.propensity.snapshots import JUDGED_SNAPSHOTS, Snapshot, closed_by, stack

FEWEST_POSITIVES = 20
WEIGHTS = (0.25, 0.0, 0.5, 1.0)  # of the logistic; the first is taken unless another is better
BINS = 10


class Split(NamedTuple):
    """A past date: who bought after it, and the log-odds that models trained on what was closed then gave them."""

    as_of: datetime
    bought: np.ndarray
    trees: np.ndarray
    linear: np.ndarray
    baseline: np.ndarray

    def ours(self, weight: float) -> np.ndarray:
        return (1 - weight) * self.trees + weight * self.linear


def backtest(snapshots: Sequence[Snapshot], dates: Sequence[datetime], horizon: int) -> list[Split]:
    """The splits of those dates on which there was enough to learn from, newest first."""
    there = {s.as_of: s for s in snapshots}
    made = []
    for date in dates:
        test = there.get(date)
        x, y = stack(closed_by(snapshots, date, horizon, JUDGED_SNAPSHOTS))
        if test is None or not enough(y) or not 0 < test.bought.sum() < len(test.bought):
            continue
        trees, linear = TreesAndLogistic().fit(x, y).both(test.features)
        p = RfmLogistic().fit(x, y).raw(test.features)
        made.append(Split(date, test.bought, trees, linear, np.log(p / (1 - p))))
    return made


def enough(y: np.ndarray) -> bool:
    """Whether labels hold enough of both kinds to learn from."""
    return bool(len(y)) and min(int(y.sum()), len(y) - int(y.sum())) >= FEWEST_POSITIVES


def best_weight(splits: Sequence[Split]) -> float:
    """The logistic's part in the blend: by log loss over all splits, each calibrated by itself."""
    loss = {w: platt([s.ours(w) for s in splits], [s.bought for s in splits])[2] for w in WEIGHTS}
    return min(WEIGHTS, key=lambda w: loss[w])


def metrics(splits: Sequence[Split], scores: Sequence[np.ndarray]) -> dict[str, float]:
    """Means over the splits."""
    return {
        "average_precision": _mean([average_precision_score(s.bought, z) for s, z in zip(splits, scores, strict=True)]),
        "auc": _mean([roc_auc_score(s.bought, z) for s, z in zip(splits, scores, strict=True)]),
        "base_rate": _mean([s.bought.mean() for s in splits]),
    }


def platt(scores: Sequence[np.ndarray], bought: Sequence[np.ndarray]) -> tuple[float, list[float], float]:
    """One slope, an intercept for each date (Platt 1999), and the mean log loss. Slopes below .2 would be noise."""

    def loss(told: np.ndarray) -> tuple[float, np.ndarray]:
        total, gradient = 0.0, np.zeros(len(told))
        for i, (z, y) in enumerate(zip(scores, bought, strict=True)):
            linear = told[0] * z + told[i + 1]
            total += float((np.logaddexp(0, linear) - y * linear).sum())
            off = logistic(linear) - y
            gradient[0] += (off * z).sum()
            gradient[i + 1] = off.sum()
        rows = sum(map(len, scores))
        return total / rows, gradient / rows

    found = minimize(loss, np.r_[1.0, np.zeros(len(scores))], jac=True, method="L-BFGS-B",
                     bounds=[(0.2, 5.0), *[(None, None)] * len(scores)])  # fmt: skip
    return float(found.x[0]), found.x[1:].tolist(), float(found.fun)


def report(splits: Sequence[Split], scores: Sequence[np.ndarray]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """For the card: a row a date, newest first; and the calibration of all but the oldest, in ten bins.

    Each date is calibrated by the dates before it, as it would have been then; the oldest has none.
    """
    rows, said, did = [], [], []
    for i, (split, z) in enumerate(zip(splits, scores, strict=True)):
        row: dict[str, Any] = {
            "as_of": split.as_of.isoformat(), "customers": len(z), "bought": int(split.bought.sum()),
            "average_precision": round(float(average_precision_score(split.bought, z)), 5),
            "baseline_average_precision": round(float(average_precision_score(split.bought, split.baseline)), 5),
        }  # fmt: skip
        if i + 1 < len(splits):
            slope, intercepts, _ = platt(scores[i + 1 :], [s.bought for s in splits[i + 1 :]])
            p = logistic(slope * z + float(np.mean(intercepts)))
            row["calibration_error"] = round(calibration_error(split.bought, p), 5)
            said.append(p)
            did.append(split.bought)
        rows.append(row)
    if not said:
        return rows, []
    p, y = np.concatenate(said), np.concatenate(did)
    bins = [b for b in np.array_split(np.argsort(p, kind="stable"), BINS) if len(b)]
    table = [{"customers": len(b), "said": round(float(p[b].mean()), 5), "bought": round(float(y[b].mean()), 5)}
             for b in bins]  # fmt: skip
    return rows, table


def calibration_error(bought: np.ndarray, p: np.ndarray) -> float:
    """The mean distance of what was said from what came, in ten bins of equal size by probability."""
    bins = [b for b in np.array_split(np.argsort(p, kind="stable"), BINS) if len(b)]
    return float(sum(len(b) * abs(bought[b].mean() - p[b].mean()) for b in bins) / len(p))


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


def drift(before: pd.DataFrame, now: pd.DataFrame, columns: Sequence[str], most: int = 5) -> dict[str, float]:
    """The features whose distribution moved most from training to today, with their stability index."""
    moved = {
        c: stability(before[c].to_numpy(float), now[c].to_numpy(float)) for c in columns if c in before and c in now
    }
    return {c: round(moved[c], 4) for c in sorted(moved, key=lambda c: -moved[c])[:most]}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 5)
