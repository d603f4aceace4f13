"""What a day's lists cost: choosing who serves, everybody's lists as rows, and what the app answers from.

RECOMMEND_CUSTOMERS (1,000,000) drawn customers of 100,000 products in 300 categories, with 12 purchases each on
average, two thirds of them in categories of their own taste; 12 products a customer for each placement. Then the day
after, on which one in twenty buys something: all lists of it made anew, and those of the others taken over. CPU-seconds
of one process, and its peak of memory. Reading the facts isn't in it: `features_large` tells what that costs.
`python -m bench recommend_batch`
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.history import Allowed
from controltower.models.recommend.interactions import ORDER, VIEW, Interactions, from_positions
from controltower.models.recommend.today import Known, Today
from controltower.profiles.portable import DAY
from controltower.shop import Shop
from threadpoolctl import threadpool_limits

CUSTOMERS = int(os.environ.get("RECOMMEND_CUSTOMERS", "1000000"))
PRODUCTS, CATEGORIES, PURCHASES, DAYS, K = 100_000, 300, 12, 365, 12
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def run() -> Iterator[dict[str, Any]]:
    with multiprocessing.get_context("spawn").Pool(1) as pool, threadpool_limits(1):
        yield from pool.apply(_measured)


def drawn(customers: int) -> Interactions:
    """Purchases, and a view before every second one."""
    rng = np.random.default_rng(7)
    per = rng.geometric(1 / PURCHASES, customers)
    customer = np.repeat(np.arange(customers), per)
    count = len(customer)
    taste = rng.integers(0, CATEGORIES, (customers, 3))
    own = taste[customer, rng.integers(0, 3, count)]
    category = np.where(rng.random(count) < 2 / 3, own, rng.integers(0, CATEGORIES, count))
    within = PRODUCTS // CATEGORIES
    product = category + CATEGORIES * np.minimum((within * rng.random(count) ** 3).astype(int), within - 1)
    second = int(NOW.timestamp()) - (rng.random(count) * DAYS * DAY).astype(int) - 1
    viewed = rng.random(count) < 0.5
    ids = np.array([f"c{n:07}" for n in range(customers)]), np.array([f"p{n:06}" for n in range(PRODUCTS)])
    return from_positions(
        *ids, np.r_[customer, customer[viewed]], np.r_[product, product[viewed]],
        np.r_[second, second[viewed] - 3600], np.r_[np.full(count, ORDER), np.full(int(viewed.sum()), VIEW)],
        int(NOW.timestamp()),
    )  # fmt: skip


def catalogue(history: Interactions) -> Catalogue:
    number = np.arange(PRODUCTS)
    texts = {
        name: np.array([f"{name} {n}" for n in values.tolist()], dtype=object)
        for name, values in (("title", number), ("category", number % CATEGORIES), ("brand", number % 997))
    }
    price = np.random.default_rng(1).lognormal(3, 1, PRODUCTS)
    since = np.full(PRODUCTS, np.datetime64("2020-01-01"), "datetime64[us]")
    return Catalogue(
        history.product_ids, texts["title"], texts["category"], texts["brand"], price, np.full(PRODUCTS, 0.3), since
    )


def _today(history: Interactions, at: datetime) -> Today:
    """As if this history were read from a lake, of customers alone."""
    everything = np.ones(PRODUCTS, dtype=bool)
    today = Today(SimpleNamespace(), at, Shop.model_construct(recommendations={}, timezone="UTC"))  # type: ignore[arg-type]
    known = Known(today, history.product_ids)
    none = np.zeros(0, np.int64)
    nobody = from_positions(np.zeros(0, "<U1"), history.product_ids, none, none, none, none, history.until)
    known.__dict__.update(
        customers=history, visitors=nobody, subscribed=None, allowed={"": Allowed(everything, everything)}
    )
    today.__dict__["_read"] = [known]
    return today


def _later(history: Interactions) -> Interactions:
    """A day later: one customer in twenty bought something."""
    rng = np.random.default_rng(8)
    bought = np.flatnonzero(rng.random(len(history.customer_ids)) < 0.05)
    count, until = len(bought), history.until + DAY
    found = from_positions(
        history.customer_ids, history.product_ids, np.r_[history.customer, bought],
        np.r_[history.product, rng.integers(0, PRODUCTS, count)],
        np.r_[history.second, until - rng.integers(1, DAY, count)], np.r_[history.kind, np.full(count, ORDER)], until,
    )  # fmt: skip
    return replace(found, catalogue=history.catalogue)


def _measured() -> list[dict[str, Any]]:
    from controltower.data.lake import Lake, interval_key
    from controltower.jobs.training import store
    from controltower.models.recommend import batch, choose
    from controltower.models.recommend.placements import OFFER, PLACEMENTS
    from controltower.models.recommend.taken_over import Earlier
    from controltower.models.registry import Registry
    from controltower.settings import Settings

    history = drawn(CUSTOMERS)
    history = replace(history, catalogue=catalogue(history))
    root = Path(tempfile.mkdtemp())
    rows = []
    try:
        with threadpool_limits(1):
            begun = time.process_time()
            outcomes = choose.train(history, np.ones(PRODUCTS, dtype=bool))
            rows.append({"name": "choosing and training, all tasks", "value": time.process_time() - begun})
            registry = Registry(root)
            for outcome in outcomes:
                store(registry, outcome, NOW, NOW)
            del outcomes
            lake = Lake(Settings(home=root))
            today, tomorrow = NOW, NOW + timedelta(days=1)
            parts: dict[str, Any] = {}
            for placement in PLACEMENTS:
                if placement == OFFER:
                    continue
                begun = time.process_time()
                lists = batch.recommend(registry, _today(history, today), placement, K)
                rows.append({
                    "name": f"{placement}: {len(lists):,} entries by {lists.card.serves}",
                    "value": time.process_time() - begun,
                })  # fmt: skip
                begun = time.process_time()
                pieces = pa.RecordBatchReader.from_batches(batch.SCHEMA, lists.batches())
                parts[placement] = lake.write("recommendations", pieces)
                rows.append({"name": f"{placement}: into the lake", "value": time.process_time() - begun})
            lake.commit(interval_key(today), {"recommendations": tuple(p for some in parts.values() for p in some)})
            history = _later(history)
            with lake.read(today) as reading:
                for placement in parts:
                    for how, earlier in (("all anew", None), ("taken over", Earlier.of(reading))):
                        begun = time.process_time()
                        lists = batch.recommend(registry, _today(history, tomorrow), placement, K, earlier=earlier)
                        name = (
                            f"the day after, {how}, {placement}: {lists.made:,} made, {lists.taken_over:,} taken over"
                        )
                        rows.append({"name": name, "value": time.process_time() - begun})
    finally:
        shutil.rmtree(root)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [{"unit": "CPU-s", **row} for row in rows] + [{"name": "peak", "value": peak, "unit": "MB"}]
