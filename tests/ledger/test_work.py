"""Claims, leases, requests and outcomes: the same on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from controltower.ledger import plans, reports, runs, tables, work
from controltower.ledger.database import begin, epoch
from controltower.settings import Settings

from .conftest import DUE, NOW, message, write_plan

EMAIL = ["email"]
AFTER = DUE + timedelta(minutes=1)


def claim(settings: Settings) -> tuple[work.Batch, str]:
    with begin(settings) as ledger:
        claimed = work.claim(ledger, AFTER, EMAIL)
    assert claimed is not None
    return claimed


def send(settings: Settings, batch: work.Batch, token: str, states: list[str]) -> None:
    """One request a message, ending in the states given; `open` is left open, as by a crash."""
    with begin(settings) as ledger:
        members = [([m.seq], None) for m in batch.unsettled[: len(states)]]
        ids = work.open_requests(ledger, batch, token, "sendgrid", members, AFTER)
    rows = [
        {"request_id": i, "state": s, "reason": None if s == "sent" else s}
        for i, s in zip(ids, states, strict=True)
        if s != "open"
    ]
    with begin(settings) as ledger:
        work.close_requests(ledger, batch, token, rows, AFTER)


def expire_lease(settings: Settings) -> None:
    with begin(settings) as ledger:
        ledger.execute(
            sa.update(tables.batches)
            .where(tables.batches.c.lease_token.is_not(None))
            .values(lease_until=epoch(ledger) - 1)
        )


def release(settings: Settings, batch: work.Batch, token: str, retry_in: float = 0.0) -> bool:
    with begin(settings) as ledger:
        return work.release(ledger, batch, token, AFTER, retry_in=retry_in)


def totals(settings: Settings) -> reports.Totals:
    with begin(settings) as ledger:
        (found,) = reports.totals(ledger)
    assert found.accounted
    return found


def test_nothing_is_claimed_before_it_is_due(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    planned()
    with begin(ledger_settings) as ledger:
        assert work.claim(ledger, DUE - timedelta(seconds=1), EMAIL) is None
        assert work.claim(ledger, DUE, ["push"]) is None
        assert work.claim(ledger, DUE, EMAIL) is not None


def test_a_held_batch_is_nobody_elses(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    planned()
    claim(ledger_settings)
    with begin(ledger_settings) as ledger:
        assert work.claim(ledger, AFTER, EMAIL) is None


def test_sent_messages_are_accepted_and_the_batch_is_done(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    planned()
    batch, token = claim(ledger_settings)
    send(ledger_settings, batch, token, ["sent", "sent", "sent"])
    assert release(ledger_settings, batch, token)
    report = totals(ledger_settings)
    assert (report.audience, report.held_out, report.not_sent) == (5, 1, {"no_consent": 1})
    assert report.accepted == {"sendgrid": 3}
    with begin(ledger_settings) as ledger:
        assert work.claim(ledger, AFTER, EMAIL) is None
        assert reports.waiting(ledger) == (0, None)


def test_a_retry_leaves_only_its_own_messages_to_send(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    planned()
    batch, token = claim(ledger_settings)
    send(ledger_settings, batch, token, ["sent", "retry", "rejected"])
    assert not release(ledger_settings, batch, token)
    again, token = claim(ledger_settings)
    assert [m.seq for m in again.unsettled] == [batch.messages[1].seq]
    send(ledger_settings, again, token, ["sent"])
    assert release(ledger_settings, again, token)
    report = totals(ledger_settings)
    assert (report.accepted, report.rejected) == ({"sendgrid": 2}, {"rejected": 1})


def test_a_pause_holds_by_the_databases_clock(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    planned()
    batch, token = claim(ledger_settings)
    release(ledger_settings, batch, token, retry_in=3600)
    with begin(ledger_settings) as ledger:
        assert work.claim(ledger, AFTER + timedelta(days=1), EMAIL) is None


def test_what_a_lost_worker_left_open_is_unknown_and_not_sent_again(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    planned()
    batch, token = claim(ledger_settings)
    send(ledger_settings, batch, token, ["sent", "open"])
    expire_lease(ledger_settings)
    again, fresh = claim(ledger_settings)
    assert [m.seq for m in again.unsettled] == [batch.messages[2].seq]
    send(ledger_settings, again, fresh, ["sent"])
    assert release(ledger_settings, again, fresh)
    report = totals(ledger_settings)
    assert (report.accepted, report.unknown) == ({"sendgrid": 2}, 1)


def test_a_worker_that_wakes_late_writes_nothing(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    planned()
    batch, token = claim(ledger_settings)
    expire_lease(ledger_settings)
    claim(ledger_settings)
    with pytest.raises(work.LeaseLost):
        send(ledger_settings, batch, token, ["sent"])
    with pytest.raises(work.LeaseLost):
        release(ledger_settings, batch, token)
    with begin(ledger_settings) as ledger, pytest.raises(work.LeaseLost):
        work.drop(ledger, batch, token, [(batch.messages[0].seq, "not_sent", "expired")], AFTER)
    assert totals(ledger_settings).pending == 3


def test_a_push_is_accepted_if_one_device_is(ledger_settings: Settings) -> None:
    write_plan(ledger_settings, [message(n, channel="push") for n in range(2)])
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, AFTER, ["push"])
    assert claimed
    batch, token = claimed
    first, second = (m.seq for m in batch.messages)
    members = [([first], "d1"), ([first], "d2"), ([second], "d3"), ([second], "d4")]
    with begin(ledger_settings) as ledger:
        ids = work.open_requests(ledger, batch, token, "fcm", members, AFTER)
        states = ["rejected", "sent", "rejected", "rejected"]
        rows = [{"request_id": i, "state": s, "reason": "unregistered"} for i, s in zip(ids, states, strict=True)]
        work.close_requests(ledger, batch, token, rows, AFTER)
        assert work.release(ledger, batch, token, AFTER)
    report = totals(ledger_settings)
    assert (report.accepted, report.rejected) == ({"fcm": 1}, {"unregistered": 1})


@pytest.mark.parametrize("stop", ["drop", "cancel"])
def test_a_push_that_one_device_may_have_is_unknown_however_it_ends(ledger_settings: Settings, stop: str) -> None:
    run_id = write_plan(ledger_settings, [message(0, channel="push"), message(1, channel="push")])
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, AFTER, ["push"])
    assert claimed
    batch, token = claimed
    first, second = (m.seq for m in batch.messages)
    with begin(ledger_settings) as ledger:
        members = [([first], "d1"), ([first], "d2"), ([second], "d3")]
        ids = work.open_requests(ledger, batch, token, "fcm", members, AFTER)
        states = ["unknown", "retry", "retry"]
        rows = [{"request_id": i, "state": s, "reason": s} for i, s in zip(ids, states, strict=True)]
        work.close_requests(ledger, batch, token, rows, AFTER)
        assert not work.release(ledger, batch, token, AFTER)
    with begin(ledger_settings) as ledger:
        if stop == "drop":
            claimed = work.claim(ledger, AFTER, ["push"])
            assert claimed
            work.drop(ledger, *claimed, [(seq, "not_sent", "no_consent") for seq in (first, second)], AFTER)
        else:
            occurrence = runs.known(ledger, run_id).occurrence_id
            plans.cancel_unsent(ledger, occurrence, reason="cancelled", now=AFTER, superseded=False)
        o = tables.outcomes.c
        ended = dict(ledger.execute(sa.select(o.seq, o.state)).tuples().all())
    assert ended == {first: "unknown", second: "not_sent" if stop == "drop" else "cancelled"}


def test_given_back_with_a_call_open_its_messages_are_unknown_though_the_run_was_cancelled(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    run_id = planned()
    batch, token = claim(ledger_settings)
    send(ledger_settings, batch, token, ["open"])
    with begin(ledger_settings) as ledger:
        occurrence = runs.known(ledger, run_id).occurrence_id
        plans.cancel_unsent(ledger, occurrence, reason="cancelled", now=AFTER, superseded=False)
    assert release(ledger_settings, batch, token)
    o, r = tables.outcomes.c, tables.requests.c
    with begin(ledger_settings) as ledger:
        ended = dict(ledger.execute(sa.select(o.seq, o.state)).tuples().all())
        assert ledger.execute(sa.select(r.state)).scalars().all() == ["unknown"]
    first, *others = (m.seq for m in batch.messages)
    assert ended == {first: "unknown", **dict.fromkeys(others, "cancelled")}


def test_deferred_messages_wait_in_a_batch_of_their_own(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    planned()
    batch, token = claim(ledger_settings)
    morning = DUE + timedelta(hours=12)
    with begin(ledger_settings) as ledger:
        work.defer(ledger, batch, token, [batch.messages[0].seq, batch.messages[2].seq], morning)
    batch = work.Batch(**{**vars(batch), "messages": batch.messages[1:2]})
    send(ledger_settings, batch, token, ["sent"])
    assert release(ledger_settings, batch, token)
    with begin(ledger_settings) as ledger:
        assert reports.waiting(ledger) == (2, morning)
        claimed = work.claim(ledger, morning, EMAIL)
    assert claimed
    send(ledger_settings, *claimed, ["sent", "sent"])
    assert release(ledger_settings, *claimed)
    assert totals(ledger_settings).accepted == {"sendgrid": 3}


def test_two_workers_never_take_the_same_batch(ledger_settings: Settings) -> None:
    write_plan(ledger_settings, [message(n, due_at=NOW + timedelta(minutes=n)) for n in range(40)])

    def work_through() -> list[int]:
        taken = []
        while True:
            with begin(ledger_settings) as ledger:
                claimed = work.claim(ledger, AFTER, EMAIL)
            if claimed is None:
                return taken
            batch, token = claimed
            send(ledger_settings, batch, token, ["sent"] * len(batch.unsettled))
            release(ledger_settings, batch, token)
            taken.append(batch.batch_id)

    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(lambda _: work_through(), range(4)))
    taken = [b for share in shares for b in share]
    assert len(taken) == len(set(taken)) == 40
    assert totals(ledger_settings).accepted == {"sendgrid": 40}
    with begin(ledger_settings) as ledger:
        assert ledger.execute(sa.select(sa.func.count()).select_from(tables.requests)).scalar_one() == 40


def test_half_a_lease_is_impossible(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    planned()
    with pytest.raises(sa.exc.IntegrityError), begin(ledger_settings) as ledger:
        ledger.execute(sa.update(tables.batches).values(lease_token="t"))
