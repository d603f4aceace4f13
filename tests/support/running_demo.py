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

    @classmethod
    def that_is_up(cls, source: str | Path, homes: Path, process: subprocess.Popen[str]) -> Demo:
        """The one demo of `homes`, once it is done with its days."""
        said = read_until(process, "It stays up until Ctrl-C")
        (home,) = homes.iterdir()
        found = {
            name: re.search(pattern, said)
            for name, pattern in (
                ("airflow", r"Airflow  (\S+)"),
                ("inbox", r"Inbox    (\S+)"),
                ("public", r"pages at (\S+)"),
            )
        }
        urls = {name: match[1] for name, match in found.items() if match}
        made = cls(source, homes, home, process, said, Api(urls["airflow"], ""), urls["inbox"], urls["public"])
        made.api = made.user(USER)
        return made

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

    def settle(self, seconds: float = 600) -> None:
        """Wait until no run is active and none is about to be triggered."""
        deadline, quiet = time.monotonic() + seconds, 0
        while quiet < 6:
            assert time.monotonic() < deadline
            active = self.api.call("GET", "/dags/~/dagRuns", params={"state": ["queued", "running"]})["total_entries"]
            quiet = 0 if active else quiet + 1
            time.sleep(0.5)
