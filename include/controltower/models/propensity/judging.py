"""How good a propensity model would have been on past dates, how well calibrated, and how customers changed since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from sklearn.metrics import average_precision_score, roc_auc_score

from controltower.models import calibration
from controltower.models.boosting import telling
from controltower.models.propensity.classifiers import RfmLogistic, TreesAndLogistic, log_odds, logistic
from controltower.models.propensity.snapshots import JUDGED_SNAPSHOTS, Snapshot, closed_by, stack
from controltower.models.publication import half

FEWEST_POSITIVES = 20
WEIGHTS = (0.25, 0.0, 0.5, 1.0)  # of the logistic; the first is taken unless another is better


class Split(NamedTuple):
    """A past date: who bought after it, and the log-odds that models trained on what was closed then gave them."""

    snapshot: Snapshot
    trees: np.ndarray
    linear: np.ndarray
    baseline: np.ndarray

    @property
    def as_of(self) -> datetime:
        return self.snapshot.as_of

    @property
    def bought(self) -> np.ndarray:
        return self.snapshot.bought

    @property
    def customers(self) -> np.ndarray:
        return self.snapshot.features.index.to_numpy()

    def ours(self, weight: float) -> np.ndarray:
        return (1 - weight) * self.trees + weight * self.linear


def backtest(snapshots: Sequence[Snapshot], dates: Sequence[datetime], horizon: int) -> list[Split]:
    """The splits of those dates on which there was enough to learn from, newest first."""
    there = {s.as_of: s for s in snapshots}
    made = []
    for date in dates:
        test = there.get(date)
        x, y = stack(closed_by(snapshots, date, horizon, JUDGED_SNAPSHOTS))
        if test is None or not enough(y) or not telling(x) or not 0 < test.bought.sum() < len(test.bought):
            continue
        trees, linear = TreesAndLogistic().fit(x, y).both(test.features)
        made.append(Split(test, trees, linear, log_odds(RfmLogistic().fit(x, y).raw(test.features))))
    return made


def enough(y: np.ndarray) -> bool:
    """Whether labels hold enough of both kinds to learn from."""
    return bool(len(y)) and min(int(y.sum()), len(y) - int(y.sum())) >= FEWEST_POSITIVES


def best_weight(splits: Sequence[Split], rows: Sequence[np.ndarray] | None = None) -> float:
    """The logistic's part in the blend: by log loss over all splits, each calibrated by itself.

    rows: a mask for each split, if only some customers are to choose; too few buyers among them choose nothing.
    """
    some = rows or [np.ones(len(s.bought), dtype=bool) for s in splits]
    bought = [s.bought[r] for s, r in zip(splits, some, strict=True)]
    if sum(int(b.sum()) for b in bought) < FEWEST_POSITIVES:
        return WEIGHTS[0]
    loss = {w: platt([s.ours(w)[r] for s, r in zip(splits, some, strict=True)], bought)[2] for w in WEIGHTS}
    return min(WEIGHTS, key=lambda w: loss[w])


def blended(splits: Sequence[Split]) -> list[np.ndarray]:
    """What the blend says on each split, of each half of the customers with the part that fits the other half best:
    so it is judged on nobody by whom it was chosen."""
    halves = [half(s.customers) for s in splits]
    by_one, by_other = best_weight(splits, halves), best_weight(splits, [~h for h in halves])
    return [np.where(h, s.ours(by_other), s.ours(by_one)) for s, h in zip(splits, halves, strict=True)]


def metrics(splits: Sequence[Split], scores: Sequence[np.ndarray]) -> dict[str, float]:
    """Means over the splits."""
    return {
        "average_precision": _mean([average_precision_score(s.bought, z) for s, z in zip(splits, scores, strict=True)]),
        "auc": _mean([roc_auc_score(s.bought, z) for s, z in zip(splits, scores, strict=True)]),
        "base_rate": _mean([s.bought.mean() for s in splits]),
    }


def measured(bought: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """How good probabilities were by who bought (0 or 1). Calibration errors are of ten groups of equal size: as said,
    and with everyone's shifted so that their sum is right. `top_tenth` is the share of the likeliest who bought."""
    right = np.clip(p * bought.mean() / max(float(p.mean()), 1e-12), 0, 1)
    top = np.argsort(-p, kind="stable")[: max(1, len(p) // 10)]
    return {
        "average_precision": float(average_precision_score(bought, p)),
        "auc": float(roc_auc_score(bought, p)),
        "calibration_error": calibration.error(p, bought),
        "calibration_error_sum_right": calibration.error(right, bought),
        "base_rate": float(bought.mean()),
        "said_rate": float(p.mean()),
        "top_tenth": float(bought[top].mean()),
    }


def precision_of(bought: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
    """The average precision of scores among some of the rows (a mask)."""
    return lambda scores, rows: float(average_precision_score(bought[rows], scores[rows]))


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


def calibrated(splits: Sequence[Split], scores: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """By split, newest first, the probabilities of its scores: calibrated by the dates before it, as it would have been
    then; the oldest has none."""
    said: list[np.ndarray | None] = []
    for i, z in enumerate(scores):
        before = splits[i + 1 :]
        if not before:
            said.append(None)
            continue
        slope, intercepts, _ = platt(scores[i + 1 :], [s.bought for s in before])
        said.append(logistic(slope * z + float(np.mean(intercepts))))
    return said


def drift(before: pd.DataFrame, now: pd.DataFrame, columns: Sequence[str], most: int = 5) -> dict[str, float]:
    """The features whose distribution moved most from training to today, with their stability index."""
    moved = {
        c: calibration.stability(before[c].to_numpy(float), now[c].to_numpy(float))
        for c in columns
        if c in before and c in now
    }
    return {c: round(moved[c], 4) for c in sorted(moved, key=lambda c: -moved[c])[:most]}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 5)
