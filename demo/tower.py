"""Airflow for one home: its environment, its processes, and its REST API."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shlex
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from demo.processes import DemoFailed, Processes

ROOT = Path(__file__).resolve().parents[1]
USER = "admin"  # who drives the demo
USERS = {USER: "admin", "marketer": "user", "approver": "user"}  # Airflow's users and their roles
APPROVER = "approver"
DAGS = (
    "ingest_data", "build_profiles", "train_models", "score_customers", "cancel_campaign", "dispatch_messages",
    "ingest_feedback", "measure_campaigns",
)  # fmt: skip


def airflow(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def environment(folder: Path, port: int) -> dict[str, str]:
    """The AIRFLOW__* settings of an Airflow that keeps all it has in `folder` and listens on loopback only."""
    kept = _secrets(folder)
    passwords(folder)
    url = f"http://127.0.0.1:{port}"
    cores = os.cpu_count() or 2
    values = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": max(3, min(2 * cores, 16)),
        "CORE__DAGS_FOLDER": ROOT / "dags",
        "CORE__PLUGINS_FOLDER": ROOT / "plugins",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__FERNET_KEY": kept["fernet_key"],
        "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": folder / "passwords.json",
        "API__HOST": "127.0.0.1",
        "API__PORT": port,
        "API__BASE_URL": url,
        "API__WORKERS": 1,
        "API__SECRET_KEY": kept["secret_key"],
        "API_AUTH__JWT_SECRET": kept["jwt_secret"],
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}?timeout=30",  # seconds for a lock
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": 600,  # seconds: a busy machine is no error in a DAG
        "CORE__DAGBAG_IMPORT_TIMEOUT": 300,
        "LOGGING__BASE_LOG_FOLDER": folder / "logs",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.5,
    }
    return {
        **{f"AIRFLOW__{name}": str(value) for name, value in values.items()},
        "AIRFLOW_HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "include"), str(ROOT / "demo" / "airflow_config")]),
        "SPT_NOENV": "1",  # process titles must not overwrite the environment by which the demo knows its processes
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def write_shell(path: Path, environment: Mapping[str, str]) -> Path:
    """A file for `. FILE`: with it a user's shell works on the same home and the same Airflow as the demo."""
    ours = {k: v for k, v in sorted(environment.items()) if k.startswith(("AIRFLOW", "CONTROLTOWER_", "PYTHONPATH"))}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in ours.items()]
    _write(path, "\n".join([*lines, f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH", ""]))
    return path


def last_public_port(shell: Path) -> int | None:
    """Where the customers' pages were at the home's last demo: the links in its mails lead there."""
    said = shell.read_text() if shell.exists() else ""
    found = re.search(r"^export CONTROLTOWER_PUBLIC_URL=\S+:(\d+)$", said, re.M)
    return int(found[1]) if found else None


def _secrets(folder: Path) -> dict[str, str]:
    """This Airflow's own keys, made once."""
    path = folder / "secrets.json"
    if not path.exists():
        made = {name: secrets.token_urlsafe(48) for name in ("jwt_secret", "secret_key")}
        made["fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        _write(path, json.dumps(made))
    kept: dict[str, str] = json.loads(path.read_text())
    return kept


def passwords(folder: Path) -> dict[str, str]:
    """Its users' passwords, made once, where SimpleAuthManager reads them."""
    path = folder / "passwords.json"
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    if missing := [name for name in USERS if name not in kept]:
        kept |= {name: secrets.token_urlsafe(9) for name in missing}
        _write(path, json.dumps(kept))
    return kept


def _write(path: Path, text: str) -> None:
    """A file for its owner's eyes, whole or not at all: the demo may be interrupted at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}")
    fresh.unlink(missing_ok=True)
    fresh.touch(0o600)
    fresh.write_text(text)
    fresh.replace(path)


def migrate(folder: Path, processes: Processes) -> bool:
    """Bring Airflow's own database to this version, unless it is there already. Returns whether it had to."""
    done = folder / "migrated"
    here = version("apache-airflow")
    if done.exists() and done.read_text() == here:
        return False
    if not done.exists():
        (folder / "airflow.db").unlink(missing_ok=True)  # an interrupted start may have left half of it
    processes.run("airflow-db-migrate", airflow("db", "migrate"))
    _write(done, here)
    return True


def end_unfinished(folder: Path) -> int:
    """Mark as failed what an interrupted demo left active, before Airflow starts. Returns how many runs that were.

    Through its API, afterwards, it would take Airflow half a minute to see that the runs are gone and to start others.
    """
    active = "('queued', 'running', 'scheduled', 'up_for_retry', 'restarting', 'up_for_reschedule', 'deferred')"
    with closing(sqlite3.connect(folder / "airflow.db")) as database, database:
        ended = database.execute(f"UPDATE dag_run SET state = 'failed' WHERE state IN {active}").rowcount
        database.execute(f"UPDATE task_instance SET state = 'failed' WHERE state IN {active}")
        database.execute("DELETE FROM asset_dag_run_queue")
    return ended


def start(processes: Processes) -> None:
    processes.start("airflow-api-server", airflow("api-server"))
    processes.start("airflow-scheduler", airflow("scheduler", "--skip-serve-logs"))
    processes.start("airflow-dag-processor", airflow("dag-processor"))


@dataclass
class Api:
    """Airflow's REST API, as one of its users."""

    url: str
    password: str
    user: str = USER
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        # No kept connections: the server drops one after an internal error, and the next call on it would fail.
        no_reuse = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False, limits=no_reuse)

    def waits_for(self) -> str | None:
        """What of Airflow isn't up yet; None where all is."""
        try:
            health = self.client.get("/api/v2/monitor/health").raise_for_status().json()
        except httpx.HTTPError:
            return "the API server"
        for part in ("metadatabase", "scheduler", "dag_processor"):
            if health[part]["status"] != "healthy":
                return f"the {part.replace('_', ' ')}"
        return None

    def log_in(self) -> None:
        answer = self.client.post("/auth/token", json={"username": self.user, "password": self.password})
        self.client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self.client.request(method, f"/api/v2{path}", **arguments)
        if answer.status_code == 401:
            self.log_in()
            answer = self.client.request(method, f"/api/v2{path}", **arguments)
        if answer.is_error:
            raise DemoFailed(f"Airflow answered {method} {path} with {answer.status_code}: {answer.text[:300]}")
        return answer.json() if answer.content else None

    def dags(self) -> set[str]:
        """The DAGs that may run; DemoFailed where a DAG file can't be imported."""
        for error in self.call("GET", "/importErrors")["import_errors"]:
            raise DemoFailed(f"{error['filename']} can't be imported:\n{error['stack_trace']}")
        found = self.call("GET", "/dags", params={"limit": 100, "paused": False})["dags"]
        return {d["dag_id"] for d in found}

    def make_pools(self, pools: Mapping[str, Mapping[str, Any]]) -> None:
        known = {p["name"] for p in self.call("GET", "/pools")["pools"]}
        for name, pool in pools.items():
            if name not in known:
                self.call("POST", "/pools", json={"name": name, **pool})

    def runs(self, dag: str, **filters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call(
            "GET", f"/dags/{dag}/dagRuns", params={"order_by": "-run_after", "limit": 50, **filters}
        )["dag_runs"]
        return found

    def trigger(self, dag: str, conf: Mapping[str, Any] | None = None) -> str:
        body = {"logical_date": None, "conf": conf or {}}
        run_id: str = self.call("POST", f"/dags/{dag}/dagRuns", json=body)["dag_run_id"]
        return run_id

    def pause(self, dag: str, paused: bool) -> None:
        self.call("PATCH", f"/dags/{dag}", json={"is_paused": paused})

    def state(self, dag: str, run_id: str) -> str:
        state: str = self.call("GET", f"/dags/{dag}/dagRuns/{run_id}")["state"]
        return state

    def caused_by(self, dag: str, source_run_id: str) -> str | None:
        """The run of `dag` that an asset event of that other run triggered, once there is one."""
        for run in self.runs(dag, run_type="asset_triggered"):
            answer = self.client.get(f"/api/v2/dags/{dag}/dagRuns/{run['dag_run_id']}/upstreamAssetEvents")
            if answer.is_server_error:
                continue  # Airflow 3.3.2 can't show an event while a run that it triggered is queued
            if any(
                event["source_run_id"] == source_run_id for event in answer.raise_for_status().json()["asset_events"]
            ):
                return str(run["dag_run_id"])
        return None

    def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", f"/dags/{dag}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return found

    def result(self, dag: str, run_id: str, task: str) -> Any:
        """What a task returned."""
        path = f"/dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/xcomEntries/return_value"
        return self.call("GET", path, params={"deserialize": True})["value"]

    def log(self, dag: str, run_id: str, task: Mapping[str, Any]) -> Iterator[str]:
        """The lines of a task's last try."""
        path = f"/dags/{dag}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs/{max(task['try_number'], 1)}"
        content = self.call("GET", path, headers={"Accept": "application/json"}, params={"full_content": True})
        for entry in content["content"]:
            if isinstance(entry, str):
                yield entry
                continue
            yield str(entry.get("event", ""))
            for error in entry.get("error_detail") or []:
                yield f"{error['exc_type']}: {error['exc_value']}"
