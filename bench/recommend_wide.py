"""What choosing and training costs where there are far more products than anybody asks for.

RECOMMEND_PRODUCTS (10,000,000) products in 300 categories, each viewed once, by one of 20 customers: each of whom is
capped. And 60 orders. CPU-seconds and the peak of memory, ids and catalogue (1.9 GB of 10 million) with it.
`python -m bench recommend_wide`
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.interactions import ORDER, VIEW, Interactions, from_positions
from controltower.profiles.portable import DAY
from threadpoolctl import threadpool_limits

PRODUCTS = int(os.environ.get("RECOMMEND_PRODUCTS", "10000000"))
CUSTOMERS, ORDERS, DAYS, NOW = 20, 60, 140, 20_594 * DAY


def run() -> Iterator[dict[str, Any]]:
    with multiprocessing.get_context("spawn").Pool(1) as pool, threadpool_limits(1):
        yield from pool.apply(_measured)


def _drawn() -> Interactions:
    ids = np.concatenate([[f"p{n:08}" for n in range(i, i + 100_000)] for i in range(0, PRODUCTS, 100_000)])[:PRODUCTS]
    number = np.arange(PRODUCTS)
    category, brand = (
        np.array([f"{name} {n}" for n in range(count)], dtype=object)[number % count]
        for name, count in (("category", 300), ("brand", 5000))
    )
    title = np.fromiter((f"Thing {n} of {n % 997}" for n in range(PRODUCTS)), object, PRODUCTS)
    since = np.full(PRODUCTS, np.datetime64("NaT"), "datetime64[us]")
    catalogue = Catalogue(ids, title, category, brand, 1000.0 + number % 9000, np.full(PRODUCTS, np.nan), since)
    order = np.arange(ORDERS)
    found = from_positions(
        np.array([f"c{n:02}" for n in range(CUSTOMERS)]), ids, np.r_[number, order] % CUSTOMERS,
        np.r_[number, np.random.default_rng(1).integers(0, PRODUCTS, ORDERS)],
        np.r_[NOW - number * 7919 % (DAYS * DAY), NOW - order * 2 * DAY],
        np.r_[np.full(PRODUCTS, VIEW), np.full(ORDERS, ORDER)], NOW,
    )  # fmt: skip
    return replace(found, catalogue=catalogue)


def _measured() -> list[dict[str, Any]]:
    from controltower.models.recommend import choose

    history = _drawn()
    with threadpool_limits(1):
        begun = time.process_time()
        choose.train(history, np.ones(PRODUCTS, dtype=bool))
        spent = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        {"name": f"choosing and training for {PRODUCTS:,} products", "value": spent, "unit": "CPU-s"},
        {"name": "peak", "value": peak, "unit": "MB"},
    ]
