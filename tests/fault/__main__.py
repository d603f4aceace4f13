"""`python -m fault [--schedules N] [--seed S] [--database sqlite|postgresql] [--lanes L]`: the proof, and its table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fault.schedule import KILLS, draw

DATABASES = ("sqlite", "postgresql")


def main() -> int:
    arguments = argparse.ArgumentParser(prog="fault", description=__doc__)
    arguments.add_argument("--schedules", type=int, default=1000, help="in all, half of them on each database")
    arguments.add_argument("--seed", type=int, default=1, help="where the seeds begin; another finds other schedules")
    arguments.add_argument("--database", choices=DATABASES, help="only on this one")
    arguments.add_argument("--lanes", type=int, default=2, help="how many run beside each other")
    arguments.add_argument("--lane", help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.lane:
        return _lane(**json.loads(chosen.lane))
    kinds = [chosen.database] if chosen.database else list(DATABASES)
    each = chosen.schedules // len(kinds)
    seeds = range(chosen.seed, chosen.seed + each)
    lanes = [
        {"database": kind, "seeds": list(seeds)[n :: max(chosen.lanes // len(kinds), 1)]}
        for kind in kinds
        for n in range(max(chosen.lanes // len(kinds), 1))
    ]
    begun = time.monotonic()
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "fault", "--lane", json.dumps(lane)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for lane in lanes
    ]
    verdicts: list[dict[str, Any]] = []
    broken = 0
    for process in running:
        assert process.stdout
        for line in process.stdout:
            verdict = json.loads(line)
            verdicts.append(verdict)
            for wrong in verdict["wrong"]:
                print(
                    f"seed {verdict['seed']} on {verdict['database']}: {wrong}\n    {', '.join(verdict['faults'])}",
                    flush=True,
                )
        broken += process.wait() != 0
    return _tell(verdicts, time.monotonic() - begun, broken)


def _lane(database: str, seeds: list[int]) -> int:
    """Play schedules one after the other; a line of JSON each."""
    import multiprocessing

    from fault import worker
    from fault.run import run
    from fault.world import world

    multiprocessing.get_context("forkserver").set_forkserver_preload(worker.PRELOAD)
    with tempfile.TemporaryDirectory(prefix="fault-") as folder, world(Path(folder), database) as made:
        for seed in seeds:
            print(json.dumps(vars(run(made, draw(seed, database)))), flush=True)
    return 0


def _tell(verdicts: list[dict[str, Any]], seconds: float, broken: int) -> int:
    print(f"{'':<12}{'schedules':>10}{'messages':>10}{'faults':>8}{'killed':>8}{'twice':>7}{'lost':>6}{'unknown':>9}")
    wrong = 0
    for kind in DATABASES:
        mine = [v for v in verdicts if v["database"] == kind]
        twice = sum("times" in w for v in mine for w in v["wrong"])
        other = sum("times" not in w for v in mine for w in v["wrong"])
        wrong += twice + other
        counts = (
            len(mine),
            sum(v["messages"] for v in mine),
            sum(len(v["faults"]) for v in mine),
            sum(len(v["killed"]) for v in mine),
            twice,
            other,
            sum(v["unknown"] for v in mine),
        )
        if mine:
            print(f"{kind:<12}" + "{:>10,}{:>10,}{:>8,}{:>8,}{:>7}{:>6}{:>9,}".format(*counts))
    killed = Counter(place for v in verdicts for place in v["killed"])
    print("\nkilled " + ", ".join(f"{place} {killed[place]}" for place in KILLS))
    if missed := [place for place in KILLS if not killed[place]]:
        print(f"never hit: {', '.join(missed)}")
    print(f"({seconds:.0f} s)")
    return int(bool(wrong or broken))


if __name__ == "__main__":
    sys.exit(main())
