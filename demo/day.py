"""The stages of the demo's day: the DAGs from loading to planning, then sending until nothing waits."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from controltower import clock
from controltower.campaigns.specs import Spec, load_specs
from controltower.ledger import reports
from controltower.ledger.database import reading
from controltower.settings import Settings, load_shop

from demo.processes import DemoFailed, Processes
from demo.tower import DAGS, ROOT, Api

CHAIN = ("build_profiles", "train_models", "score_customers")
SPEED = 600.0  # ten minutes in a second: a dispatch run through Airflow takes the better part of an hour of the shop
MOST_DISPATCHES = 200
PATIENCE = 1800.0  # seconds for one stage
SAY_EVERY = 10.0  # seconds


@dataclass
class Progress:
    """Lines with the seconds since the start."""

    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:6.1f}s] {text}", flush=True)

    def wait(self, what: str, ready: Callable[[], Any], check: Callable[[], None], patience: float = PATIENCE) -> Any:
        """The first true answer of `ready`; says now and then what is waited for. `check` raises when all is lost."""
        begun = said = time.monotonic()
        while not (answer := ready()):
            check()
            now = time.monotonic()
            if now - begun > patience:
                raise DemoFailed(f"Gave up waiting for {what} after {patience:.0f} seconds.")
            if now - said >= SAY_EVERY:
                self.say(f"... waiting for {what}")
                said = now
            time.sleep(0.4)
        return answer


@dataclass
class Day:
    """One day of one home, driven through Airflow's API."""

    settings: Settings
    api: Api
    processes: Processes
    progress: Progress

    def prepare(self) -> None:
        """Wait until Airflow is up and knows the DAGs; make their pools."""
        self.progress.wait("Airflow to start", lambda: not self.api.waits_for(), self.processes.check, patience=300)
        self.api.log_in()
        campaigns = self._campaigns()
        wanted = {*DAGS, *campaigns}
        self.progress.wait("Airflow to read the DAGs", lambda: wanted <= self.api.dags(), self.processes.check, 300)
        self.api.make_pools(json.loads((ROOT / "dags" / "pools.json").read_text()))

    def _campaigns(self) -> list[str]:
        """The DAGs of the campaigns that follow the scores."""
        specs = load_specs(self.settings.campaigns)
        return [f"campaign_{s.name}" for s in specs if isinstance(s, Spec) and s.schedule == "after_scores"]

    def plan(self, source: str, end: str) -> None:
        """From loading to the frozen plans; each stage is a run that Airflow's scheduler does."""
        run_id = self.api.trigger("ingest_data", {"source": source, "end": end})
        self._follow("ingest_data", run_id)
        for dag in CHAIN:
            run_id = self._triggered(dag, run_id)
            self._follow(dag, run_id)
        planned = {dag: self._triggered(dag, run_id) for dag in self._campaigns()}
        for dag, campaign_run in planned.items():
            self._follow(dag, campaign_run)

    def send(self, speed: float) -> None:
        """Speed the clock up and dispatch until nothing waits. Where nothing is due, the clock is set ahead."""
        shop = load_shop(self.settings)
        clock.set_clock(self.settings, clock.now(self.settings), speed)
        self.progress.say(f"the shop's clock now goes {speed:g} times as fast, and skips hours in which nothing is due")
        sent = 0
        for _ in range(MOST_DISPATCHES):
            with reading(self.settings) as ledger:
                pending, next_due = reports.waiting(ledger)
            if not pending:
                clock.set_clock(self.settings, clock.now(self.settings), 1.0)
                return
            if next_due and next_due > clock.now(self.settings) + timedelta(minutes=5):
                clock.set_clock(self.settings, next_due, speed)
            run_id = self.api.trigger("dispatch_messages")
            report = self._follow("dispatch_messages", run_id, quiet=True)
            requests = sum(report["requests"].values())
            if requests and not sent:
                self.progress.say("the first messages are in the inbox")
            sent += requests
            at = clock.now(self.settings).astimezone(shop.zone)
            self.progress.say(f"dispatch_messages at {at:%a %H:%M} in the shop: {_short(report)}")
        raise DemoFailed(f"Messages still wait after {MOST_DISPATCHES} dispatch runs.")

    def _triggered(self, dag: str, by_run: str) -> str:
        run_id: str = self.progress.wait(
            f"{dag} to be triggered", lambda: self.api.caused_by(dag, by_run), self.processes.check, patience=120
        )
        return run_id

    def _follow(self, dag: str, run_id: str, quiet: bool = False) -> Any:
        """Wait for a run's end and give its task's result; DemoFailed with the end of the task's log."""

        told: set[int] = set()

        def ended() -> str | None:
            state = self.api.state(dag, run_id)
            if state in ("success", "failed"):
                return state
            for task in self.api.tasks(dag, run_id):
                if task["state"] == "up_for_retry" and task["try_number"] not in told:
                    told.add(task["try_number"])
                    self.progress.say(f"{self._why(dag, run_id, task, lines=3)}\n    It will be tried again.")
            return None

        begun = time.monotonic()
        state = self.progress.wait(f"{dag} to end", ended, self.processes.check)
        tasks = self.api.tasks(dag, run_id)
        if state == "failed":
            raise DemoFailed("\n".join(self._why(dag, run_id, t) for t in tasks if t["state"] != "success"))
        result = self.api.result(dag, run_id, tasks[0]["task_id"])
        if not quiet:
            report = result[0] if isinstance(result, list) else result
            self.progress.say(f"{dag:<19} {time.monotonic() - begun:5.1f} s: {_short(report)}")
        return result

    def _why(self, dag: str, run_id: str, task: dict[str, Any], lines: int = 10) -> str:
        log = [line for line in self.api.log(dag, run_id, task) if not line.startswith("::")]
        return "\n".join([f"{dag}.{task['task_id']} {task['state']}:", *(f"    {line}" for line in log[-lines:])])


def _short(report: dict[str, Any]) -> str:
    """The figures of a job's report on one line; of figures by table or model, the sums by name."""
    said = []
    for name, value in report.items():
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            figures: Counter[str] = Counter()
            for part in value.values():
                figures.update({k: v for k, v in part.items() if isinstance(v, int)})
            said += [f"{name}: {len(value)}", *(f"{k} {n:,}" for k, n in figures.items() if n)]
        elif isinstance(value, dict) and value:
            said.append(f"{name}: " + ", ".join(f"{k} {v}" for k, v in value.items()))
        elif isinstance(value, int) and value and not isinstance(value, bool) and not name.endswith("_id"):
            said.append(f"{name} {value:,}")
    return "; ".join(said) or str(report.get("note", ""))
