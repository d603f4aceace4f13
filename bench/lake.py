"""What a version of the lake costs, and whether many processes at once see a wrong count.

`python -m bench lake`; LAKE_SECONDS says how long they work (20).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
from controltower.data.lake import Lake
from controltower.data.manifest import Part
from controltower.settings import Settings

from bench import _traffic

DAYS, TABLES, PARTS = 360, 7, 3  # a year of daily loads: 7,560 files
TIMES = 30


def run() -> list[dict[str, Any]]:
    rows = pa.table({"a": list(range(1000))})
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Settings(home=Path(folder)))
        with_a_year(lake, rows)
        costs = {
            f"publishing 1,000 rows to {DAYS * TABLES * PARTS:,} files": lambda: lake.commit(
                "x", {"t0": lake.write("t0", rows)}
            ),
            "finding its newest version": lake.manifest,
            f"going back over its {len(lake.versions())} versions": lake.versions,
        }
        found = [{"name": name, "value": milliseconds(step), "unit": "ms"} for name, step in costs.items()]
    with tempfile.TemporaryDirectory() as folder:
        seconds = float(os.environ.get("LAKE_SECONDS", "20"))
        seen = _traffic.watch(Path(folder), seconds)
    looks = sum(one["looks"] for one in seen if not one["role"].isdigit())
    name = f"wrong of {looks:,} looks in {seconds:.0f} s of {len(seen)} processes"
    return [*found, {"name": name, "value": sum(len(one["wrong"]) for one in seen), "unit": "looks"}]


def with_a_year(lake: Lake, rows: pa.Table) -> None:
    """A manifest of that size; its parts are one file each under many names."""
    (part,) = lake.write("t0", rows)
    for table in range(TABLES):
        (lake.root / f"t{table}").mkdir(exist_ok=True)
        for n in range(DAYS * PARTS):
            os.link(lake.root / part.file, lake.root / f"t{table}/part-{table:02d}{n:030d}.parquet")
    for day in range(DAYS):
        lake.commit(f"day-{day}", {
            f"t{t}": tuple(
                Part(f"t{t}/part-{t:02d}{day * PARTS + n:030d}.parquet", "2025-06-01", rows.num_rows)
                for n in range(PARTS)
            ) for t in range(TABLES)
        })  # fmt: skip


def milliseconds(step: Callable[[], Any]) -> float:
    def once() -> float:
        begun = time.perf_counter()
        step()
        return 1000 * (time.perf_counter() - begun)

    return median(once() for _ in range(TIMES))
