"""A day's step of all features after 30 and 90 days of history, beside counting everybody: published into the lake,
in one big query, and, of the features that `features` compares, in plain pandas.

A hundredth of the aim's shop by default. `BENCH_DAYS="30 90 360" BENCH_CUSTOMERS=1000000` is the aim's: 30 CPU-seconds
and 2 GB at a million customers and 100 million events, and flat; pandas is left out where it wouldn't fit into memory.
Each way has a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from controltower.data.lake import Lake
from controltower.jobs.profiles import publish_features
from controltower.profiles.features import features
from controltower.settings import Settings

from bench._shop import AS_OF, fill
from bench.features import SHOP, _compare, _naive

DAYS = tuple(int(days) for days in os.environ.get("BENCH_DAYS", "30 90").split())
CUSTOMERS = int(os.environ.get("BENCH_CUSTOMERS", "10000"))
EVENTS_A_DAY = CUSTOMERS * 100 // 360  # a hundred events a customer in 360 days
MOST_IN_PANDAS = 30_000_000  # events


def run() -> Iterator[dict[str, Any]]:
    for days in DAYS:
        events = EVENTS_A_DAY * days
        size = f"{days} days, {events:,} events, {CUSTOMERS:,} customers"
        with tempfile.TemporaryDirectory() as folder:
            fill(Lake(Settings(home=Path(folder))), events, CUSTOMERS, days=days)
            everybody, _ = _alone(_published, folder, 1)
            step, megabytes = _alone(_published, folder, 0)
            yield {"name": f"the day's step, {size} (naive: all, the same way)", "value": step, "unit": "CPU-s",
                   "naive": everybody}  # fmt: skip
            yield {"name": f"the day's step, {size}: peak", "value": megabytes, "unit": "MB"}
            yield {"name": f"the day's step, {size} (naive: one big query)", "value": step, "unit": "CPU-s",
                   "naive": _alone(_in_one_query, folder)[0]}  # fmt: skip
            if events <= MOST_IN_PANDAS:
                yield {"name": f"the day's step, {size} (naive: pandas)", "value": step, "unit": "CPU-s",
                       "naive": _alone(_in_pandas, folder)[0]}  # fmt: skip


def _alone(work: Any, *args: object) -> tuple[float, float]:
    """CPU-seconds and the peak in MB of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds: float = pool.apply(work, args)
        return seconds, pool.apply(_peak)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _lake(folder: str) -> Lake:
    return Lake(Settings(home=Path(folder), memory="1GB", threads=2))


def _published(folder: str, days_before: int) -> float:
    begun = time.process_time()
    report = publish_features(_lake(folder), AS_OF - timedelta(days=days_before), SHOP)
    assert bool(report["rescanned"]) == bool(days_before), report
    return time.process_time() - begun


def _in_one_query(folder: str) -> float:
    """What the step published must be what one query over all facts gives."""
    with _lake(folder).read(AS_OF) as reading:
        begun = time.process_time()
        whole = reading.arrow(features(reading.table, AS_OF, SHOP))
        seconds = time.process_time() - begun
        assert whole.equals(reading.arrow(reading.derived("features")))
    return seconds


def _in_pandas(folder: str) -> float:
    lake = _lake(folder)
    tables = ("customers", "products", "events", "orders", "order_lines")
    files = {name: [str(path) for path in (lake.root / name).glob("*.parquet")] for name in tables}
    begun = time.process_time()
    theirs = _naive(files)
    seconds = time.process_time() - begun
    with lake.read(AS_OF) as reading:
        _compare(reading.frame(reading.derived("features")).set_index("customer_id"), theirs)
    return seconds
