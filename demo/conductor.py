"""Driving Airflow through its API, as its users' clicks would, and saying how it goes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from controltower.campaigns.specs import Spec, load_specs
from controltower.settings import Settings

from demo.processes import DemoFailed, Processes
from demo.tower import DAGS, ROOT, Api

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
class Conductor:
    """The Airflow of one home."""

    settings: Settings
    api: Api
    processes: Processes
    progress: Progress

    def prepare(self) -> None:
        """Wait until Airflow is up and knows the DAGs; make their pools."""
        self.progress.wait("Airflow to start", lambda: not self.api.waits_for(), self.processes.check, patience=300)
        self.api.log_in()
        wanted = {*DAGS, *self.campaigns()}
        self.progress.wait("Airflow to read the DAGs", lambda: wanted <= self.api.dags(), self.processes.check, 300)
        self.api.make_pools(json.loads((ROOT / "dags" / "pools.json").read_text()))

    def campaigns(self) -> list[str]:
        """The DAGs of the campaigns that follow the scores."""
        specs = load_specs(self.settings.campaigns)
        return [f"campaign_{s.name}" for s in specs if isinstance(s, Spec) and s.schedule == "after_scores"]

    def do(self, dag: str, quiet: bool = False, **form: Any) -> tuple[str, Any]:
        """Trigger a DAG and wait for its end: the run's id and what its first task returned."""
        run_id = self.api.trigger(dag, form)
        return run_id, self.follow(dag, run_id, quiet)

    def triggered(self, dag: str, by_run: str) -> str:
        """The run of a DAG that another run's asset event has triggered."""
        run_id: str = self.progress.wait(
            f"{dag} to be triggered", lambda: self.api.caused_by(dag, by_run), self.processes.check, patience=120
        )
        return run_id

    def follow(self, dag: str, run_id: str, quiet: bool = False) -> Any:
        """Wait for a run's end and give its first task's result; DemoFailed with the end of the failed task's log."""
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
        if state == "failed":
            failed = [t for t in self.api.tasks(dag, run_id) if t["state"] == "failed"]
            raise DemoFailed("\n".join(self._why(dag, run_id, t) for t in failed))
        first = "plan" if dag.startswith("campaign_") else self.api.tasks(dag, run_id)[0]["task_id"]
        result = self.api.result(dag, run_id, first)
        if not quiet:
            report = result[0] if isinstance(result, list) else result
            self.progress.say(f"{dag:<23} {time.monotonic() - begun:5.1f} s: {short(report)}")
        return result

    def _why(self, dag: str, run_id: str, task: dict[str, Any], lines: int = 10) -> str:
        log = [line for line in self.api.log(dag, run_id, task) if not line.startswith("::")]
        return "\n".join([f"{dag}.{task['task_id']} {task['state']}:", *(f"    {line}" for line in log[-lines:])])


def short(report: dict[str, Any]) -> str:
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
    return "; ".join(said) or str(report.get("note") or "nothing new")
