"""Playing one schedule."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from controltower import clock
from controltower.jobs import approvals, control, dispatch, reconcile
from controltower.ledger import consents, reports
from controltower.ledger.database import begin, reading
from controltower.ledger.tables import batches, campaign_runs, occurrences, providers
from controltower.sandbox import webhook
from controltower.settings import Settings
from support import webhooks

from fault import shop, worker
from fault.schedule import FIRST_HALF, LATER, Act, Round, Schedule
from fault.world import Mail, World

PATIENCE = 120.0  # seconds for a process
MORNING = 21  # hours after noon
QUIET_ROUNDS = 8  # without faults, at most, until nothing waits
ENOUGH = 3  # faults that a schedule must have met
_PER_POST = 30  # events


@dataclass
class Play:
    """A schedule under way: what happened, as far as the verdict must know it."""

    world: World
    conf: Settings
    schedule: Schedule
    rng: random.Random
    met: list[str] = field(default_factory=list)  # the faults that really happened
    places: list[str] = field(default_factory=list)  # at which a process was killed
    lost_answers: Counter[str] = field(default_factory=Counter)  # by how the provider lost them
    gone: int = 0  # processes that ended without giving back what they had, or overslept
    told: set[str] = field(default_factory=set)  # messages of which an event was taken in
    wrong: list[str] = field(default_factory=list)
    _posted: set[tuple[str, int]] = field(default_factory=set)

    def play(self) -> None:
        if not self.schedule.pauses:
            shop.without_pauses(self.conf)
        self._order()
        for one in self.schedule.rounds:
            self._round(one)
        while len(self.met) < ENOUGH:
            self._round(Round([Act("dispatch")], during=["restart" if self.world.server else "dead writer"]))
        self._finish()

    def _order(self) -> None:
        """The campaigns are due one after the other, in the schedule's order: some at once, some after an hour."""
        r, o = campaign_runs.c, occurrences.c
        with begin(self.conf) as ledger:
            of_run = sa.select(r.run_id, o.campaign).join(occurrences, o.occurrence_id == r.occurrence_id)
            for run_id, campaign in ledger.execute(of_run).all():
                place = self.schedule.order.index(campaign)
                due = shop.NOW + timedelta(minutes=(30 if place >= FIRST_HALF else -60) + place)
                ledger.execute(sa.update(batches).where(batches.c.run_id == run_id).values(due_at=due))

    def _round(self, one: Round) -> None:
        self._set_clock(one.hours)
        if one.clock_steps:
            self.met.append("clock step")
        self.world.sandbox.set_faults(one.http)
        if "withdrawals" in one.during:
            self._withdraw()
        space = self._space() if "no space" in one.during else None
        impatient = any(f["kind"] == "hang" for f in one.http)
        sleeper = self._start(one.sleeper, space, impatient) if one.sleeper else None
        asleep = sleeper is not None and self._wait(sleeper, space is not None)
        if asleep and one.overslept:
            self._let_time_pass()
        acts = [*one.acts, *([Act("die writing", kill=("", 0))] if "dead writer" in one.during else [])]
        before = self.world.sandbox.size()
        running = [self._start(act, space, impatient) for act in acts]
        if "restart" in one.during:
            self._until_some_came(before, running)
            self.world.restart()
        broken = bool({"restart", "no space"} & {*one.during})
        for process in running:
            self._wait(process, broken)
        if sleeper and asleep:
            self.gone += one.overslept
            self.met.append("slept" + " beyond its lease" * one.overslept)
            os.kill(sleeper.pid, signal.SIGKILL if one.dies else signal.SIGCONT)
            self._wait(sleeper, broken)
        self.met += one.during
        self.met += ["two at once"] if sum(a.job == "dispatch" for a in acts) > 1 else []
        lost = self.world.sandbox.end_faults(one.http)
        self.met += list(lost)
        self.lost_answers.update(lost)
        self._set_clock(0)
        self._let_time_pass()

    def _start(self, act: Act, space: int | None = None, impatient: bool = False) -> Process:
        posts = self._posts() if act.job == "feedback" else []
        pid = worker.start(act, posts=[(h, b) for h, b, _ in posts], space=space, impatient=impatient)
        return Process(pid, act, [mail for _, _, mails in posts for mail in mails])

    def _wait(self, process: Process, broken: bool = False) -> bool:
        """Wait until a process ends; whether it fell asleep first. `broken`: its database may fail it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            pid, status = os.waitpid(process.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                return True
            if pid:
                self._ended(process, os.waitstatus_to_exitcode(status), broken)
                return False
            time.sleep(0.003)
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        self.wrong.append(f"{process.act.job} hangs")
        return False

    def _ended(self, process: Process, code: int, broken: bool) -> None:
        if code == 0 and process.act.job == "feedback":
            self._posted.update((m.provider_id, m.position) for m in process.mails)
            self.told.update(m.message_id for m in process.mails)
        if code in (0, worker.EXIT_TOLD):
            return
        self.gone += 1
        if code == -signal.SIGKILL and process.act.kill and process.act.kill[0]:
            self.met.append(f"kill {process.act.kill[0]}")
            self.places.append(process.act.kill[0])
        elif code != -signal.SIGKILL and not (broken and code == worker.EXIT_DATABASE):
            self.wrong.append(f"{process.act.job} ended with {code}")

    def _finish(self) -> None:
        """Without faults: everything leaves that may, what comes back is read, and every grace ends."""
        self._go_on()
        self._dispatch_all(0)
        self._dispatch_all(MORNING)
        self._feed_back(late=False)
        for hours in (MORNING + LATER, MORNING + 2 * LATER):
            self._set_clock(hours)
            if not reconcile.reconcile()["reopened"]:
                break
            self._dispatch_all(hours)
        self._feed_back(late=True)

    def _go_on(self) -> None:
        """Whoever was killed while giving an order gives it again: nothing is held for good, `late` is planned."""
        if any(act.about == "late" for r in self.schedule.rounds for act in r.acts):
            shop.plan(self.conf, "late")
        with reading(self.conf) as ledger:
            paused = ledger.execute(sa.select(occurrences.c.campaign).where(occurrences.c.paused)).scalars().all()
        for campaign in paused:
            control.resume_campaign(campaign, shop.OCCASION)
        waits = approvals.newest_run("large", shop.OCCASION)
        if waits["hold"] == "approval":
            approvals.approve_campaign(waits["run_id"], waits["plan_hash"], "ann")

    def _dispatch_all(self, hours: int) -> None:
        self._set_clock(hours)
        for _ in range(QUIET_ROUNDS):
            with reading(self.conf) as ledger:
                pending, next_due = reports.waiting(ledger)
            if not pending or (next_due and next_due > clock.now(self.conf)):
                return
            dispatch.dispatch_messages()
            self._let_time_pass()
        self.wrong.append(f"{pending} messages still wait after {QUIET_ROUNDS} dispatches without a fault")

    def _set_clock(self, hours: int) -> None:
        clock.set_clock(self.conf, shop.NOW + timedelta(hours=hours), speed=0)

    def _let_time_pass(self) -> None:
        """By the database's clock every pause is over, and the lease of whoever is gone or sleeps has run out."""
        with begin(self.conf) as ledger:
            ledger.execute(sa.update(batches).where(batches.c.not_before > 0).values(not_before=0.0))
            ledger.execute(sa.update(batches).where(batches.c.lease_token.is_not(None)).values(lease_until=0.0))
            ledger.execute(sa.update(providers).where(providers.c.paused_until > 0).values(paused_until=0.0))

    def _space(self) -> int:
        largest = max(f.stat().st_size for f in self.conf.home.rglob("*") if f.is_file())
        return largest + self.rng.choice((4_096, 65_536, 262_144))

    def _until_some_came(self, before: int, running: list[Process]) -> None:
        deadline = time.monotonic() + 1
        while self.world.sandbox.size() == before and time.monotonic() < deadline:
            time.sleep(0.01)

    def _withdraw(self) -> None:
        """Some customers of each campaign no longer want mails or pushes."""
        some = [c for campaign in ("mails", "letters", "pushes") for c in self.rng.sample(shop.members(campaign), 5)]
        rows: list[dict[str, Any]] = [
            {"customer_id": c, "channel": channel, "purpose": "marketing", "recorded_at": shop.NOW, "granted": False,
             "source": "fault"}
            for c in some for channel in ("email", "push")
        ]  # fmt: skip
        with begin(self.conf) as ledger:
            consents.record(ledger, rows)

    def _feed_back(self, *, late: bool) -> None:
        """Post what wasn't taken in yet, and read it."""
        posts = self._posts(late=late)
        worker.take_in(self.conf, [(h, b) for h, b, _ in posts])
        self.told.update(m.message_id for _, _, mails in posts for m in mails)
        self._posted.update((m.provider_id, m.position) for _, _, mails in posts for m in mails)
        self.met += [f"events {e}" for e in self.schedule.events if late]

    def _posts(self, *, late: bool = False) -> list[tuple[dict[str, str], bytes, list[Mail]]]:
        """SendGrid's signed posts about the mails that it took, as the schedule lets them come."""
        mails = [m for m in self.world.sandbox.mails() if (m.provider_id, m.position) not in self._posted]
        mails = [m for m in mails if not self._has("some lost", m, 0.5) and "all lost" not in self.schedule.events]
        if not late:
            mails = [m for m in mails if not self._has("some late", m, 0.6)]
        if "reordered" in self.schedule.events:
            self.rng.shuffle(mails)
        again = self.rng.sample(mails, len(mails) // 2) if "duplicated" in self.schedule.events else []
        posts = []
        told = [*mails, *again]
        for start in range(0, len(told), _PER_POST):
            some = told[start : start + _PER_POST]
            body = json.dumps([_event(m) for m in some]).encode()
            posts.append((webhooks.sign(self.world.signer, int(clock.wall()), body), body, some))
        return posts + (self.rng.sample(posts, len(posts) // 2) if again else [])

    def _has(self, fate: str, mail: Mail, share: float) -> bool:
        """Whether this befalls the events of a message: the same for all of them."""
        drawn = random.Random(f"{self.schedule.seed}/{fate}/{mail.message_id}").random()
        return fate in self.schedule.events and drawn < share


@dataclass
class Process:
    pid: int
    act: Act
    mails: list[Mail]  # of which it takes in the events


def _event(mail: Mail) -> dict[str, Any]:
    return webhook.event("delivered", shop.NOW, email=mail.to, provider_id=mail.provider_id, position=mail.position,
                         categories=[], custom_args={"message_id": mail.message_id})  # fmt: skip
