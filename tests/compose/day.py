"""What is tried once all services are up: who may what, and a shop's day up to an approved campaign."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from typing import Any

import httpx
from compose.containers import POSTGRES, VOLUMES, Service
from compose.steps import TrialFailed, expect, say, wait
from controltower.sandbox import credentials
from support import webhooks

DAY = "2026-06-15"
CHAIN = ("build_profiles", "train_models", "score_customers")


def set_clock(service: Service, hour: str) -> None:
    """The home's clock, so that a campaign's day isn't over at whatever hour this runs; as in `make demo`."""
    moment = f"datetime.fromisoformat('{DAY}T{hour}:00+09:00')"
    imports = "from datetime import datetime; from controltower import clock, settings"
    service.run(["python", "-c", f"{imports}; clock.set_clock(settings.load(), {moment})"])


class Airflow:
    """Airflow's REST API as one of its users; `code` is the answer's status, for what is refused."""

    def __init__(self, url: str, user: str | None = None, password: str = "") -> None:
        # No kept connections: the server drops one after an internal error, and the next call on it would fail.
        self.client = httpx.Client(
            base_url=url, timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )
        if user:
            answer = self.client.post("/auth/token", json={"username": user, "password": password})
            expect(f"log-in of {user}", answer.status_code, 201)
            self.client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def code(self, method: str, path: str, **arguments: Any) -> int:
        return self.client.request(method, path, **arguments).status_code

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self.client.request(method, path, **arguments)
        if answer.is_error:
            raise TrialFailed(f"Airflow answered {method} {path} with {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    def trigger(self, dag: str, **conf: Any) -> str:
        run: str = self.call("POST", f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})[
            "dag_run_id"
        ]
        return run

    def state(self, dag: str, run: str) -> str:
        state: str = self.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"]
        return state


def trial(services: Mapping[str, Service]) -> None:
    init = services["airflow-init"].environment
    url = f"http://{services['airflow-apiserver'].address}:8080"
    anonymous = Airflow(url)
    expect(
        "a wrong password",
        anonymous.code("POST", "/auth/token", json={"username": init["ADMIN_USER"], "password": "x"}),
        401,
    )
    admin, marketer, approver = (
        Airflow(url, init[f"{name}_USER"], init[f"{name}_PASSWORD"]) for name in ("ADMIN", "MARKETER", "APPROVER")
    )
    running = [s for s in services.values() if s.process]
    campaign = wait("the DAGs", lambda: parsed(admin), running)
    health(services, admin)
    permissions(anonymous, admin, marketer, approver, campaign)
    databases(services)
    load(services, admin, marketer, running)
    follow(admin, running)
    approve(admin, marketer, approver, "campaign_win_back", running)
    dispatch(services, admin, running)
    back_up(services)


def parsed(admin: Airflow) -> str | None:
    """A campaign's DAG once all are read; TrialFailed where one can't be imported."""
    for error in admin.call("GET", "/api/v2/importErrors")["import_errors"]:
        raise TrialFailed(f"{error['filename']} can't be imported:\n{error['stack_trace']}")
    found = {d["dag_id"]: d for d in admin.call("GET", "/api/v2/dags", params={"limit": 100})["dags"]}
    if "ingest_data" not in found or not (campaigns := sorted(d for d in found if d.startswith("campaign_"))):
        return None
    expect("DAGs that aren't paused at first", [d for d in found.values() if not d["is_paused"]], [])
    return campaigns[0]


def health(services: Mapping[str, Service], admin: Airflow) -> None:
    parts = admin.call("GET", "/api/v2/monitor/health")
    for part in ("metadatabase", "scheduler", "dag_processor", "triggerer"):
        expect(part, parts[part]["status"], "healthy")
    public = httpx.Client(base_url=f"http://{services['controltower-public'].address}:8090", trust_env=False)
    expect("the public app's health", public.get("/health").status_code, 200)
    expect("an unsigned event", public.post("/webhooks/sendgrid", json=[]).status_code, 401)
    expect("an unknown page", public.get("/nothing").status_code, 404)
    expect("the pools", {"lake", "planning", "providers"} <= pools(admin), True)
    say("health, pools and the public app's routes are as they should be")


