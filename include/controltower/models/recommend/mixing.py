"""Numbers of 64 bits that stand for what was mixed into them: equal for the same, and by chance only otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np


def mixed(values: np.ndarray) -> np.ndarray:
    """Numbers of 64 bits as others, all different: splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    x = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ x >> np.uint64(31))


def summed(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The sum of each group's numbers, as many as counted, one group after the other: their order doesn't matter."""
    totals = np.r_[np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)]
    ends = np.cumsum(counts)
    return np.asarray(totals[ends] - totals[ends - counts])


def of_texts(texts: Iterable[str]) -> np.ndarray:
    """The number of each text."""
    made = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(made), np.uint64)
