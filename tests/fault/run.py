"""Running one schedule, and comparing the sandbox's own record with the ledger afterwards."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from controltower import clock
from controltower.jobs.control import pause_campaign, resume_campaign
from controltower.jobs.feedback import ingest_feedback
from controltower.ledger import consents, database, reports
from controltower.ledger.database import begin, reading
from controltower.ledger.tables import batches, messages, outcomes, providers
from controltower.sandbox import webhook
from controltower.settings import Settings
from support import webhooks

from fault import worker
from fault.schedule import Round, Schedule
from fault.world import CUSTOMERS, NOW, World

PATIENCE = 120.0  # seconds for a worker
QUIET_ROUNDS = 12  # without faults, at most, until all is sent
_KILLED = -9
_forking = multiprocessing.get_context("forkserver")


@dataclass
class Verdict:
    """What came of a schedule; `wrong` is empty where all holds."""

    seed: int
    database: str
    faults: list[str]
    killed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    messages: int = 0
    unknown: int = 0
    states: Counter[str] = field(default_factory=Counter)


def run(world: World, schedule: Schedule) -> Verdict:
    """Play a schedule in a copy of the world and judge it."""
    verdict = Verdict(schedule.seed, schedule.database, schedule.faults)
    world.sandbox.clear()
    with world.copy(schedule.seed) as (conf, environment):
        for number, one in enumerate(schedule.rounds):
            _play(world, conf, environment, one, random.Random(schedule.seed * 31 + number), verdict)
        _finish(world, conf, environment, verdict)
        _feed_back(world, conf, schedule)
        judge(world, conf, schedule, verdict)
    return verdict


def _play(
    world: World, conf: Settings, environment: dict[str, str], one: Round, rng: random.Random, verdict: Verdict
) -> None:
    world.sandbox.http.delete("/api/faults")
    for fault in one.http:
        world.sandbox.http.post("/api/faults", json=fault).raise_for_status()
    if "clock back" in one.during or "clock forward" in one.during:
        hours = -rng.randint(1, 30) if "clock back" in one.during else rng.randint(1, 3)
        clock.set_clock(conf, NOW + timedelta(hours=hours), speed=0)
    space = None
    if "no space" in one.during:
        largest = max(f.stat().st_size for f in conf.home.rglob("*") if f.is_file())
        space = largest + rng.choice((4_096, 65_536, 262_144))
    workers = [(kill, _start(environment, kill, space)) for kill in one.kills]
    before = len(world.sandbox.caught())
    _until(lambda: len(world.sandbox.caught()) > before or not any(w.is_alive() for _, w in workers))
    if "database restart" in one.during and world.server:
        world.server.restart()
        database.forget()  # what was open is cut off
    if "withdrawals" in one.during:
        _withdraw(conf, rng.sample(CUSTOMERS, 12))
    if "pause" in one.during:
        pause_campaign("picked_for_you", NOW.date().isoformat())
    for kill, process in workers:
        process.join(PATIENCE)
        if process.is_alive():
            verdict.wrong.append("a worker hangs")
            process.kill()
            process.join()
        if kill and process.exitcode == _KILLED:
            verdict.killed.append(kill[0])
    if "pause" in one.during:
        resume_campaign("picked_for_you", NOW.date().isoformat())
    clock.set_clock(conf, NOW, speed=0)
    _let_time_pass(conf)


def _start(environment: dict[str, str], kill: tuple[str, int] | None, space: int | None) -> Any:
    process = _forking.Process(target=worker.run, args=(environment, kill, space))
    process.start()
    return process


def _finish(world: World, conf: Settings, environment: dict[str, str], verdict: Verdict) -> None:
    """Dispatch without faults until nothing waits."""
    world.sandbox.http.delete("/api/faults")
    for _ in range(QUIET_ROUNDS):
        process = _start(environment, None, None)
        process.join(PATIENCE)
        with reading(conf) as ledger:
            pending, _ = reports.waiting(ledger)
        if not pending:
            return
        _let_time_pass(conf)
    verdict.wrong.append(f"{pending} messages still wait after {QUIET_ROUNDS} rounds without a fault")


def _let_time_pass(conf: Settings) -> None:
    """By the database's clock every pause is over, and the lease of whoever is gone has run out."""
    with begin(conf) as ledger:
        ledger.execute(sa.update(batches).values(not_before=0.0))
        ledger.execute(sa.update(providers).values(paused_until=0.0))
        ledger.execute(sa.update(batches).where(batches.c.lease_token.is_not(None)).values(lease_until=0.0))


