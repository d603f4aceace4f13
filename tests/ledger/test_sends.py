"""What left, on each database: by request, by device, by what came back, by time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from controltower.ledger import events, work
from controltower.ledger.database import begin, reading
from controltower.ledger.sends import Sent, sends, undelivered
from controltower.ledger.tables import messages, requests
from controltower.settings import Settings

from .conftest import DUE, message, write_plan

MINUTE = timedelta(minutes=1)
_number = count()


def left(settings: Settings, **only: Any) -> dict[str, datetime]:
    with reading(settings) as ledger:
        return {sent.customer_id: sent.sent_at for sent in sends(ledger, **only)}


def call(settings: Settings, calls: list[tuple[list[str], str | None, str]], at: datetime = DUE) -> None:
    """A worker claims the next batch and makes calls: the customers of each, its device and how it ends."""
    with begin(settings) as ledger:
        claimed = work.claim(ledger, at, ("email", "push"))
        assert claimed
        batch, token = claimed
        seq = {m.customer_id: m.seq for m in batch.messages}
        for customers, device, state in calls:
            (request_id,) = work.open_requests(
                ledger, batch, token, "sendgrid", [([seq[c] for c in customers], device)], at
            )
            if state != "open":
                work.close_requests(ledger, batch, token, [{"request_id": request_id, "state": state}], at + MINUTE)
            at += MINUTE
        work.release(ledger, batch, token, at)


def came_back(settings: Settings, customer: str, event: str, at: datetime) -> None:
    with begin(settings) as ledger:
        message_id = ledger.execute(
            sa.select(messages.c.message_id).where(messages.c.customer_id == customer)
        ).scalar_one()
        events.record(
            ledger,
            [{"provider": "sendgrid", "provider_event_id": f"e{next(_number)}", "message_id": message_id,
              "event": event, "occurred_at": at, "received_at": at}],
        )  # fmt: skip


def test_nothing_left_of_a_plan(planned: Callable[..., int], ledger_settings: Settings) -> None:
    planned(3)
    assert left(ledger_settings) == {}


def test_what_a_request_took_left_when_its_call_began(planned: Callable[..., int], ledger_settings: Settings) -> None:
    run_id = planned(4)
    call(ledger_settings, [(["c0", "c2"], None, "sent"), (["c1"], None, "rejected"), (["c3"], None, "retry")])
    assert left(ledger_settings) == {"c0": DUE, "c2": DUE}
    with reading(ledger_settings) as ledger:
        one = next(iter(sends(ledger, run_id=run_id)))
        assert isinstance(one, Sent)
        assert (one.campaign, one.occurrence, one.channel, one.variant) == ("spring", "2026-06-15", "email", "a")
        assert len(one.message_id) == 32


def test_a_push_to_two_devices_left_once_at_the_first(ledger_settings: Settings) -> None:
    write_plan(ledger_settings, [message(0, channel="push"), message(1, channel="push")])
    call(ledger_settings, [
        (["c0"], "d1", "rejected"), (["c0"], "d2", "sent"), (["c0"], "d3", "sent"), (["c1"], "d4", "unknown"),
    ])  # fmt: skip
    assert left(ledger_settings) == {"c0": DUE + MINUTE}
    assert left(ledger_settings, since=DUE + MINUTE) == {}  # the later device is no second send


@pytest.mark.parametrize("event", ["queued", "delivered", "opened", "clicked", "bounced"])
def test_an_unknown_one_left_once_something_came_back(
    planned: Callable[..., int], ledger_settings: Settings, event: str
) -> None:
    planned(2)
    call(ledger_settings, [(["c0", "c1"], None, "unknown")])
    assert left(ledger_settings) == {}
    came_back(ledger_settings, "c1", "unknown", DUE)
    assert left(ledger_settings) == {}
    came_back(ledger_settings, "c1", event, DUE + 10 * MINUTE)
    assert left(ledger_settings) == {"c1": DUE}
    assert left(ledger_settings, as_of=DUE + 9 * MINUTE) == {}
    assert left(ledger_settings, as_of=DUE + 10 * MINUTE) == {"c1": DUE}


def test_only_what_was_known_by_then(planned: Callable[..., int], ledger_settings: Settings) -> None:
    planned(1)
    call(ledger_settings, [(["c0"], None, "sent")])
    assert left(ledger_settings, as_of=DUE) == {}  # the call was under way
    assert left(ledger_settings, as_of=DUE + MINUTE) == {"c0": DUE}


def test_bounds_are_after_and_until(planned: Callable[..., int], ledger_settings: Settings) -> None:
    planned(1)
    call(ledger_settings, [(["c0"], None, "sent")])
    assert left(ledger_settings, since=DUE) == {} == left(ledger_settings, until=DUE - MINUTE)
    assert left(ledger_settings, until=DUE) == {"c0": DUE} == left(ledger_settings, since=DUE - MINUTE)


def test_each_run_has_its_own(planned: Callable[..., int], ledger_settings: Settings) -> None:
    first, second = planned(2), planned(2, campaign="summer")
    call(ledger_settings, [(["c0", "c1"], None, "sent")])
    call(ledger_settings, [(["c1"], None, "sent")], at=DUE + MINUTE)
    assert left(ledger_settings, run_id=first) == {"c0": DUE, "c1": DUE}
    assert left(ledger_settings, run_id=second) == {"c1": DUE + MINUTE}


def test_more_messages_than_one_look_takes(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controltower.ledger.sends._BATCHES_AT_ONCE", 2)
    write_plan(ledger_settings, [message(n, DUE + n * MINUTE) for n in range(5)])
    for n in range(5):
        call(ledger_settings, [([f"c{n}"], None, "sent")], at=DUE + n * MINUTE)
    assert left(ledger_settings) == {f"c{n}": DUE + n * MINUTE for n in range(5)}


def test_a_bounced_or_dropped_one_reached_nobody(planned: Callable[..., int], ledger_settings: Settings) -> None:
    planned(3)
    call(ledger_settings, [(["c0", "c1", "c2"], None, "sent")])
    for customer, event in (("c0", "bounced"), ("c1", "dropped"), ("c2", "delivered")):
        came_back(ledger_settings, customer, event, DUE + MINUTE)
    with reading(ledger_settings) as ledger:
        of = {sent.message_id: sent.customer_id for sent in sends(ledger)}
        assert {of[m] for m in undelivered(ledger, DUE, DUE + MINUTE)} == {"c0", "c1"}
        assert undelivered(ledger, DUE + MINUTE, DUE + 2 * MINUTE) == set()


def test_members_are_read_from_the_requests_own_batch(planned: Callable[..., int], ledger_settings: Settings) -> None:
    """A deferred message has a batch of its own, whose numbers begin elsewhere."""
    planned(3)
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, DUE, ("email",))
        assert claimed
        batch, token = claimed
        later = [m.seq for m in batch.messages if m.customer_id == "c2"]
        work.defer(ledger, batch, token, later, DUE + MINUTE)
        work.release(ledger, work.read(ledger, batch.batch_id), token, DUE)
    call(ledger_settings, [(["c0", "c1"], None, "sent")])
    call(ledger_settings, [(["c2"], None, "sent")], at=DUE + 5 * MINUTE)
    assert left(ledger_settings) == {"c0": DUE, "c1": DUE, "c2": DUE + 5 * MINUTE}
    with reading(ledger_settings) as ledger:
        assert ledger.execute(sa.select(sa.func.count()).select_from(requests)).scalar_one() == 2
