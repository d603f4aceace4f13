"""`python -m fault [--schedules N] [--seed S] [--database sqlite|postgresql] [--lanes L]`: the proof, and its table."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import selectors
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fault import forking
from fault.places import PLACES
from fault.run import Play
from fault.schedule import draw
from fault.verdict import judge
from fault.world import world

DATABASES = ("sqlite", "postgresql")
ALL_PLACES = 600  # schedules from which on every place must have been hit
_TELL = 20.0  # seconds between two words on how far it is


def main() -> int:
    arguments = argparse.ArgumentParser(prog="fault", description=__doc__)
    arguments.add_argument("--schedules", type=int, default=1000, help="in all, half of them on each database")
    arguments.add_argument("--seed", type=int, help="where the seeds begin, by default SEED or 1; others, others")
    arguments.add_argument("--seeds", type=int, nargs="+", help="just these, on each database")
    arguments.add_argument("--database", choices=DATABASES, help="only on this one")
    arguments.add_argument("--lanes", type=int, default=2, help="how many run beside each other on each database")
    chosen = arguments.parse_args()
    if not sys.platform.startswith("linux"):
        print("the proof by fault runs on Linux: it needs fork, SIGKILL and RLIMIT_FSIZE as they are there")
        return 2
    for name in [n for n in os.environ if n.startswith("CONTROLTOWER_")]:
        del os.environ[name]
    seed = chosen.seed if chosen.seed is not None else int(os.environ.get("SEED") or 1)
    kinds = [chosen.database] if chosen.database else list(DATABASES)
    seeds = chosen.seeds or list(range(seed, seed + max(-(-chosen.schedules // len(kinds)), 1)))
    count = min(chosen.lanes, len(seeds))
    lanes = [{"database": kind, "seeds": seeds[n::count]} for kind in kinds for n in range(count)]
    return _run(lanes, len(seeds) * len(kinds))


def _run(lanes: list[dict[str, Any]], schedules: int) -> int:
    begun = told = time.monotonic()
    verdicts: list[dict[str, Any]] = []
    forking.preload()
    with contextlib.suppress(KeyboardInterrupt), _running(lanes) as running:
        for verdict in _verdicts(running):
            verdicts.append(verdict)
            if verdict["wrong"]:
                _complain(verdict)
            if time.monotonic() - told > _TELL:
                told = time.monotonic()
                unfit = sum(bool(v["wrong"]) for v in verdicts)
                print(f"{len(verdicts)} of {schedules} schedules, {unfit} failed, {told - begun:.0f} s", flush=True)
    return tell(verdicts, time.monotonic() - begun, broken=len(verdicts) < schedules)


@contextlib.contextmanager
def _running(lanes: list[dict[str, Any]]) -> Iterator[list[int]]:
    """Each lane in a process, and where it writes. Whatever happens none outlives us, nor what it has started."""
    processes, pipes = [], []
    try:
        for lane in lanes:
            read, write = os.pipe()
            processes.append(forking.fork(partial(_lane, write=write, **lane), signal.SIGTERM))
            os.close(write)
            pipes.append(read)
        yield pipes
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGTERM)
        for pid in processes:
            os.waitpid(pid, 0)


def _verdicts(pipes: list[int]) -> Iterator[dict[str, Any]]:
    """The lanes' lines as they come."""
    with selectors.DefaultSelector() as waiting, contextlib.ExitStack() as stack:
        for pipe in pipes:
            waiting.register(stack.enter_context(os.fdopen(pipe)), selectors.EVENT_READ)
        while waiting.get_map():
            for key, _ in waiting.select():
                if line := key.fileobj.readline():  # type: ignore[union-attr]
                    yield json.loads(line)
                else:
                    waiting.unregister(key.fileobj)


def _complain(verdict: dict[str, Any]) -> None:
    print(f"seed {verdict['seed']} on {verdict['database']} failed:")
    for wrong in verdict["wrong"][:8]:
        print(f"    {wrong}")
    print(f"    {verdict['schedule']}\n    met: {', '.join(verdict['met'])}")
    again = f'SEED={verdict["seed"]} make fault ARGS="--schedules 1 --database {verdict["database"]}"'
    print(f"    again: {again}", flush=True)


def _lane(database: str, seeds: list[int], write: int) -> int:
    """Play schedules one after the other; a line of JSON each."""

    def end(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # once: it is to clean up undisturbed
            signal.signal(number, lambda *_: None)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    logging.disable(logging.CRITICAL)  # errors are what this is about
    with (
        os.fdopen(write, "w") as out,
        tempfile.TemporaryDirectory(prefix="fault-") as folder,
        world(Path(folder), database) as made,
    ):
        for seed in seeds:
            begun = time.monotonic()
            with made.fresh() as conf:
                play = Play(made, conf, draw(seed, database), random.Random(f"{seed}/{database}/play"))
                play.play()
                verdict = judge(play)
            verdict.seconds = time.monotonic() - begun
            print(json.dumps(vars(verdict)), file=out, flush=True)
    return 0


def tell(verdicts: list[dict[str, Any]], seconds: float, *, broken: bool) -> int:
    """Print the table, in Markdown; whether something is wrong."""
    head = ("Database", "Schedules", "Messages", "Faults met", "Killed", "Twice", "Lost", "Unknown", "Sent again")
    print("\n| " + " | ".join(head) + " |\n|---|" + "---:|" * (len(head) - 1))
    for kind in DATABASES:
        mine = [v for v in verdicts if v["database"] == kind]
        counts = (
            len(mine), sum(v["messages"] for v in mine), sum(len(v["met"]) for v in mine),
            sum(len(v["places"]) for v in mine), sum(v["twice"] for v in mine),
            sum(len(v["wrong"]) - v["twice"] for v in mine), sum(v["unknown"] for v in mine),
            sum(v["resent"] for v in mine),
        )  # fmt: skip
        if mine:
            print(f"| {kind} | " + " | ".join(f"{n:,}" for n in counts) + " |")
    killed = Counter(place for v in verdicts for place in v["places"])
    met = Counter(fault for v in verdicts for fault in v["met"] if not fault.startswith("kill"))
    print("\nkilled " + ", ".join(f"{place} {killed[place]}" for place in PLACES))
    print("also " + ", ".join(f"{fault} {n}" for fault, n in sorted(met.items())))
    missed = [place for place in PLACES if not killed[place]]
    if missed:
        print(f"never hit: {', '.join(missed)}")
    if broken:
        print("not all of them were played")
    print(f"({seconds:.0f} s)")
    too_small = [v["seed"] for v in verdicts if v["messages"] < 200 or len(v["met"]) < 3]
    if too_small:
        print(f"fewer than 200 messages or 3 faults: seeds {too_small}")
    failed = any(v["wrong"] for v in verdicts) or (missed and len(verdicts) >= ALL_PLACES)
    return int(bool(failed or broken or too_small))


if __name__ == "__main__":
    sys.exit(main())
