"""What each recommender costs to fit, and what co-occurrence of 100 million events costs.

Each algorithm is fitted on the purchase sequences of Amazon Beauty (../shared/data/beauty_sequences.parquet; skipped
where it isn't at hand), without the customers' last two products, and ranks a thousand customers. Naive is
implicit's item-item recommender on the same. Then directional co-occurrence of RECOMMEND_EVENTS (100,000,000) drawn
views of a million customers and 100,000 products, popular ones more often: CPU-seconds, and the peak with the events.
Each in a process of its own; compiling isn't counted.
`python -m bench recommend_fit`
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from controltower.models.recommend.algorithms import ALL
from controltower.models.recommend.interactions import ORDER, VIEW, Interactions, from_arrays
from controltower.profiles.portable import DAY
from threadpoolctl import threadpool_limits

BEAUTY = Path(__file__).resolve().parents[2] / "shared" / "data" / "beauty_sequences.parquet"
EVENTS = int(os.environ.get("RECOMMEND_EVENTS", "100000000"))
CUSTOMERS, PRODUCTS, DAYS = 1_000_000, 100_000, 90
ASKED = 1000
NOW = 20_000 * DAY


def run() -> Iterator[dict[str, Any]]:
    if BEAUTY.exists():
        naive = _alone(_naive)
        for name in ALL:
            fit, ranked = _alone(_fitted, name)
            yield {"name": f"fit {name} on Beauty", "value": fit, "unit": "CPU-s", "naive": naive}
            yield {"name": f"rank with {name}, a customer", "value": ranked * 1000 / ASKED, "unit": "CPU-ms"}
    cpu, peak = _alone(_co_occurrence)
    yield {"name": f"co-occurrence of {EVENTS:,} events", "value": cpu, "unit": "CPU-s"}
    yield {"name": "the same: peak with the events", "value": peak, "unit": "MB"}


def _alone(way: Any, *given: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool, threadpool_limits(1):
        return pool.apply(way, given)


def beauty() -> Interactions:
    rows = pd.read_parquet(BEAUTY).sort_values(["customer_id", "seq"])
    from_end = rows.groupby("customer_id").cumcount(ascending=False).to_numpy()
    keep = from_end > 1
    customer, product = (rows[c].astype(str).to_numpy(dtype=np.str_) for c in ("customer_id", "product_id"))
    when = NOW - from_end[keep] * DAY
    kind = np.full(int(keep.sum()), ORDER)
    return from_arrays(np.unique(customer), np.unique(product), customer[keep], product[keep], when, kind, NOW)


def _fitted(name: str) -> tuple[float, float]:
    data = beauty()
    with threadpool_limits(1):
        few = data.where(data.customer < ASKED)
        ALL[name]().fit(few).recommend(few, few.customer_ids[:10], 10, repeat=False)  # compiles
        begun = time.process_time()
        model = ALL[name]().fit(data)
        fit = time.process_time() - begun
        model.recommend(data, data.customer_ids[:10], 10, repeat=False)
        begun = time.process_time()
        model.recommend(data, data.customer_ids[:ASKED], 10, repeat=False)
        return fit, time.process_time() - begun


def _naive() -> float:
    from implicit.nearest_neighbours import CosineRecommender

    data = beauty()
    begun = time.process_time()
    CosineRecommender(K=200, num_threads=1).fit(data.ordered.astype(float), show_progress=False)
    return time.process_time() - begun


def _co_occurrence() -> tuple[float, float]:
    rng = np.random.default_rng(1)
    customer = np.sort(rng.integers(0, CUSTOMERS, EVENTS, dtype=np.int32))
    second = NOW - rng.integers(0, DAYS, EVENTS, dtype=np.int32).astype(np.int64) * DAY
    second = second[np.lexsort((second, customer))]
    product = (PRODUCTS * rng.random(EVENTS, np.float32) ** 3).astype(np.int32)
    data = Interactions(
        np.arange(CUSTOMERS), np.arange(PRODUCTS), customer, product, second, np.full(EVENTS, VIEW, np.int8), NOW
    )  # fmt: skip
    few = data.where(customer < 10)
    ALL["next_item"]().fit(few)  # compiles
    begun = time.process_time()
    model = ALL["next_item"]().fit(data)
    assert model.similarity.nnz > PRODUCTS  # type: ignore[attr-defined]
    return time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