def pools(admin: Airflow) -> set[str]:
    return {pool["name"] for pool in admin.call("GET", "/api/v2/pools")["pools"]}


def permissions(anonymous: Airflow, admin: Airflow, marketer: Airflow, approver: Airflow, campaign: str) -> None:
    """What docs/deployment.md says that each user may, asked of the REST API. 404 and 409 lie behind the permission."""
    new_run = {"json": {"logical_date": None, "conf": {}}}
    paused = {"json": {"is_paused": True}}
    answer = {"json": {"chosen_options": ["Approve"]}}
    ours, others = f"/api/v2/dags/{campaign}", "/api/v2/dags/ingest_data"
    refused = {"marketer": 403, "approver": 403}
    table: list[tuple[str, str, dict[str, Any], dict[str, int]]] = [
        ("GET", "/api/v2/dags", {}, {"anonymous": 401, "marketer": 200, "approver": 200, "admin": 200}),
        ("GET", "/tower/", {}, {"anonymous": 303}),
        ("POST", f"{ours}/dagRuns", new_run, {"anonymous": 401}),
        ("PATCH", ours, paused, {"anonymous": 401, "marketer": 200}),
        ("PATCH", others, paused, {**refused, "admin": 200}),
        ("POST", f"{others}/dagRuns", new_run, refused),
        ("PATCH", f"{ours}/dagRuns/none", {"json": {"state": "success"}}, {**refused, "admin": 404}),
        ("DELETE", f"{ours}/dagRuns/none", {}, {**refused, "admin": 404}),
        ("POST", f"{ours}/clearTaskInstances", {"json": {}}, refused),
        (
            "PATCH",
            f"{ours}/dagRuns/none/taskInstances/approve/-1/hitlDetails",
            answer,
            {"anonymous": 401, "marketer": 403, "approver": 404},
        ),
        ("PATCH", f"{others}/dagRuns/none/taskInstances/load/-1/hitlDetails", answer, {"approver": 403}),
        ("GET", "/api/v2/connections", {}, {**refused, "admin": 200}),
        ("GET", "/api/v2/variables", {}, {**refused, "admin": 200}),
        ("GET", "/auth/fab/v1/users", {}, {**refused, "anonymous": 401, "admin": 200}),
    ]
    users = {"anonymous": anonymous, "marketer": marketer, "approver": approver, "admin": admin}
    wrong = [
        f"{name}: {method} {path}: {found} instead of {code}"
        for method, path, arguments, wanted in table
        for name, code in wanted.items()
        if (found := users[name].code(method, path, **arguments)) != code
    ]
    if wrong:
        raise TrialFailed("\n".join(["permissions:", *wrong]))
    say(f"{sum(len(wanted) for *_, wanted in table)} questions of who may what are answered as documented")


def databases(services: Mapping[str, Service]) -> None:
    """Each role opens its own database with its password, and not the other's."""
    secret = services["postgres"].environment
    for role, password, database, opens in (
        ("airflow", secret["AIRFLOW_DB_PASSWORD"], "airflow", True),
        ("airflow", secret["AIRFLOW_DB_PASSWORD"], "controltower", False),
        ("controltower", secret["LEDGER_DB_PASSWORD"], "controltower", True),
        ("controltower", secret["LEDGER_DB_PASSWORD"], "airflow", False),
        ("airflow", "wrong", "airflow", False),
    ):
        done = psql(role, password, database, "select 1")
        expect(f"{role} opens {database}", done.returncode == 0, opens)
    say("each database opens to its own role only")