def _withdraw(conf: Settings, customers: list[str]) -> None:
    rows = [
        {"customer_id": c, "channel": channel, "purpose": "marketing", "recorded_at": NOW, "granted": False,
         "source": "fault"}
        for c in customers for channel in ("email", "push")
    ]  # fmt: skip
    with begin(conf) as ledger:
        consents.record(ledger, rows)


def _until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.01)


def _feed_back(world: World, conf: Settings, schedule: Schedule) -> None:
    """SendGrid's events of the mails that it took, in whatever order and number, signed and stored as they come."""
    rng = random.Random(schedule.seed * 17)
    events = [
        webhook.event("delivered", NOW, email=to, provider_id=provider, position=position, categories=[],
                      custom_args={"message_id": message})
        for provider, position, to, message in world.sandbox.mails()
    ]  # fmt: skip
    if "all lost" in schedule.events:
        events = []
    if "some lost" in schedule.events:
        events = rng.sample(events, len(events) * 2 // 3)
    if "duplicated" in schedule.events:
        events += rng.sample(events, len(events) // 2)
    if "reordered" in schedule.events:
        rng.shuffle(events)
    schedule.told = {e["message_id"] for e in events}
    for start in range(0, len(events), 25):
        body = json.dumps(events[start : start + 25]).encode()
        headers = webhooks.sign(world.signer, int(clock.wall()), body)  # type: ignore[arg-type]
        for _ in range(2 if "duplicated" in schedule.events else 1):
            webhooks.receive(conf, "sendgrid", headers, body)
    ingest_feedback()


def judge(world: World, conf: Settings, schedule: Schedule, verdict: Verdict) -> None:
    """Nothing twice, nobody forgotten, and `unknown` only where the answer and all events were destroyed."""
    caught = world.sandbox.caught()
    for (message, _), times in caught.items():
        if times > 1:
            verdict.wrong.append(f"message {message} came {times} times")
    with reading(conf) as ledger:
        for totals in reports.totals(ledger):
            if not totals.accounted:
                verdict.wrong.append(f"run {totals.run_id} doesn't account for everybody: {totals.as_dict()}")
        states = _states(ledger)
    verdict.messages, verdict.states = len(states), Counter(state for _, state in states.values())
    there = {message for message, _ in caught}
    for message, (channel, state) in states.items():
        if (state == "accepted") and message not in there:
            verdict.wrong.append(f"message {message} is accepted and never came")
        if message in there and state not in ("accepted", "unknown"):
            verdict.wrong.append(f"message {message} came and is {state}")
        if state == "unknown":
            verdict.unknown += 1
            if channel == "email" and message in there and message in schedule.told:
                verdict.wrong.append(f"message {message} is unknown although its event came back")
    for message in there - states.keys():
        verdict.wrong.append(f"message {message} came and is in no ledger")
    destroys = {"500", "drop"} & set(schedule.faults) or any(
        f.startswith(("kill", "database", "no space")) for f in schedule.faults
    )
    if verdict.unknown and not destroys:
        verdict.wrong.append(f"{verdict.unknown} are unknown though no answer was lost")


def _states(ledger: sa.Connection) -> dict[str, tuple[str, str]]:
    """By message id: channel and state, its last outcome's, else its batch's."""
    m, b, o = messages.c, batches.c, outcomes.c
    last = sa.select(o.state).where(o.seq == m.seq).order_by(o.outcome_id.desc()).limit(1).scalar_subquery()
    state = sa.func.coalesce(last, sa.case((b.state == "done", "accepted"), else_=b.state))
    rows = sa.select(m.message_id, b.channel, state).join(batches, b.batch_id == m.batch_id)
    return {message: (channel, state) for message, channel, state in ledger.execute(rows)}
