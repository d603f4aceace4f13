"""Intervals for the difference between two groups."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

LEVEL = 0.95
POWER = 0.8


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson(hits: float, of: int, level: float = LEVEL) -> tuple[float, float]:
    """The score interval of a single share (Wilson 1927)."""
    z, share = _z(level), hits / of
    middle = share + z * z / (2 * of)
    spread = z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    whole = 1 + z * z / of
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)


def newcombe(hits_1: float, of_1: int, hits_2: float, of_2: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of share 1 - share 2: the hybrid score method, without continuity correction.

    Method 10 of R. G. Newcombe, "Interval estimation for the difference between independent proportions: comparison of
    eleven methods", Statistics in Medicine 17 (1998) 873-890. Unlike the textbook one, it also holds for rare orders
    and for groups of very different size. Both groups must have somebody.
    """
    share_1, share_2 = hits_1 / of_1, hits_2 / of_2
    low_1, high_1 = wilson(hits_1, of_1, level)
    low_2, high_2 = wilson(hits_2, of_2, level)
    difference = share_1 - share_2
    return (
        difference - sqrt((share_1 - low_1) ** 2 + (high_2 - share_2) ** 2),
        difference + sqrt((high_1 - share_1) ** 2 + (share_2 - low_2) ** 2),
    )


def careful_welch(mean_1: float, variance_1: float, of_1: int, mean_2: float, variance_2: float, of_2: int,
                  level: float = LEVEL) -> tuple[float, float]:  # fmt: skip
    """The interval of mean 1 - mean 2: Welch's (1947), with neither variance taken for less than the pooled one. Both
    groups must have two members or more.

    Revenue per customer is mostly nothing and sometimes much. A small holdout often lacks its share of big spenders,
    and then shows too low a mean and too low a spread at once: Welch's own interval covered 84 % instead of 95 % at
    9,000 against 100 customers, and too often said that the campaign paid. This one covered 96 % or more in all we
    tried.
    """
    pooled = ((of_1 - 1) * variance_1 + (of_2 - 1) * variance_2) / (of_1 + of_2 - 2)
    error_1, error_2 = max(variance_1, pooled) / of_1, max(variance_2, pooled) / of_2
    error, difference = error_1 + error_2, mean_1 - mean_2
    if error == 0:
        return difference, difference
    freedom = error**2 / (error_1**2 / (of_1 - 1) + error_2**2 / (of_2 - 1))
    spread = _student(level, freedom) * sqrt(error)
    return difference - spread, difference + spread


def _student(level: float, freedom: float) -> float:
    """Student's quantile by its expansion around the normal one (Abramowitz and Stegun 26.7.5)."""
    z, v = _z(level), freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def detectable(share: float, of_1: int, of_2: int, power: float = POWER) -> float:
    """The smallest rise of share 1 that groups of these sizes show with this power, where a `share` orders anyway:
    newcombe's interval leaves out 0 for a sample as unlucky as `1 - power` are. The largest possible rise if none is.
    """
    unlucky = NormalDist().inv_cdf(power)
    low, high = 0.0, 1 - share
    for _ in range(40):
        rise = (low + high) / 2
        risen = share + rise
        error = sqrt(risen * (1 - risen) / of_1 + share * (1 - share) / of_2)
        seen = max(0.0, risen - unlucky * error)
        shown = newcombe(seen * of_1, of_1, share * of_2, of_2)[0] > 0
        low, high = (low, rise) if shown else (rise, high)
    return high
