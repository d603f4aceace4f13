"""Messages whose answer was lost: what settles them, what reopens them, and how those end. On each database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from controltower.ledger import caps, events, funnels, plans, reports, runs, sends, unknowns, webhooks, work
from controltower.ledger.caps import Window
from controltower.ledger.database import begin, reading
from controltower.ledger.states import message_states
from controltower.ledger.tables import batches, messages, outcomes
from controltower.settings import Settings

from .conftest import DUE, NOW, write_plan
from .test_work import AFTER, EMAIL, claim, expire_lease, release, send, totals

HOUR = timedelta(hours=1)
_number = count()


def lose(settings: Settings, states: Sequence[str] = ("unknown",)) -> work.Batch:
    """A worker calls for the messages of a batch, and gives it back; how each call ends."""
    batch, token = claim(settings)
    send(settings, batch, token, list(states))
    release(settings, batch, token)
    return batch


def came_back(settings: Settings, message_id: str, at: datetime = AFTER, event: str = "delivered") -> set[str]:
    row = {"provider": "sendgrid", "provider_event_id": f"u{next(_number)}", "message_id": message_id, "event": event,
           "occurred_at": at, "received_at": at}  # fmt: skip
    with begin(settings) as ledger:
        return events.record(ledger, [row]).settled


def lost(settings: Settings, run_id: int) -> list[unknowns.Lost]:
    with begin(settings) as ledger:
        return unknowns.lost(ledger, run_id, 0, 100)


def reopen(settings: Settings, batch: work.Batch, which: slice = slice(None)) -> list[int]:
    seqs = [m.seq for m in batch.messages][which]
    with begin(settings) as ledger:
        unknowns.reopen(ledger, batch.batch_id, seqs, AFTER + HOUR)
    return seqs


def again(settings: Settings) -> tuple[work.Batch, str]:
    with begin(settings) as ledger:
        claimed = work.claim(ledger, AFTER + HOUR, EMAIL)
    assert claimed
    return claimed


def stands(settings: Settings) -> dict[str, tuple[str, str | None]]:
    """By customer: state and reason, as the view has them."""
    s = message_states.c
    with reading(settings) as ledger:
        rows = ledger.execute(sa.select(s.customer_id, s.state, s.reason))
        return {customer: (state, reason) for customer, state, reason in rows}


def history(settings: Settings, seq: int) -> list[tuple[str, str]]:
    o = outcomes.c
    with reading(settings) as ledger:
        rows = ledger.execute(sa.select(o.state, o.reason).where(o.seq == seq).order_by(o.outcome_id))
        return [(state, reason) for state, reason in rows]


def test_what_came_back_settles_a_message_from_its_receipt_on(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    run_id = planned(3)
    batch = lose(ledger_settings, ["unknown", "unknown", "sent"])
    first, second, _ = batch.messages
    assert [one.seq for one in lost(ledger_settings, run_id)] == [first.seq, second.seq]
    assert came_back(ledger_settings, first.message_id, AFTER + HOUR, "unknown") == set()
    assert came_back(ledger_settings, first.message_id, AFTER + HOUR) == {first.message_id}
    assert came_back(ledger_settings, first.message_id, AFTER + 2 * HOUR) == set()
    assert [one.seq for one in lost(ledger_settings, run_id)] == [second.seq]
    expected = [("accepted", "event"), ("unknown", "unknown"), ("accepted", None)]
    assert stands(ledger_settings) == dict(zip([m.customer_id for m in batch.messages], expected, strict=True))
    assert (totals(ledger_settings).unknown, totals(ledger_settings).accepted) == (1, {"sendgrid": 2})
    with reading(ledger_settings) as ledger:
        for at, accepted in ((AFTER, 1), (AFTER + HOUR, 2)):
            cells = funnels.cells(ledger, [run_id], at)[run_id]
            assert sum(c.messages for c in cells if c.state == "accepted") == accepted
            assert len(list(sends.sends(ledger, run_id=run_id, as_of=at))) == accepted
            assert reports.variant_results(ledger, "spring", NOW, at) == {"a": (accepted, 0)}


def test_an_event_that_was_there_first_settles_too(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    """The webhook was faster than the worker that then died: as of its receipt the message had left."""
    run_id = planned(1)
    batch, token = claim(ledger_settings)
    with begin(ledger_settings) as ledger:
        work.open_requests(ledger, batch, token, "sendgrid", [([batch.messages[0].seq], None)], AFTER)
    assert came_back(ledger_settings, batch.messages[0].message_id, AFTER) == set()
    expire_lease(ledger_settings)
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, AFTER + HOUR, EMAIL)
        assert claimed and claimed[0].unsettled == []
        work.release(ledger, *claimed, AFTER + HOUR)
    with begin(ledger_settings) as ledger:
        assert unknowns.settle(ledger, [batch.messages[0].message_id]) == {batch.messages[0].message_id}
    with reading(ledger_settings) as ledger:
        assert [s.sent_at for s in sends.sends(ledger, run_id=run_id, as_of=AFTER)] == [AFTER]
        assert list(sends.sends(ledger, run_id=run_id, as_of=AFTER - HOUR)) == []


def test_given_up_is_final_until_something_comes_back_all_the_same(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    run_id = planned(1)
    (message,) = lose(ledger_settings).messages
    with begin(ledger_settings) as ledger:
        unknowns.give_up(ledger, [message.seq], AFTER + HOUR)
        assert unknowns.runs(ledger) == []
    assert lost(ledger_settings, run_id) == []
    assert stands(ledger_settings) == {"c0": ("unknown", "grace_over")}
    came_back(ledger_settings, message.message_id)
    assert stands(ledger_settings) == {"c0": ("accepted", "event")}


def test_a_reopened_message_leaves_once_more_from_a_batch_of_its_own(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    planned(3)
    batch = lose(ledger_settings, ["unknown", "sent", "unknown"])
    seqs = reopen(ledger_settings, batch, slice(2, 3))
    assert stands(ledger_settings)[batch.messages[2].customer_id] == ("waiting", "grace_over")
    assert (totals(ledger_settings).pending, totals(ledger_settings).unknown) == (1, 1)
    with reading(ledger_settings) as ledger:
        assert reports.waiting(ledger) == (1, AFTER + HOUR)
    fresh, token = again(ledger_settings)
    assert [m.seq for m in fresh.unsettled] == seqs
    assert fresh.expires_at == batch.expires_at
    send(ledger_settings, fresh, token, ["sent"])
    assert totals(ledger_settings).accepted == {"sendgrid": 2}  # also before the batch is given back
    assert stands(ledger_settings)[batch.messages[2].customer_id] == ("accepted", None)
    assert release(ledger_settings, fresh, token)
    assert (totals(ledger_settings).accepted, totals(ledger_settings).pending) == ({"sendgrid": 2}, 0)
    assert stands(ledger_settings)[batch.messages[2].customer_id] == ("accepted", None)
    with reading(ledger_settings) as ledger:
        assert len({s.seq for s in sends.sends(ledger)}) == len(list(sends.sends(ledger))) == 2
        assert caps.counts(ledger, [Window(NOW)], AFTER + HOUR, with_planned=False) == [{"c0": 1, "c1": 1, "c2": 1}]


def test_what_comes_back_before_it_leaves_again_keeps_it(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    planned(2)
    batch = lose(ledger_settings, ["unknown", "unknown"])
    reopen(ledger_settings, batch)
    came_back(ledger_settings, batch.messages[0].message_id)
    fresh, token = again(ledger_settings)
    assert [m.seq for m in fresh.unsettled] == [batch.messages[1].seq]
    send(ledger_settings, fresh, token, ["sent"])
    assert release(ledger_settings, fresh, token)
    assert totals(ledger_settings).accepted == {"sendgrid": 2}


@pytest.mark.parametrize("how", ["refused", "rejected", "lost again", "deferred and refused", "cancelled", "stopped"])
def test_a_reopened_message_that_does_not_leave_is_unknown(
    ledger_settings: Settings, planned: Callable[..., int], how: str
) -> None:
    run_id = planned(1)
    batch = lose(ledger_settings)
    (seq,) = reopen(ledger_settings, batch)
    if how == "cancelled":
        stop(ledger_settings, run_id)
    else:
        fresh, token = again(ledger_settings)
        if how in ("rejected", "lost again"):
            send(ledger_settings, fresh, token, ["rejected" if how == "rejected" else "unknown"])
        if how == "stopped":
            with begin(ledger_settings) as ledger:
                work.open_requests(ledger, fresh, token, "sendgrid", [([seq], None)], AFTER)
            stop(ledger_settings, run_id)
            expire_lease(ledger_settings)
            with begin(ledger_settings) as ledger:
                assert work.claim(ledger, AFTER + HOUR, EMAIL) is None  # ended on the way
        if how.startswith("deferred"):
            with begin(ledger_settings) as ledger:
                work.defer(ledger, fresh, token, [seq], AFTER + HOUR)
            release(ledger_settings, fresh, token)
            fresh, token = again(ledger_settings)
        if how.endswith("refused"):
            with begin(ledger_settings) as ledger:
                work.drop(ledger, fresh, token, [(seq, "not_sent", "suppressed")], AFTER)
        if how != "stopped":
            assert release(ledger_settings, fresh, token)
    assert [state for state, _ in history(ledger_settings, seq)] == ["unknown", "reopened", "unknown"]
    assert [one.seq for one in lost(ledger_settings, run_id)] == [seq]
    with reading(ledger_settings) as ledger:  # it may have arrived: nobody gets a second one from a newer version
        assert plans.messaged(ledger, runs.known(ledger, run_id).occurrence_id) == {0}
    came_back(ledger_settings, batch.messages[0].message_id)
    assert stands(ledger_settings) == {"c0": ("accepted", "event")}


def stop(settings: Settings, run_id: int) -> None:
    with begin(settings) as ledger:
        occurrence_id = runs.known(ledger, run_id).occurrence_id
        plans.cancel_unsent(ledger, occurrence_id, reason="superseded", now=AFTER, superseded=True)


@pytest.mark.parametrize("what", ["settle", "reopen"])
def test_several_at_once_settle_or_reopen_once(
    ledger_settings: Settings, planned: Callable[..., int], what: str
) -> None:
    run_id = planned(20)
    batch = lose(ledger_settings, ["unknown"] * 20)
    ids = [m.message_id for m in batch.messages]

    def act(n: int) -> int:
        with begin(ledger_settings) as ledger:
            if what == "settle":
                return len(unknowns.settle(ledger, ids))
            found = unknowns.lost(ledger, run_id, 0, 100)
            if found:
                unknowns.reopen(ledger, batch.batch_id, [one.seq for one in found], AFTER + n * HOUR)
            return len(found)

    if what == "settle":
        with begin(ledger_settings) as ledger:
            rows = [{"provider": "sendgrid", "provider_event_id": i, "message_id": i, "event": "opened",
                     "occurred_at": AFTER, "received_at": AFTER} for i in ids]  # fmt: skip
            ledger.execute(sa.insert(events.delivery_events), rows)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(act, range(4)))
    assert sorted(done) == [0, 0, 0, 20]
    with reading(ledger_settings) as ledger:
        counted = sa.select(outcomes.c.state, sa.func.count()).group_by(outcomes.c.state)
        after = "accepted" if what == "settle" else "reopened"
        assert dict(ledger.execute(counted).tuples().all()) == {"unknown": 20, after: 20}
        assert ledger.execute(sa.select(sa.func.count()).select_from(batches)).scalar_one() == 1 + (what == "reopen")


def test_a_batch_of_many_calls_in_the_view(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    """Bits of the members' first, second and last byte; in a batch that is still worked on, and in one that isn't."""
    planned(19)
    batch, token = claim(ledger_settings)
    ends = {0: "sent", 3: "sent", 4: "sent", 7: "retry", 8: "sent", 9: "open", 15: "sent", 16: "rejected", 18: "sent"}
    one_call = [m.seq for n, m in enumerate(batch.messages) if ends.get(n) == "sent"]
    others = {n: end for n, end in ends.items() if end != "sent"}
    with begin(ledger_settings) as ledger:
        calls: list[Any] = [(one_call, None)] + [([batch.messages[n].seq], None) for n in others]
        ids = work.open_requests(ledger, batch, token, "sendgrid", calls, AFTER)
        closed = [("sent", ids[0])] + [(end, i) for (_, end), i in zip(others.items(), ids[1:], strict=True)]
        rows = [{"request_id": i, "state": end, "reason": end} for end, i in closed if end != "open"]
        work.close_requests(ledger, batch, token, rows, AFTER)
    s = message_states.c
    with reading(ledger_settings) as ledger:
        shown = ledger.execute(sa.select(s.state, s.at, s.version, s.message_id).order_by(s.seq)).all()
    assert [row.state for row in shown] == ["accepted" if ends.get(n) == "sent" else "waiting" for n in range(19)]
    assert {row.at for row in shown} == {AFTER, NOW}
    assert [row.message_id for row in shown] == [m.message_id for m in batch.messages]
    expire_lease(ledger_settings)
    lose(ledger_settings, ["sent"] * 11)
    with reading(ledger_settings) as ledger:
        shown = ledger.execute(sa.select(s.state, s.reason).order_by(s.seq)).all()
    expected = {9: ("unknown", "worker_lost"), 16: ("rejected", "rejected")}
    assert [tuple(row) for row in shown] == [expected.get(n, ("accepted", None)) for n in range(19)]


def test_a_superseded_message_is_shown_as_cancelled(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    stop(ledger_settings, planned(1))
    write_plan(ledger_settings, [], occurrence="2026-06-16")
    assert stands(ledger_settings) == {"c0": ("cancelled", "superseded")}
    with reading(ledger_settings) as ledger:
        assert ledger.execute(sa.select(messages.c.message_id)).scalar_one() is None


def test_everything_is_heard_but_what_waits_to_be_read(ledger_settings: Settings) -> None:
    with begin(ledger_settings) as ledger:
        assert webhooks.heard_until(ledger, AFTER) == AFTER
        webhooks.store(ledger, "sendgrid", [b"1"], DUE)
        webhooks.store(ledger, "sendgrid", [b"2"], NOW)
        assert webhooks.heard_until(ledger, AFTER) == NOW
        while body := webhooks.next_waiting(ledger):
            webhooks.close(ledger, body.body_id, "handled", AFTER)
        assert webhooks.heard_until(ledger, AFTER) == AFTER
