"""Interactions whose right recommendations are known."""

from __future__ import annotations

import numpy as np
import pytest
from controltower.models.recommend.interactions import ORDER, Interactions, from_arrays
from controltower.profiles.portable import DAY

NOW = 20_000 * DAY
GROUPS, PER_GROUP = 3, 8  # tastes, and products of each


def planted(seed: int = 1, customers: int = 120, rename: np.random.Generator | None = None) -> Interactions:
    """Customers of three tastes buy products of their own taste only, about ten of eight on different days.

    With `rename`, customers and products get other ids (and so other positions); what they do stays.
    """
    rng = np.random.default_rng(seed)
    products = np.array([f"p{i:02}" for i in range(GROUPS * PER_GROUP)])
    people = np.array([f"c{i:03}" for i in range(customers)])
    who = np.repeat(np.arange(customers), 10)
    what = (who % GROUPS) * PER_GROUP + rng.integers(0, PER_GROUP, len(who))
    when = NOW - rng.integers(1, 200, len(who)) * DAY
    if rename is not None:
        people, products = rename.permutation(people), rename.permutation(products)
    return from_arrays(
        np.sort(people), np.sort(products), people[who], products[what], when, np.full(len(who), ORDER), NOW
    )


@pytest.fixture(scope="session")
def interactions() -> Interactions:
    return planted()
