"""A demo that is run as a user runs it, and asked through Airflow's API, a shell and the sandbox."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from controltower import clock
from controltower.settings import Settings, load_shop

from demo.tower import USER, Api, passwords
from support.patience import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]


def start_demo(source: str | Path, homes: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "CONTROLTOWER_"))}
    command = [sys.executable, "-m", "demo", "--source", str(source), "--homes", str(homes), *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=kept | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """What a demo prints, up to the line that fits; fails when it ends before."""
    said = ""
    assert process.stdout
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(f"the demo ended with {process.wait()}:\n{said}")


@dataclass
class Demo:
    """A demo that is up: what it printed, its home, its Airflow, and where its pages are."""

    source: str | Path
    homes: Path
    home: Path
    process: subprocess.Popen[str]
    said: str
    api: Api
    inbox: str
    public: str
    environment: dict[str, str]  # what it was started with beyond the usual

    @classmethod
    def start(cls, source: str | Path, homes: Path, *arguments: str, **environment: str) -> Demo:
        """A demo alone in its folder, once it is done with its days."""
        process = start_demo(source, homes, *arguments, **environment)
        said = read_until(process, "It stays up until Ctrl-C")
        (home,) = homes.iterdir()
        return cls.that_said(said, source, homes, home, process, environment)

    @classmethod
    def that_said(
        cls,
        said: str,
        source: str | Path,
        homes: Path,
        home: Path,
        process: subprocess.Popen[str],
        environment: dict[str, str],
    ) -> Demo:
        airflow, inbox, public = (
            found[1]
            for pattern in (r"Airflow  (\S+)", r"Inbox    (\S+)", r"pages at (\S+)")
            if (found := re.search(pattern, said))
        )
        api = Api(airflow, passwords(home / "airflow")[USER])
        api.log_in()
        return cls(source, homes, home, process, said, api, inbox, public, environment)

    @property
    def settings(self) -> Settings:
        """Of its home, read in the tests' own process."""
        return Settings(home=self.home)

    def user(self, name: str) -> Api:
        """Airflow's API as one of its users."""
        api = Api(self.api.url, self.password(name), name)
        api.log_in()
        return api

    def password(self, name: str) -> str:
        return passwords(self.home / "airflow")[name]

    def set_clock(self, moment: str, speed: float = 1.0) -> None:
        """The home's clock, in the shop's zone."""
        clock.set_clock(self.settings, clock.parse(moment, load_shop(self.settings)), speed)

    def shell(self, command: str) -> str:
        """Run a command as a user would after `. shell.sh`."""
        done = subprocess.run(
            ["bash", "-c", f". {self.home}/shell.sh && {command}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ledger(self) -> dict[str, Any]:
        """The totals of the home."""
        script = "import json; from controltower.jobs.summary import summarise; print(json.dumps(summarise()))"
        found: dict[str, Any] = json.loads(self.shell(f"python -c '{script}'").splitlines()[-1])
        return {k: found[k] for k in ("runs", "audience", "held_out", "not_sent", "accepted", "cancelled", "pending")}

    def caught(self) -> dict[str, int]:
        counts: dict[str, int] = httpx.get(f"{self.inbox}/api/summary", timeout=PATIENCE, trust_env=False).json()
        return counts

    def wait(self, dag: str, run_id: str) -> str:
        """A run's final state."""
        ended = ("success", "failed")
        return str(self._until(lambda: (s := self.api.state(dag, run_id)) in ended and s, f"{dag} {run_id}"))

    def wait_for_task(self, dag: str, run_id: str, task: str, state: str) -> None:
        """Until a task of a run is in a state that it stays in."""
        self._until(
            lambda: state in {t["state"] for t in self.api.tasks(dag, run_id) if t["task_id"] == task},
            f"{dag}.{task} of {run_id}",
        )

    def settle(self, waiting: int = 0) -> None:
        """Until no run is active but those that wait for a paused DAG, and none is about to be triggered by an asset.

        Airflow tells of the latter by DAG only; its database tells all of one moment.
        """
        query = """SELECT (SELECT count(*) FROM dag_run WHERE state IN ('queued', 'running'))
                        + (SELECT count(*) FROM asset_dag_run_queue)"""

        def active() -> int:
            with closing(sqlite3.connect(self.home / "airflow" / "airflow.db", timeout=60)) as database:
                return int(database.execute(query).fetchone()[0])

        self._until(lambda: active() == waiting, "runs that are still active")

    def _until(self, found: Callable[[], Any], what: str) -> Any:
        """The first true answer, unless the demo ends before."""

        def alive() -> Any:
            assert self.process.poll() is None, f"the demo has ended: {what}"
            return found()

        return wait_until(alive, what, pause=0.4)
