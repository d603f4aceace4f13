"""Whatever the order of dispatches, lost answers, events, stops and reconcile runs: every message ends, and under
at_most_once none is sent twice. On each database.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.jobs.reconcile import reconcile
from controltower.ledger import events, plans, reports, runs, unknowns, work
from controltower.ledger.database import begin, reading
from controltower.ledger.states import message_states
from controltower.ledger.tables import batches
from controltower.settings import INCLUDE, Settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger.conftest import DUE, message, write_plan

HOUR = timedelta(hours=1)
CUSTOMERS = 4
EXPIRES = timedelta(days=1)  # as write_plan has it
# How a call ends: whether its body arrived, and what the worker learns of it (None: nothing, it died).
ENDS: dict[str, tuple[bool, str | None]] = {
    "sent": (True, "sent"), "answer lost": (True, "unknown"), "request lost": (False, "unknown"),
    "busy": (False, "retry"), "refused": (False, "rejected"), "died after": (True, None), "died before": (False, None),
}  # fmt: skip
NEVER_LEFT = ("not_sent", "rejected", "cancelled")
_campaign = count()

# What stands in these lists more often is drawn more often.
DISPATCH = st.tuples(
    st.just("dispatch"),
    st.lists(st.sampled_from([*ENDS, "answer lost", "answer lost", "sent"]), min_size=CUSTOMERS, max_size=CUSTOMERS),
)
RECONCILE = st.tuples(st.just("reconcile"), st.sampled_from([3, 3, 3, 3, 3, 0, 1, 30]))
EVENT = st.tuples(st.just("event"), st.integers(0, 20))
STOP = st.tuples(st.just("refuse"), st.integers(0, 2)) | st.tuples(st.sampled_from(["replan", "cancel"]), st.none())
NOTHING = st.tuples(st.just("event"), st.just(None))
REST = st.sampled_from([STOP, *[NOTHING] * 9]).flatmap(lambda chosen: chosen)
ROUND = st.tuples(DISPATCH, RECONCILE, st.one_of(EVENT, NOTHING), REST).flatmap(st.permutations)
STORIES = st.lists(ROUND, min_size=3, max_size=6).map(lambda rounds: [step for one in rounds for step in one])


@dataclass
class Story:
    """A campaign's messages between our ledger and a provider that remembers what arrived."""

    settings: Settings
    delivery: str
    campaign: str = field(default_factory=lambda: f"story{next(_campaign)}")
    now: datetime = DUE
    arrived: list[str] = field(default_factory=list)  # message ids, each time that one arrived
    told: set[str] = field(default_factory=set)  # of which an event was recorded

    def plan(self) -> None:
        with reading(self.settings) as ledger:
            run = runs.current(ledger, self.campaign, "2026-06-15")
            taken = plans.messaged(ledger, run.occurrence_id) if run else set()
        write_plan(
            self.settings, [message(n, due_at=self.now) for n in range(CUSTOMERS) if n not in taken],
            campaign=self.campaign, now=self.now, delivery=self.delivery, grace_hours={"email": 2},
        )  # fmt: skip

    def claim(self) -> tuple[work.Batch, str] | None:
        """As after every pause and every lease, so that a step finds what there is."""
        with begin(self.settings) as ledger:
            ledger.execute(sa.update(batches).values(not_before=0.0))
            held = sa.update(batches).where(batches.c.lease_token.is_not(None))
            ledger.execute(held.values(lease_until=0.0))
            return work.claim(ledger, self.now, ["email"])

    def dispatch(self, ends: list[str]) -> None:
        claimed = self.claim()
        if claimed is None:
            return
        batch, token = claimed
        if self.now > batch.expires_at:
            self.drop(batch, token, batch.unsettled, "expired")
            return
        with begin(self.settings) as ledger:
            calls = [([m.seq], None) for m in batch.unsettled]
            ids = work.open_requests(ledger, batch, token, "sendgrid", calls, self.now) if calls else []
        results = []
        for one, request_id, end in zip(batch.unsettled, ids, ends, strict=False):
            left, answer = ENDS[end]
            self.arrived += [one.message_id] * left
            if answer:
                results.append({"request_id": request_id, "state": answer, "reason": None})
        if results:
            with begin(self.settings) as ledger:
                work.close_requests(ledger, batch, token, results, self.now)
        if len(results) == len(ids):
            with begin(self.settings) as ledger:
                work.release(ledger, batch, token, self.now)

    def refuse(self, most: int) -> None:
        """The last check lets some messages not leave."""
        if claimed := self.claim():
            self.drop(*claimed, claimed[0].unsettled[:most], "suppressed")

    def drop(self, batch: work.Batch, token: str, some: list[work.Message], reason: str) -> None:
        with begin(self.settings) as ledger:
            work.drop(ledger, batch, token, [(m.seq, "not_sent", reason) for m in some], self.now)
            work.release(ledger, batch, token, self.now)

    def event(self, n: int | None) -> None:
        """Of something that arrived; the same may come several times."""
        if n is None or not self.arrived:
            return
        n %= len(self.arrived)
        row = {"provider": "sendgrid", "provider_event_id": f"{self.campaign}/{n}", "message_id": self.arrived[n],
               "event": "delivered", "occurred_at": self.now, "received_at": self.now}  # fmt: skip
        with begin(self.settings) as ledger:
            events.record(ledger, [row])
        self.told.add(self.arrived[n])

    def reconcile(self, hours: int) -> dict[str, Any]:
        self.now += hours * HOUR
        clock.set_clock(self.settings, self.now, speed=0)
        return reconcile()

    def stop(self, superseded: bool) -> None:
        with begin(self.settings) as ledger:
            run = runs.current(ledger, self.campaign, "2026-06-15")
            assert run
            if run.state == "planned":
                reason = "superseded" if superseded else "cancelled"
                plans.cancel_unsent(
                    ledger, run.occurrence_id, reason=reason, now=self.now, superseded=superseded, freed=False
                )
        if superseded and run.state == "planned":
            self.plan()

    def do(self, step: str, how: Any) -> None:
        if step in ("replan", "cancel"):
            self.stop(step == "replan")
        else:
            getattr(self, step)(how)

    def end(self) -> None:
        """All events come, time passes, and nothing waits any more."""
        self.now += EXPIRES + HOUR
        for _ in range(3 * CUSTOMERS):  # batches at most: its messages may have been parted
            self.dispatch([])
        for n in range(0, len(self.arrived), 2):  # of half of what arrived nothing ever comes back
            self.event(n)
        for _ in range(3):
            self.reconcile(3)

    def check(self) -> dict[str, tuple[str, str | None]]:
        """The view and the counts say the same. Returns state and reason by message id."""
        s = message_states.c
        with reading(self.settings) as ledger:
            ids = [run.run_id for run in runs.planned(ledger, campaign=self.campaign)]
            totals = reports.totals(ledger, ids)
            rows = ledger.execute(sa.select(s).where(s.campaign == self.campaign)).all()
        assert all(t.accounted for t in totals)
        counted = Counter(row.state for row in rows)
        assert counted["accepted"] == sum(sum(t.accepted.values()) for t in totals)
        assert counted["waiting"] == sum(t.pending for t in totals)
        assert (counted["unknown"], counted["cancelled"]) == (
            sum(t.unknown for t in totals), sum(t.cancelled for t in totals)
        )  # fmt: skip
        live = [row for row in rows if row.message_id]
        assert len({row.customer_id for row in live}) == len(live)  # whatever the versions
        return {row.message_id: (row.state, row.reason) for row in live}


