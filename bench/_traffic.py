"""Processes that publish to one lake, merge, erase, read and look back at once, and what each of them saw.

Every load has LASTING rows of a customer who stays and one of a customer who is erased later, so that each look has one
right answer: as many lasting rows as loads that were published, and nobody who was erased before the look began.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd  # noqa: F401  pyarrow asks for it: once, before the processes are forked
import pyarrow as pa
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake, Reading
from controltower.data.persons import Persons, Traces
from controltower.errors import BadSource
from controltower.settings import Settings

WRITERS = 2
ROLES = [*range(WRITERS), "eraser", "reader", "reader", "traveller"]
LASTING = 99
TOGETHER = 6  # loads that become one
LEAST = 3  # looks of each, however short the time is
SCHEMA = CONTRACT["events"].schema
AT = datetime(2025, 6, 1, tzinfo=UTC)

begun, done, erased = (multiprocessing.get_context("fork").Array("l", WRITERS) for _ in range(3))


def watch(home: Path, seconds: float) -> list[dict[str, Any]]:
    """Run all roles in a new process. Returns for each {role, looks, wrong: what was seen that isn't right}."""
    lake = Lake(Settings(home=home))
    lake.commit("first", {"events": lake.write("events", events([]))})  # something to look back at
    run = [sys.executable, "-m", "bench._traffic", str(home), str(seconds)]
    done_ = subprocess.run(run, stdout=subprocess.PIPE, text=True, timeout=seconds + 120, check=True)
    found: list[dict[str, Any]] = json.loads(done_.stdout)
    return found


def work(role: str | int, home: str, seconds: float) -> dict[str, Any]:
    lake = Lake(Settings(home=Path(home), threads=1))
    looks, until, wrong = 0, time.monotonic() + seconds, list[str]()
    while time.monotonic() < until or looks < LEAST:
        looks += 1
        try:
            if isinstance(role, int):
                write(lake, role, looks)
            else:
                wrong += {"eraser": erase, "reader": read, "traveller": look_back}[role](lake)
        except (duckdb.Error, OSError, BadSource) as e:
            wrong.append(f"{type(e).__name__}: {e}")
    return {"role": str(role), "looks": looks, "wrong": wrong}


def write(lake: Lake, writer: int, number: int) -> None:
    begun[writer] += 1
    rows = events(["stays"] * LASTING + [f"{writer}-{number}"])
    lake.commit(f"w{writer}-{number:06d}", {"events": lake.write("events", rows)})
    done[writer] += 1
    some = [f"w{writer}-{n:06d}" for n in range(number - TOGETHER + 1, number + 1)]
    merged = number % TOGETHER > 0
    while not merged:
        try:
            lake.merge(("events",), some, f"merged-{writer}-{number:06d}")
            merged = True
        except BadSource as e:
            if "anew meanwhile" not in str(e):  # an erasure came between
                raise


def erase(lake: Lake) -> list[str]:
    upto = list(done)
    gone = {f"{w}-{n}" for w in range(WRITERS) for n in range(erased[w] + 1, upto[w] + 1)}
    Persons(lake).erase(Traces(frozenset(gone)))
    for writer, number in enumerate(upto):
        erased[writer] = number
    return []


def read(lake: Lake) -> list[str]:
    away, least = list(erased), sum(done)
    with lake.read() as reading:
        found = counted(reading)
    most = sum(begun)
    loads, rest = divmod(found.pop("stays", 0), LASTING)
    wrong = [] if not rest and least <= loads <= most else [f"{loads} loads and {rest} rows, not {least} to {most}"]
    return wrong + still(found, away)


def look_back(lake: Lake) -> list[str]:
    away, versions = list(erased), lake.versions()
    number = random.choice(versions)[0].number
    loads = sum(v.number <= number and (v.interval or "").startswith("w") for v, _ in versions)
    with lake.read(version=number) as reading:
        found = counted(reading)
    rows = found.pop("stays", 0)
    return ([] if rows == LASTING * loads else [f"version {number}: {rows} rows, not {LASTING * loads}"]) + still(
        found, away
    )


def counted(reading: Reading) -> Counter[str]:
    """How many rows each customer has, whoever may have any."""
    known = [f"{w}-{n}" for w in range(WRITERS) for n in range(1, begun[w] + 1)]
    found = reading.of("events", "customer_id", ["stays", *known], ["customer_id"])
    return Counter(found["customer_id"].to_pylist())


def still(found: Counter[str], away: list[int]) -> list[str]:
    back = [who for who in found if int(who.split("-")[1]) <= away[int(who.split("-")[0])]]
    return [f"erased, and there again: {', '.join(back)}"] if back else []


def events(customers: list[str]) -> pa.Table:
    given = {
        "customer_id": customers,
        "event_id": [str(n) for n in range(len(customers))],
        "event_name": ["x"] * len(customers),
    }
    given |= {name: [AT] * len(customers) for name in ("occurred_at", "received_at")}
    return pa.table([pa.array(given.get(f.name, [None] * len(customers)), f.type) for f in SCHEMA], schema=SCHEMA)


if __name__ == "__main__":
    where, how_long = sys.argv[1:]
    with multiprocessing.get_context("fork").Pool(len(ROLES)) as pool:
        print(json.dumps(pool.starmap(work, [(role, where, float(how_long)) for role in ROLES], chunksize=1)))