def psql(role: str, password: str, database: str, query: str) -> subprocess.CompletedProcess[str]:
    command = [f"{POSTGRES}/psql", "-h", "postgres", "-U", role, "-d", database, "-Atc", query]
    return subprocess.run(command, env={"PGPASSWORD": password}, capture_output=True, text=True, check=False)


def load(services: Mapping[str, Service], admin: Airflow, marketer: Airflow, running: list[Service]) -> None:
    """ingest_data over the folder that the scheduler's container sees read-only."""
    at = time.monotonic()
    for dag in ("ingest_data", *CHAIN):
        unpause(admin, dag)
    run = admin.trigger("ingest_data", end=DAY)
    state = wait("ingest_data", lambda: ended(admin, "ingest_data", run), running, patience=300)
    log = log_of(marketer, "ingest_data", run, "load")
    expect(f"ingest_data, whose log ends {log[-2000:]}", state, "success")
    found = result(admin, "ingest_data", run, "load")
    rows = {table: counts["loaded"] for table, counts in found["tables"].items()}
    expect("tables without rows", [t for t in ("customers", "events", "orders") if not rows[t]], [])
    secret = services["postgres"].environment["LEDGER_DB_PASSWORD"]
    kept = psql("controltower", secret, "controltower", "select count(*) from consents").stdout.strip()
    expect("consents in PostgreSQL", int(kept), found["consents"])
    expect("the log that the marketer reads", '"event"' in log, True)
    expect("the Tower's page", marketer.code("GET", "/tower/"), 200)
    services["airflow-scheduler"].run(["python", "-m", "controltower.cli", "doctor"])
    took = time.monotonic() - at
    say(f"ingest_data loaded {sum(rows.values())} rows, {kept} consents are in PostgreSQL, after {took:.1f} s")


def follow(admin: Airflow, running: list[Service]) -> None:
    """What the load triggers by itself, up to the scores."""
    at = time.monotonic()
    for dag in CHAIN:
        run = wait(f"a run of {dag}", lambda dag=dag: newest(admin, dag), running, patience=120)
        state = wait(dag, lambda dag=dag, run=run: ended(admin, dag, run), running, patience=300)
        if state != "success":
            tasks = admin.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
            raise TrialFailed(f"{dag} {state}: " + log_of(admin, dag, run, tasks[0]["task_id"])[-2000:])
    say(f"{', '.join(CHAIN)} followed in {time.monotonic() - at:.1f} s")


def approve(admin: Airflow, marketer: Airflow, approver: Airflow, dag: str, running: list[Service]) -> None:
    """The marketer starts a campaign that waits; only the approver's answer lets it go; then it is dispatched."""
    unpause(marketer, dag)
    run = marketer.trigger(dag, approve_above=0)
    task = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances"

    def waits() -> bool:
        found = {t["task_id"]: t["state"] for t in admin.call("GET", task)["task_instances"]}
        for name, state in found.items():
            if state in ("failed", "upstream_failed", "skipped"):
                planned = (
                    result(admin, dag, run, "plan") if found["plan"] == "success" else log_of(admin, dag, run, "plan")
                )
                raise TrialFailed(f"{dag}.{name} {state}: {str(planned)[-2000:]}")
        return found.get("approve") in ("awaiting_input", "deferred")

    wait("the question to the approver", waits, running)
    # Airflow 3.3.2 loses an answer that comes before the worker which asked has ended: it takes the task for failed,
    # and asks again after the retry delay. People are slower than that.
    time.sleep(10)
    answer = {"json": {"chosen_options": ["Approve"], "params_input": {}}}
    expect("the marketer's answer", marketer.code("PATCH", f"{task}/approve/-1/hitlDetails", **answer), 403)
    expect("the admin's answer", admin.code("PATCH", f"{task}/approve/-1/hitlDetails", **answer), 403)
    expect("the approver's answer", approver.code("PATCH", f"{task}/approve/-1/hitlDetails", **answer), 200)
    expect("the campaign", wait("the campaign", lambda: ended(admin, dag, run), running), "success")
    planned = result(admin, dag, run, "plan")[0]
    released = result(admin, dag, run, "release")
    expect("the released run", (released["run_id"], released["outcome"]), (planned["run_id"], "approved"))
    say(f"{dag}: {planned['messages']} messages, asked for by the marketer, let go by the approver and nobody else")