@pytest.fixture
def conf(ledger_settings: Settings) -> Settings:
    shutil.copy(INCLUDE / "shops" / "simulated.yaml", ledger_settings.shop_file)
    return ledger_settings


@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
@given(steps=STORIES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_message_ends_and_none_twice(conf: Settings, delivery: str, steps: list[tuple[str, Any]]) -> None:
    with begin(conf) as ledger:  # what an example that failed has left
        ledger.execute(sa.update(batches).values(state="cancelled", lease_token=None, lease_until=None, done_at=None))
    story = Story(conf, delivery)
    story.plan()
    for step, how in steps:
        story.do(step, how)
        story.check()
    story.end()
    ended = story.check()
    times = Counter(story.arrived)
    for message_id, (state, reason) in ended.items():
        if message_id in story.told or state == "accepted":
            assert (state, bool(times[message_id])) == ("accepted", True)
        if state in NEVER_LEFT:
            assert not times[message_id]
        assert state != "waiting"
        assert state != "unknown" or reason == unknowns.GRACE_OVER
    assert times.keys() <= ended.keys()
    if delivery == "at_most_once":
        assert max(times.values(), default=1) == 1
    assert story.reconcile(200) == {
        "accepted": 0, "reopened": 0, "given_up": 0, "waiting": 0, "as_of": story.now.isoformat()
    }  # fmt: skip
