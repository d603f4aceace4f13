"""A shop's days through Airflow: what `make demo` runs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import httpx
from controltower import clock, settings
from controltower.errors import ControlTowerError
from controltower.ledger.database import check_key, migrate

from demo import home, summary, tower
from demo.conductor import Conductor, Progress
from demo.day import Day, look_back
from demo.processes import CONTROLTOWER, DemoFailed, Processes, free_port, only_demo_of, stop_all

MOST_DAYS = 14
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="demo", description=__doc__)
    arguments.add_argument(
        "--source", default="simulated", help="simulated, null-shop, online-retail, or a contract folder"
    )
    arguments.add_argument(
        "--days", type=_count, default=1, metavar="N", help=f"1 to {MOST_DAYS} days in a row (default: 1)"
    )
    arguments.add_argument("--homes", type=Path, default=tower.ROOT / ".demo", help="where the homes are")
    arguments.add_argument("--once", action="store_true", help="end after the summary")
    chosen = arguments.parse_args()
    os.umask(0o077)  # a home holds addresses
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    progress = Progress()
    try:
        plan = home.plan(chosen.source, chosen.homes.resolve())
        with only_demo_of(plan.home):
            return _run(plan, progress, chosen.days, once=chosen.once)
    except (DemoFailed, ControlTowerError, httpx.HTTPError) as e:
        print(f"\nThe demo failed: {e}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\nThe demo was interrupted.", file=sys.stderr, flush=True)
        return 130


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= MOST_DAYS):
        raise argparse.ArgumentTypeError(f"DAYS is a number from 1 to {MOST_DAYS}, not {text}.")
    return int(text)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End in order at the first signal; more must not cut that short (`make` passes on a Ctrl-C that came here too)."""
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _run(plan: home.Plan, progress: Progress, days: int, once: bool) -> int:
    if stale := stop_all(plan.home):
        progress.say(f"ended {stale} processes of an earlier demo that was killed")
    try:
        return _days(plan, progress, days, once)
    finally:
        _ignore_signals()
        if count := stop_all(plan.home):
            with suppress(OSError):
                progress.say(f"stopped {count} processes")


def _days(plan: home.Plan, progress: Progress, days: int, once: bool) -> int:
    folder = plan.home / "airflow"
    airflow_port, sandbox_port = free_port(8080), free_port(8025)
    public_port = free_port(tower.last_public_port(plan.home / "shell.sh") or 8090)
    inbox, public = f"http://127.0.0.1:{sandbox_port}", f"http://127.0.0.1:{public_port}"
    plan.use(inbox, public)  # this process reads the same settings as its children
    here = settings.load()
    clock.set_clock(here, plan.starts)
    _ready(here)
    progress.say(
        f"{plan.source}: home {os.path.relpath(plan.home)}, the shop's clock shows {plan.starts:%Y-%m-%d %H:%M %Z}"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
    processes = Processes(plan.home, plan.home / "logs", environment | tower.environment(folder, airflow_port))
    shell = tower.write_shell(plan.home / "shell.sh", processes.environment)
    processes.start("sandbox", [*CONTROLTOWER, "sandbox", "--port", str(sandbox_port)])
    processes.start("public-app", [*CONTROLTOWER, "serve", "--port", str(public_port)])
    if tower.migrate(folder, processes):
        progress.say("Airflow's own database is made")
    elif left := tower.end_unfinished(folder):
        progress.say(f"ended {left} unfinished runs of an earlier demo")
    tower.start(processes)
    api = tower.Api(f"http://127.0.0.1:{airflow_port}", tower.passwords(folder)[tower.USER])
    progress.wait("the sandbox", lambda: summary.inbox_counts(inbox), processes.check, patience=60)
    airflow = Conductor(here, api, processes, progress)
    airflow.prepare()
    progress.say(f"Airflow is up at {api.url}, the inbox at {inbox}, the customers' pages at {public}")
    processes.start("customers", [*CONTROLTOWER, "simulate-answers", "--follow"])
    known = [Day(airflow, plan, day).live() for day in range(days)]
    look_back(airflow, plan, days)
    wrong = summary.report(here, inbox, known)
    if once:
        print("\n  Pages    none, it ends now; without ONCE=1 it stays up, with Airflow, the Tower page and the inbox")
    else:
        print(f"\n  Airflow  {api.url}")
        for name, password in tower.passwords(folder).items():
            print(f"           log in as {name}, password {password}")
        print(f"  Tower    {api.url}/plugin/tower\n  Inbox    {inbox}")
    print(f"  Shell    . {os.path.relpath(shell)}  (then `controltower` and `airflow` work on this home)\n", flush=True)
    if wrong:
        raise DemoFailed("the figures disagree:\n" + "\n".join(f"    {w}" for w in wrong))
    progress.say("done")
    if not once:
        print("It stays up until Ctrl-C.", flush=True)
        with suppress(KeyboardInterrupt):
            while True:
                processes.check()
                time.sleep(1)
    return 0


def _ready(here: settings.Settings) -> None:
    """Bring the home's ledger to this version; DemoFailed, before anything is started, where it can't be used."""
    try:
        migrate(here)
        check_key(here)
    except ControlTowerError as e:
        raise DemoFailed(f"{e}\n`rm -rf {os.path.relpath(here.home)}` begins the demo anew.") from None


if __name__ == "__main__":
    sys.exit(main())
