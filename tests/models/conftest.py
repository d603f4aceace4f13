"""Interactions whose right recommendations are known."""

from __future__ import annotations

from dataclasses import replace

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


def two_sites(
    seed: int = 1,
    per_site: int = 1000,
    kinds: tuple[str, str] = ("again", "next"),
    names: tuple[str, str] = ("cn", "kr"),
    rename: np.random.Generator | None = None,
) -> Interactions:
    """Two sites with the same 60 products, 8 orders a customer; at each of two kinds.

    again: they buy three products of their own again and again. next: seven times in ten what this product leads to.
    With `rename`, customers and products get other ids (and so other positions); what they do stays.
    """
    rng = np.random.default_rng(seed)
    orders, leads = 8, rng.permutation(60)
    who, what, when = [], [], []
    for site, kind in enumerate(kinds):
        own, at = rng.integers(0, len(leads), (per_site, 3)), rng.integers(0, len(leads), per_site)
        days = np.sort(rng.integers(1, 200, (per_site, orders)), axis=1)[:, ::-1]
        for n in range(orders):
            if kind == "again":
                at = own[np.arange(per_site), rng.integers(0, 3, per_site)]
            else:
                at = np.where(rng.random(per_site) < 0.7, leads[at], rng.integers(0, len(leads), per_site))
            who.append(site * per_site + np.arange(per_site))
            what.append(at)
            when.append(NOW - days[:, n] * DAY)
    people = np.array([f"c{i:05}" for i in range(2 * per_site)])
    products = np.array([f"p{i:02}" for i in range(len(leads))])
    if rename is not None:
        people, products = rename.permutation(people), rename.permutation(products)
    data = from_arrays(
        np.sort(people), np.sort(products), people[np.concatenate(who)], products[np.concatenate(what)],
        np.concatenate(when), np.full(2 * per_site * orders, ORDER), NOW,
    )  # fmt: skip
    segments = np.full((2 * per_site, 2), "", dtype=np.array(names).dtype)
    segments[:, 0] = np.repeat(names, per_site)[np.argsort(people)]
    return replace(data, segments=segments)


@pytest.fixture(scope="session")
def interactions() -> Interactions:
    return planted()
