"""A demo that is run as a user runs it, and asked through Airflow's API, a shell and the sandbox."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from controltower import clock
from controltower.settings import Settings, load_shop

from demo.tower import USER, Api, passwords

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
        counts: dict[str, int] = httpx.get(f"{self.inbox}/api/summary", trust_env=False).json()
        return counts

    def wait(self, dag: str, run_id: str, seconds: float = 180) -> str:
        """A run's final state."""
        deadline = time.monotonic() + seconds
        while (state := self.api.state(dag, run_id)) not in ("success", "failed"):
            assert time.monotonic() < deadline, f"{dag} {run_id} is {state}"
            time.sleep(0.5)
        return state

    def wait_for_task(self, dag: str, run_id: str, task: str, state: str, seconds: float = 120) -> None:
        """Until a task of a run is in a state that it stays in."""
        deadline = time.monotonic() + seconds
        while (found := {t["task_id"]: t["state"] for t in self.api.tasks(dag, run_id)}).get(task) != state:
            assert time.monotonic() < deadline, f"{dag} {run_id}: {found}"
            time.sleep(0.5)

    def settle(self, seconds: float = 600) -> None:
        """Wait until no run is active and none is about to be triggered."""
        deadline, quiet = time.monotonic() + seconds, 0
        while quiet < 6:
            assert time.monotonic() < deadline
            active = self.api.call("GET", "/dags/~/dagRuns", params={"state": ["queued", "running"]})["total_entries"]
            quiet = 0 if active else quiet + 1
            time.sleep(0.5)
