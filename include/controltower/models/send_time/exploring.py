"""Which hour a message is sent in: the best of those allowed, or, for a set share, any of them at random.

The best hour alone teaches nothing of the others. So a share of messages goes at a random allowed hour, drawn from a
keyed hash: the same message always gets the same hour. Each choice comes with its probability; by it, what other rules
would have brought can be estimated without bias (inverse propensity: Horvitz and Thompson 1952; Li et al. 2011).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from controltower.models.send_time.evidence import HOURS

NONE = -1  # no hour is allowed


class Chosen(NamedTuple):
    """By message: the hour's place among those asked about (NONE: none was allowed), the place of the best one, how
    likely the hour was chosen, whether it was drawn at random. A random draw may be the best hour: its probability
    counts both ways of choosing it."""

    hour: np.ndarray
    best: np.ndarray
    probability: np.ndarray
    explored: np.ndarray


def scores(week: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """(n, k): how much of tables (n, 168, uint8) lies within an hour of each of these hours (k,) of the week."""
    return sum(week[:, (hours + off) % HOURS].astype(np.uint16) for off in (-1, 0, 1))  # type: ignore[return-value]


def choose(table: np.ndarray, allowed: np.ndarray, share: float, key: str, customers: Sequence[str]) -> Chosen:
    """An hour for each customer's message, of k hours that may follow each other over days.

    `table` (n, k) are `scores`; the first of equal hours is the best. `allowed` are flags, (k,) or (n, k). `share`
    (0-1) goes at random, each allowed hour being equally likely. `key` names campaign and occurrence: with the customer
    it decides the draw, which depends on nothing else. Raises ValueError where share is no share.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share of random hours must lie between 0 and 1, not at {share}.")
    n = len(customers)
    allowed = np.broadcast_to(np.asarray(allowed, bool), (n, table.shape[1]))
    number = allowed.sum(axis=1)
    any_hour = number > 0
    best = np.where(allowed, table, -np.inf).argmax(axis=1)
    place = places(key, customers)
    explored = (place < share) & any_hour
    # Of who explores, the place is uniform in [0, share): cut into as many pieces as there are hours.
    nth = np.minimum((place / max(share, 1e-12) * number).astype(int), number - 1)
    drawn = (allowed.cumsum(axis=1) > nth[:, None]).argmax(axis=1)
    hour = np.where(explored, drawn, best)
    probability = share / np.maximum(number, 1) + (1 - share) * (hour == best)
    return Chosen(
        np.where(any_hour, hour, NONE), np.where(any_hour, best, NONE), np.where(any_hour, probability, 0.0), explored
    )


def places(key: str, customers: Sequence[str]) -> np.ndarray:
    """Each customer's fixed place in [0, 1) for one campaign's occurrence; another key gives independent places."""
    salted = hashlib.blake2b(f"send_hour:{key}\0".encode(), digest_size=8)
    digests = []
    for customer in customers:
        digest = salted.copy()
        digest.update(customer.encode())
        digests.append(digest.digest())
    return np.asarray((np.frombuffer(b"".join(digests), ">u8") >> np.uint64(11)) / (1 << 53))