def dispatch(services: Mapping[str, Service], admin: Airflow, running: list[Service]) -> None:
    """From the scheduler's container to the sandbox's; and an event signed by the sandbox to the public app."""
    set_clock(services["airflow-scheduler"], "12:00")
    unpause(admin, "dispatch_messages")
    run = admin.trigger("dispatch_messages")
    state = wait("dispatch_messages", lambda: ended(admin, "dispatch_messages", run), running)
    expect(f"dispatch_messages: {log_of(admin, 'dispatch_messages', run, 'dispatch')[-2000:]}", state, "success")
    inbox = f"http://{services['controltower-sandbox'].address}:8025/api/summary"
    counts = httpx.get(inbox, trust_env=False).raise_for_status().json()
    if not sum(counts.values()):
        raise TrialFailed("dispatch_messages sent nothing to the sandbox")
    key = credentials.kept(VOLUMES / "home" / "sandbox").webhook_key()
    body = b'[{"event": "delivered", "sg_event_id": "trial", "timestamp": 1781500000}]'
    public = f"http://{services['controltower-public'].address}:8090/webhooks/sendgrid"
    answer = httpx.post(public, content=body, headers=webhooks.sign(key, int(time.time()), body), trust_env=False)
    expect("a signed event", answer.status_code, 202)
    say(f"dispatched to the sandbox: {counts}; the public app takes an event that the sandbox signed")


def back_up(services: Mapping[str, Service]) -> None:
    """The documented pg_dump of both databases, and a restore of each into an empty one."""
    at, count = time.monotonic(), "select count(*) from {}"
    secret = services["postgres"].environment["POSTGRES_PASSWORD"]
    for database, table in (("controltower", "consents"), ("airflow", "dag_run")):
        dump = subprocess.run(
            [f"{POSTGRES}/pg_dump", "-h", "postgres", "-U", "postgres", "-Fc", database],
            env={"PGPASSWORD": secret}, check=True, capture_output=True,
        ).stdout  # fmt: skip
        expect(
            "createdb",
            psql("postgres", secret, "postgres", f"create database restored_{database} owner {database}").returncode,
            0,
        )
        restore = [
            f"{POSTGRES}/pg_restore",
            "-h",
            "postgres",
            "-U",
            "postgres",
            "--exit-on-error",
            "-d",
            f"restored_{database}",
        ]
        subprocess.run(restore, env={"PGPASSWORD": secret}, input=dump, check=True, capture_output=True)
        before, after = (
            psql("postgres", secret, name, count.format(table)).stdout.strip()
            for name in (database, f"restored_{database}")
        )
        expect(f"rows of {table} in the restored database", after, before)
    say(f"both databases dumped and restored in {time.monotonic() - at:.1f} s")


def unpause(user: Airflow, dag: str) -> None:
    user.call("PATCH", f"/api/v2/dags/{dag}", json={"is_paused": False})


def newest(user: Airflow, dag: str) -> str | None:
    runs = user.call("GET", f"/api/v2/dags/{dag}/dagRuns", params={"order_by": "-run_after"})["dag_runs"]
    return runs[0]["dag_run_id"] if runs else None


def result(user: Airflow, dag: str, run: str, task: str) -> Any:
    path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
    return user.call("GET", path, params={"deserialize": True})["value"]


def log_of(user: Airflow, dag: str, run: str, task: str) -> str:
    path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1"
    return user.client.get(path, params={"full_content": True}, headers={"Accept": "application/json"}).text


def ended(admin: Airflow, dag: str, run: str) -> str | None:
    state = admin.state(dag, run)
    return state if state in ("success", "failed") else None
