"""Daily and weekly rhythms: hours on a circle, days that share their hours, and a few kinds of rhythm that people have.

Counts (n, 168) are of hours of the week. DAYS says which days share their hours; counts of days that do are added up:
(n, groups x 24).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DAYS = {
    "every_day": np.zeros(7, int),
    "weekend": np.array([0, 0, 0, 0, 0, 1, 1]),
    "each_day": np.arange(7),
}
WIDTHS = (0.0, 1.0, 2.0)  # hours: standard deviation of what is smoothed by
CLUSTERS = (1, 2, 3, 4, 6, 8, 12, 16)
FLOOR = 0.02  # of a cluster's rhythm that is spread over all hours: nobody's hour is impossible
ROUNDS = 40


def circle(width: float) -> np.ndarray:
    """(24, 24): what counts (.., 24) are multiplied by to smooth them around the clock; 0 leaves them as they are."""
    if not width:
        return np.eye(24, dtype=np.float32)
    away = np.abs(np.arange(24)[:, None] - np.arange(24))
    kernel = np.exp(-0.5 * (np.minimum(away, 24 - away) / width) ** 2)
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True), np.float32)


def pooled(counts: np.ndarray, days: str, width: float) -> np.ndarray:
    """(n, groups x 24) of counts (n, 168): summed over days that share their hours, and smoothed."""
    groups = DAYS[days]
    week = counts.reshape(len(counts), 7, 24)
    summed = np.stack([week[:, groups == g].sum(axis=1) for g in range(groups.max() + 1)], axis=1)
    return (summed @ circle(width)).reshape(len(counts), summed.shape[1] * 24)


def window_sums(shares: np.ndarray) -> np.ndarray:
    """Each hour's share (.., 24) together with those of the hours before and after, around the clock."""
    return np.roll(shares, 1, axis=-1) + shares + np.roll(shares, -1, axis=-1)


class Rhythms(NamedTuple):
    """A mixture of multinomials: kinds of people by their shares of hours (k, cells), and how usual they are (k,)."""

    shares: np.ndarray
    usual: np.ndarray

    def member(self, counts: np.ndarray) -> np.ndarray:
        """(n, k): how likely people with counts (n, cells) are of each kind."""
        logs = counts @ np.log(self.shares).T.astype(counts.dtype) + np.log(self.usual)
        logs -= logs.max(axis=1, keepdims=True)
        likely = np.exp(logs)
        return np.asarray(likely / likely.sum(axis=1, keepdims=True))

    def log_likelihood(self, counts: np.ndarray) -> float:
        """Of counts (n, cells), in the mean per person."""
        logs = counts @ np.log(self.shares).T + np.log(self.usual)
        top = logs.max(axis=1, keepdims=True)
        return float((top[:, 0] + np.log(np.exp(logs - top).sum(axis=1))).mean())


def learn(counts: np.ndarray, smooth: np.ndarray, seed: int) -> Rhythms:
    """As many kinds of rhythm as explain people held out best; `smooth` are the counts, smoothed. Both (n, cells).

    EM (Dempster, Laird and Rubin 1977) on half of the people tells how well each number of CLUSTERS explains the
    others' plain counts; a larger number must explain more. The number chosen is learned once more, from everybody.
    Equal counts and seed give equal rhythms.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(counts))
    some, others = order[::2], order[1::2]
    best, number = -np.inf, 1
    for k in CLUSTERS:
        if len(some) < 50 * k:
            break
        explained = _em(smooth[some], k, seed).log_likelihood(counts[others])
        if explained <= best:
            break
        best, number = explained, k
    return _em(smooth, number, seed)


def _em(smooth: np.ndarray, k: int, seed: int) -> Rhythms:
    cells = smooth.shape[1]
    everyone = _spread(smooth.sum(axis=0, keepdims=True))
    if k == 1 or not len(smooth):
        return Rhythms(everyone, np.ones(1))
    rhythms = Rhythms(_apart(smooth, k, seed), np.full(k, 1 / k))
    for _ in range(ROUNDS):
        likely = rhythms.member(smooth)
        # one more person of everyone's rhythm in each kind: none dies out
        shares = _spread(likely.T @ smooth + cells * 0.1 * everyone)
        usual = likely.mean(axis=0) + 1 / len(smooth)
        rhythms = Rhythms(shares, usual / usual.sum())
    return rhythms


def _apart(smooth: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The rhythms of k people who differ (k-means++, Arthur and Vassilvitskii 2007), each halfway to everyone's."""
    rng = np.random.default_rng(seed)
    total = smooth.sum(axis=1)
    root = np.sqrt(smooth / np.maximum(total, 1e-9)[:, None])
    chosen = [int(rng.choice(len(root), p=total / total.sum()))]
    while len(chosen) < k:
        away = np.min([((root - root[c]) ** 2).sum(axis=1) for c in chosen], axis=0) * np.sqrt(total) + 1e-12
        chosen.append(int(rng.choice(len(root), p=away / away.sum())))
    everyone = smooth.sum(axis=0) / total.sum()
    return _spread(0.5 * root[chosen] ** 2 + 0.5 * everyone)


def _spread(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, counts / np.where(total > 0, total, 1), 1 / counts.shape[1])
    return np.asarray((1 - FLOOR) * shares + FLOOR / counts.shape[1])
