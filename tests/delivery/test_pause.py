"""Pausing a run while it is being sent, and what becomes of what it held back: on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.delivery import sending
from controltower.delivery.providers.fcm import Fcm
from controltower.delivery.providers.sendgrid import SendGrid
from controltower.jobs.control import cancel_campaign, pause_campaign, resume_campaign
from controltower.jobs.dispatch import dispatch_messages
from controltower.ledger import holds, tables
from controltower.ledger.database import begin
from support.patience import PATIENCE

from .conftest import CUSTOMERS, NOW, Desk

N = len(CUSTOMERS)
HOUR = timedelta(hours=1)
CAMPAIGN, DAY = "picked_for_you", NOW.date().isoformat()


@contextmanager
def being_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch, after: int = 1) -> Iterator[None]:
    """A dispatcher in another thread, two calls at a time to a slow provider; entered once `after` calls have begun."""
    begun = Event()
    real, calls = sending._post, []

    def post(provider: Any, payload: Any) -> Any:
        calls.append(payload)
        if len(calls) >= after:
            begun.set()
        return real(provider, payload)

    monkeypatch.setattr(sending, "_post", post)
    for provider in (SendGrid, Fcm):
        monkeypatch.setattr(provider, "calls_at_once", 2)
    desk.fault("slow", count=N, seconds=0.1)
    clock.set_clock(desk.settings, NOW, speed=1.0)
    worker = Thread(target=desk.dispatch, args=(None,))
    worker.start()
    assert begun.wait(PATIENCE)
    yield
    worker.join(PATIENCE)
    assert not worker.is_alive()


def opened(desk: Desk) -> list[datetime]:
    with begin(desk.settings) as ledger:
        return list(ledger.execute(sa.select(tables.requests.c.opened_at)).scalars())


def pause(desk: Desk) -> datetime:
    """When the pause was committed, by the clock that stamps the requests."""
    assert pause_campaign(CAMPAIGN, DAY)["outcome"] == "paused"
    return clock.now(desk.settings)


@pytest.mark.parametrize("channel", ["email", "push"])
def test_no_request_starts_after_a_pause_and_a_resumed_run_goes_on_where_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, channel: str
) -> None:
    desk.plan(channel)
    with being_sent(desk, monkeypatch, after=3):
        paused_at = pause(desk)
    moments = opened(desk)
    assert 3 <= len(moments) < N
    assert max(moments) <= paused_at  # the issue allows 5 s
    totals = desk.totals()
    assert (totals.hold, totals.pending, sum(totals.accepted.values())) == ("pause", N - len(moments), len(moments))
    assert desk.dispatch(NOW + HOUR).batches == 0
    assert resume_campaign(CAMPAIGN, DAY)["outcome"] == "resumed"
    assert desk.dispatch(NOW + HOUR).requests == {"sent": N - len(moments)}
    caught = desk.caught()
    assert (caught["message_ids"], caught["duplicates"]) == (N, 0)


def test_a_cancelled_run_stops_as_soon(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.plan()
    with being_sent(desk, monkeypatch, after=3):
        cancel_campaign(CAMPAIGN, DAY)
        cancelled_at = clock.now(desk.settings)
    assert max(opened(desk)) <= cancelled_at
    totals = desk.totals()
    assert totals.cancelled == N - len(opened(desk)) > 0
    assert totals.pending == 0


@pytest.mark.parametrize(("stop", "waits"), [(pause_campaign, N - 4), (cancel_campaign, 0)])
def test_the_answer_counts_what_left_what_waits_and_what_nobody_can_recall(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, stop: Callable[..., dict[str, Any]], waits: int
) -> None:
    """Two calls were answered, two are under way, when somebody stops it."""
    desk.plan()
    begun, answered, calls = Event(), Event(), []
    real = sending._post

    def post(provider: Any, parcel: Any) -> Any:
        calls.append(parcel)
        if len(calls) > 2:
            if len(calls) == 4:
                begun.set()
            assert answered.wait(20)
        return real(provider, parcel)

    monkeypatch.setattr(sending, "_post", post)
    monkeypatch.setattr(SendGrid, "calls_at_once", 2)
    worker = Thread(target=desk.dispatch)
    worker.start()
    assert begun.wait(20)
    report = stop(CAMPAIGN, DAY)
    answered.set()
    worker.join(30)
    assert (report["left"], report["under_way"], report["wait"]) == (2, 2, waits)
    totals = desk.totals()
    assert (totals.accepted, totals.pending, totals.cancelled) == ({"sendgrid": 4}, waits, N - 4 - waits)


def test_pausing_and_resuming_at_any_time_has_a_named_outcome(desk: Desk) -> None:
    desk.plan()
    clock.set_clock(desk.settings, NOW, speed=0)
    assert resume_campaign(CAMPAIGN, DAY)["outcome"] == "not_paused"
    assert [pause_campaign(CAMPAIGN, DAY)["outcome"] for _ in range(2)] == ["paused", "paused_before"]
    assert [resume_campaign(CAMPAIGN, DAY)["outcome"] for _ in range(2)] == ["resumed", "not_paused"]
    with begin(desk.settings) as ledger:
        holds.set_hold(ledger, desk.run_id, "approval")
    assert resume_campaign(CAMPAIGN, DAY)["outcome"] == "not_paused"
    report = pause_campaign(CAMPAIGN, DAY)
    assert (report["outcome"], report["hold"]) == ("paused", "approval")
    cancel_campaign(CAMPAIGN, DAY)
    assert pause_campaign(CAMPAIGN, DAY)["outcome"] == resume_campaign(CAMPAIGN, DAY)["outcome"] == "cancelled_before"


def test_a_run_that_is_out_has_nothing_to_pause(desk: Desk) -> None:
    desk.plan()
    desk.dispatch()
    assert pause_campaign(CAMPAIGN, DAY)["outcome"] == "nothing_left"


@pytest.mark.parametrize("hold", ["pause", "approval"])
def test_what_is_held_beyond_its_expiry_ends_as_expired(desk: Desk, hold: str) -> None:
    desk.plan()
    desk.plan("push", due_at=NOW - timedelta(days=1) + 5 * HOUR)  # another run, which isn't held
    with begin(desk.settings) as ledger:
        held = desk.run_id - 1
        holds.set_hold(ledger, held, "approval") if hold == "approval" else holds.pause(ledger, held)
    clock.set_clock(desk.settings, NOW, speed=0)
    report = dispatch_messages()
    assert (report["requests"], report["pending"], report["held"]) == ({"sent": N}, 0, {hold: N})
    clock.set_clock(desk.settings, NOW + 25 * HOUR, speed=0)
    report = dispatch_messages()
    assert (report["requests"], report["refused"], report["held"]) == ({}, {"expired": N}, {})


def test_a_run_resumed_too_late_sends_nothing(desk: Desk) -> None:
    desk.plan()
    clock.set_clock(desk.settings, NOW, speed=0)
    pause(desk)
    clock.set_clock(desk.settings, NOW + 25 * HOUR, speed=0)
    assert resume_campaign(CAMPAIGN, DAY)["outcome"] == "resumed"
    assert desk.dispatch(NOW + 25 * HOUR).refused == {"expired": N}
    assert desk.totals().not_sent == {"expired": N}
