"""Several processes read and write one lake: every look is at one version. Delete-and-write fails this at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from controltower.data.lake import Lake
from controltower.settings import Settings
from support.patience import PATIENCE

SECONDS = 4
# One process imports and then forks: starting Python four times takes longer than the test.
PROGRAM = """
import json, multiprocessing, sys, time
from pathlib import Path
import ibis.backends.duckdb
import pyarrow as pa
from controltower.data.lake import Lake
from controltower.settings import Settings

def write(lake, number):
    rows = pa.table({"number": [number] * 300})
    # both tables in one step: whoever reads sees 300 rows of the same number in each
    lake.commit("i", {t: lake.write(t, rows) for t in ("one", "two")})
    lake.publish("mine", f"writer{number // 1_000_000}", rows)

def look(lake):
    with lake.read() as reading:
        one, two = (reading.arrow(reading.derived(t))["number"].to_pylist() for t in ("one", "two"))
    return len(one) == len(two) == 300 and len({*one, *two}) == 1

def work(role):
    lake, looks, wrong = Lake(Settings(home=Path(sys.argv[1]), threads=1), grace=600), 0, 0
    until = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < until or looks < 4:
        looks += 1
        if role:
            write(lake, role * 1_000_000 + looks)
        else:
            wrong += not look(lake)
    return {"role": role, "looks": looks, "wrong": wrong}

with multiprocessing.get_context("fork").Pool(4) as pool:
    print(json.dumps(pool.map(work, [1, 2, 0, 0], chunksize=1)))
"""


@pytest.mark.slow
def test_readers_never_see_half_a_version(tmp_path: Path) -> None:
    import pyarrow as pa

    lake = Lake(Settings(home=tmp_path))
    lake.commit("i", {t: lake.write(t, pa.table({"number": [0] * 300})) for t in ("one", "two")})
    run = [sys.executable, "-c", PROGRAM, str(tmp_path), str(SECONDS)]
    done = subprocess.run(run, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True)
    results = json.loads(done.stdout)
    assert sum(result["wrong"] for result in results) == 0, results
    last = {f"writer{r['role']}": r["role"] * 1_000_000 + r["looks"] for r in results if r["role"]}
    for writer, number in last.items():  # neither undid the other's interval
        (part,) = lake.manifest().loads("mine")[writer].parts
        assert pa.parquet.read_table(lake.root / part.file)["number"].to_pylist() == [number] * 300
