"""Answers that were lost, from the provider to the end: by policy, through the sandbox, on each database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.commands import stages
from controltower.delivery.unknowns import Policy
from controltower.jobs.control import cancel_campaign, pause_campaign, resume_campaign
from controltower.jobs.feedback import ingest_feedback
from controltower.jobs.reconcile import reconcile
from controltower.ledger import consents, events, webhooks
from controltower.ledger.database import begin
from controltower.ledger.states import message_states
from controltower.ledger.unknowns import Lost
from controltower.shop import Shop

from .conftest import CUSTOMERS, NOW, Desk

N = len(CUSTOMERS)
HOUR = timedelta(hours=1)
CAMPAIGN, DAY = "picked_for_you", NOW.date().isoformat()
AGAIN: dict[str, Any] = {"delivery": "at_least_once", "grace_hours": {"email": 2, "push": 2}}
SHOP = Shop(name="s", url="u", sender={"name": "s", "email": "s@shop.example", "contact": "1", "postal_address": "1"})


def lose(desk: Desk, kind: str = "drop") -> None:
    """Three answers are lost; the rest leaves."""
    desk.fault(kind, count=3, seconds=0)
    desk.dispatch()
    desk.retry_now()
    desk.dispatch()
    assert desk.totals().unknown == 3


def settle(desk: Desk, hours: float) -> dict[str, int]:
    """What reconciling does so long after; nothing is left out."""
    clock.set_clock(desk.settings, NOW + hours * HOUR, speed=0)
    return {name: n for name, n in reconcile().items() if n and name != "as_of"}


def lost_messages(desk: Desk) -> list[str]:
    with begin(desk.settings) as ledger:
        s = message_states.c
        return list(ledger.execute(sa.select(s.message_id).where(s.state == "unknown")).scalars())


@pytest.mark.parametrize(("channel", "grace"), [("email", 72), ("push", 1)])
@pytest.mark.parametrize("kind", ["drop", "500"])
def test_at_most_once_ends_by_the_shops_grace_and_sends_nothing_again(
    desk: Desk, channel: str, grace: int, kind: str
) -> None:
    desk.plan(channel)
    lose(desk, kind)
    assert settle(desk, grace - 0.01) == {"waiting": 3}
    assert settle(desk, grace) == {"given_up": 3}
    assert settle(desk, grace + 100) == {}
    assert desk.dispatch(NOW + grace * HOUR).batches == 0
    totals = desk.totals()
    assert (totals.unknown, sum(totals.accepted.values()), totals.pending) == (3, N - 3, 0)
    assert desk.caught()["duplicates"] == 0


@pytest.mark.parametrize("channel", ["email", "push"])
@pytest.mark.parametrize(("kind", "twice"), [("drop", 3), ("500", 0)])
def test_at_least_once_sends_what_nothing_came_back_of_again(desk: Desk, channel: str, kind: str, twice: int) -> None:
    desk.plan(channel, **AGAIN)
    lose(desk, kind)
    assert settle(desk, 1.99) == {"waiting": 3}
    assert settle(desk, 2) == {"reopened": 3}
    assert settle(desk, 2) == {}
    assert desk.dispatch(NOW + 2 * HOUR).requests == {"sent": 3}
    totals = desk.totals()
    assert (totals.unknown, sum(totals.accepted.values()), totals.pending) == (0, N, 0)
    caught = desk.caught()
    assert (caught["mails"] + caught["pushes"], caught["message_ids"]) == (N + twice, N)


def test_what_came_back_keeps_a_message_from_being_sent_again(desk: Desk) -> None:
    desk.plan(**AGAIN)
    lose(desk)
    first, second, _ = lost_messages(desk)
    with begin(desk.settings) as ledger:
        rows = [
            {"provider": "sendgrid", "provider_event_id": i, "message_id": i, "event": "delivered", "occurred_at": NOW,
             "received_at": NOW} for i in (first, second)
        ]  # fmt: skip
        events.record(ledger, rows)
    assert settle(desk, 2) == {"reopened": 1}
    assert desk.dispatch(NOW + 2 * HOUR).requests == {"sent": 1}
    assert desk.caught()["mails"] == N + 1


def test_grace_is_counted_up_to_what_was_read(desk: Desk) -> None:
    """As when ingest_feedback was broken for days: the events may be there, unread."""
    desk.plan()
    lose(desk)
    with begin(desk.settings) as ledger:
        webhooks.store(ledger, "sendgrid", [b"[]"], NOW + HOUR)
    assert settle(desk, 100) == {"waiting": 3}
    ingest_feedback()
    assert settle(desk, 100) == {"given_up": 3}


def test_what_is_sent_again_is_checked_again(desk: Desk) -> None:
    desk.plan(**AGAIN)
    lose(desk)
    assert settle(desk, 2) == {"reopened": 3}
    with begin(desk.settings) as ledger:
        rows = [{"customer_id": c, "channel": "email", "purpose": "marketing", "recorded_at": NOW + HOUR,
                 "granted": False, "source": "page"} for c in CUSTOMERS]  # fmt: skip
        consents.record(ledger, rows)
    report = desk.dispatch(NOW + 2 * HOUR)
    assert (report.requests, report.refused) == ({}, {"no_consent": 3})
    assert desk.totals().unknown == 3  # the first call may have arrived
    assert settle(desk, 30) == {"given_up": 3}


def test_a_paused_run_keeps_what_is_to_be_sent_again_until_it_is_resumed(desk: Desk) -> None:
    desk.plan(**AGAIN)
    lose(desk)
    with begin(desk.settings) as ledger:  # else nothing is left to pause
        ledger.execute(sa.text("update occurrences set paused = true"))
    assert settle(desk, 2) == {"reopened": 3}
    assert pause_campaign(CAMPAIGN, DAY)["outcome"] == "paused_before"
    assert desk.dispatch(NOW + 3 * HOUR).batches == 0
    report = resume_campaign(CAMPAIGN, DAY)
    assert (report["outcome"], report["left"], report["wait"]) == ("resumed", N - 3, 3)
    assert desk.dispatch(NOW + 3 * HOUR).requests == {"sent": 3}


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_nothing_is_sent_again_of_a_run_that_was_stopped_or_has_expired(desk: Desk, how: str) -> None:
    desk.plan(**AGAIN)
    lose(desk)
    if how == "cancelled":
        assert cancel_campaign(CAMPAIGN, DAY)["left"] == N - 3
    assert settle(desk, 3 if how == "cancelled" else 24) == {"given_up": 3}


def test_several_reconcilers_at_once_do_what_one_does(desk: Desk) -> None:
    desk.plan(**AGAIN)
    lose(desk)
    clock.set_clock(desk.settings, NOW + 2 * HOUR, speed=0)
    with ThreadPoolExecutor(4) as pool:
        reports = [job.result() for job in [pool.submit(reconcile) for _ in range(4)]]
    assert sorted(r["reopened"] for r in reports) == [0, 0, 0, 3]
    assert desk.dispatch(NOW + 2 * HOUR).requests == {"sent": 3}


def test_a_long_list_is_worked_through_in_pieces(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controltower.jobs.reconcile._AT_ONCE", 2)
    desk.plan("push")
    lose(desk)
    assert settle(desk, 0) == {"waiting": 3}
    assert settle(desk, 1) == {"given_up": 3}


def test_the_command_settles_and_tells(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    clock.set_clock(desk.settings, NOW, speed=0)
    stages.reconcile()
    assert capsys.readouterr().out == (
        "accepted: 0\nreopened: 0\ngiven_up: 0\nwaiting: 0\nas_of: 2026-06-15T03:00:00+00:00\n"
    )


@pytest.mark.parametrize(
    ("spec", "channel", "hours", "planned", "verdict"),
    [
        ({}, "email", 71.9, True, "wait"),
        ({}, "email", 72, True, "give_up"),
        ({}, "push", 1, True, "give_up"),
        ({}, "kakao", 71.9, True, "wait"),  # a channel that nobody has said anything of
        ({"grace_hours": {"push": 3}}, "push", 2.9, True, "wait"),
        ({"grace_hours": {"push": 3}}, "email", 72, True, "give_up"),
        (AGAIN, "email", 1.9, True, "wait"),
        (AGAIN, "email", 2, True, "reopen"),
        (AGAIN, "email", 2, False, "give_up"),
        (AGAIN, "email", 24, True, "give_up"),  # it has expired
    ],
)
def test_what_becomes_of_a_lost_answer(
    spec: dict[str, Any], channel: str, hours: float, planned: bool, verdict: str
) -> None:
    one = Lost(1, NOW, 1, "m", 1, channel, expires_at=NOW + 24 * HOUR)
    at = NOW + hours * HOUR
    assert Policy.of(spec, SHOP).verdict(one, planned=planned, heard=at, now=at) == verdict
