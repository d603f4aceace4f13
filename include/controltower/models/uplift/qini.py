"""What ranking by uplift gains over treating as many at random: the Qini curve and its coefficient, with intervals.

Each row has a gain whose mean over any group is the effect of treating that group: augmented inverse-propensity
weighting (Robins, Rotnitzky and Zhao 1994), unbiased where propensities are known. V(q) is the sum of gains of the
share q that ranks first, by the number of all rows; the Qini curve (Radcliffe 2007) is V(q), random treatment the line
q V(1), the coefficient the area between them: the mean of gain x (1/2 - rank), a weighted mean as in Yadlowsky et al.
2025 ("Evaluating treatment prioritization rules via rank-weighted average treatment effects"). Its error is that of a
mean, given the ranking: so the ranking must come from other rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.stats import rankdata

from controltower.models.uplift.trials import Experiment

LEVEL = 0.95
POINTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A mean over customers with its interval, in units of the outcome per customer."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, terms: np.ndarray, customer: np.ndarray, level: float = LEVEL) -> Estimate:
        """The mean of terms (n,); rows of one customer (positions, n) may depend on each other."""
        n = len(terms)
        if not n:
            return cls(float("nan"), float("nan"), float("nan"))
        value = float(terms.mean())
        spread = NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt((_sums(terms - value, customer) ** 2).sum())) / n
        return cls(value, value - spread, value + spread)

    @property
    def error(self) -> float:
        """The standard error of an estimate of the usual level."""
        return (self.high - self.low) / 2 / NormalDist().inv_cdf((1 + LEVEL) / 2)


def gains(experiment: Experiment, untreated: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """By row, (n,): what was expected untreated and treated, from other rows, corrected by what happened."""
    e, y, t = experiment.propensity, experiment.outcome, experiment.treated
    return treated - untreated + t * (y - treated) / e - (1 - t) * (y - untreated) / (1 - e)


def terms(score: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """By row, what it adds to the Qini coefficient, which is their mean. Equal scores share a rank."""
    return (gain - gain.mean()) * (0.5 - ranks(score)) if len(gain) else np.zeros(0)


def coefficient(score: np.ndarray, gain: np.ndarray, customer: np.ndarray | None = None) -> Estimate:
    """The Qini coefficient of scores (n,) that didn't see these rows; 0 for equal scores."""
    return Estimate.of(terms(score, gain), np.arange(len(gain)) if customer is None else customer)


def curve(rank: np.ndarray, gain: np.ndarray, customer: np.ndarray) -> list[dict[str, float]]:
    """At each of POINTS: `share` treated, `gain` V(share), `random` share x V(1), and the difference with its interval
    `over_random`, `low`, `high`: all per customer. `rank` (n,) is from 0 (first) to 1, see `ranks`."""
    points = []
    centred = gain - gain.mean()
    for share in POINTS:
        inside = np.clip((share - rank) * len(rank) + 0.5, 0, 1)  # the row at the edge counts by its part
        over = Estimate.of(centred * (inside - inside.mean()), customer)
        points.append(
            {
                "share": share, "gain": float((gain * inside).mean()), "random": share * float(gain.mean()),
                "over_random": over.value, "low": over.low, "high": over.high,
            }
        )  # fmt: skip
    return points


def ranks(score: np.ndarray) -> np.ndarray:
    """By row, its place between 0 (the highest score) and 1; equal ones share the middle of theirs."""
    return (rankdata(-score) - 0.5) / max(len(score), 1)


def _sums(values: np.ndarray, customer: np.ndarray) -> np.ndarray:
    return np.bincount(np.unique(customer, return_inverse=True)[1], weights=values)
