"""All features from scratch at 1 and 10 million events, published into the lake: CPU-seconds and peak memory.

Each size has a process of its own, so that its peak is its own. The aim at 10 million events and a million customers
is 60 CPU-seconds and 1.5 GB.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from controltower.data.lake import Lake
from controltower.jobs.profiles import publish_features
from controltower.settings import Settings

from bench._shop import AS_OF, fill
from bench.features import SHOP

SIZES = ((1_000_000, 100_000), (10_000_000, 1_000_000))  # events, customers


def run() -> list[dict[str, Any]]:
    results = []
    for events, customers in SIZES:
        with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as pool:
            fill(Lake(Settings(home=Path(folder))), events, customers)
            seconds, megabytes = pool.apply(_measured, (folder,))
        size = f"features from scratch, {events:,} events, {customers:,} customers"
        results += [
            {"name": size, "value": seconds, "unit": "CPU-s"},
            {"name": f"{size}: peak", "value": megabytes, "unit": "MB"},
        ]
    return results


def _measured(folder: str) -> tuple[float, float]:
    lake = Lake(Settings(home=Path(folder), memory="1GB", threads=2))
    begun = time.process_time()
    publish_features(lake, AS_OF, SHOP)
    return time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
