"""Who is held out and who gets which variant: by hash, so that it is the same each time and holdouts nest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

GLOBAL_HOLDOUT = "global_holdout"  # spans campaigns
HOLDOUT = "holdout"


class Arm(NamedTuple):
    """An assignment with its probability; a variant also has its share of the treated when it was drawn."""

    name: str
    probability: float
    share: float | None = None


def unit(salt: str, subject_id: int) -> float:
    """A subject's fixed place in [0, 1) for one purpose; another salt gives an independent place."""
    digest = _salted(salt).copy()
    digest.update(b"%d" % subject_id)
    return (int.from_bytes(digest.digest()) >> 11) / (1 << 53)


@lru_cache(maxsize=64)
def _salted(salt: str) -> hashlib.blake2b:
    return hashlib.blake2b(f"{salt}\0".encode(), digest_size=8)


def assign(
    campaign: str,
    subject_id: int,
    *,
    holdout: float,
    global_holdout: float,
    weights: Mapping[str, float],
    stored: tuple[str, float] | None = None,
    occurrence: str | None = None,
) -> Arm:
    """The arm of a subject: the global holdout, the campaign's, else a variant by weight.

    A larger holdout keeps whom a smaller one held (nested). A variant, once assigned, stays while it exists: `stored`
    is its name and its share then. Where the weights are learned it is drawn anew for each `occurrence`; who is held
    out stays the same.
    """
    if unit(GLOBAL_HOLDOUT, subject_id) < global_holdout:
        return Arm(GLOBAL_HOLDOUT, global_holdout)
    if unit(f"{HOLDOUT}:{campaign}", subject_id) < holdout:
        return Arm(HOLDOUT, (1 - global_holdout) * holdout)
    treated = (1 - global_holdout) * (1 - holdout)
    if stored and stored[0] in weights and occurrence is None:
        name, share = stored
    else:
        salt = f"variant:{campaign}" if occurrence is None else f"variant:{campaign}:{occurrence}"
        name, share = _pick(unit(salt, subject_id), tuple(weights.items()))
    return Arm(name, treated * share, share)


def _pick(place: float, weights: tuple[tuple[str, float], ...]) -> tuple[str, float]:
    for name, share, upper in _cumulated(weights):
        if place < upper:
            return name, share
    return name, share


@lru_cache(maxsize=64)
def _cumulated(weights: tuple[tuple[str, float], ...]) -> list[tuple[str, float, float]]:
    """Each name with its share, and with where its part of [0, 1) ends."""
    total = sum(weight for _, weight in weights)
    uppers = accumulate(weight / total for _, weight in weights)
    return [(name, weight / total, upper) for (name, weight), upper in zip(weights, uppers, strict=True)]
