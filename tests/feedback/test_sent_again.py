"""A message sent again after its answer was lost: whose event is it, and did both leave? On each database."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from controltower.ledger import sends, tables, unknowns, work
from controltower.ledger.database import begin, reading
from controltower.ledger.states import message_states

from .conftest import LOST, NOW, PostBox

ONE, OTHER = LOST
FIRST, SECOND = "f1rst", "s3cond"  # X-Message-Id of the two calls; of the first it was never told


def event(box: PostBox, kind: str, customer: str, call: str | None) -> dict[str, Any]:
    return box.event(kind, customer, sg_message_id=call and f"{call}.recvd-7cf6d9c4-1-65F.0")


class Worker:
    """Reopens both, claims them, and calls for one after the other."""

    def __init__(self, box: PostBox) -> None:
        self.box = box
        with begin(box.settings) as ledger:
            lost = unknowns.lost(ledger, box.run_id, 0, 10)
            unknowns.reopen(ledger, lost[0].batch_id, [one.seq for one in lost], NOW)

    def call(self) -> None:
        with begin(self.box.settings) as ledger:
            claimed = work.claim(ledger, NOW, ["email"])
            assert claimed
            self.batch, self.token = claimed
            calls = [([m.seq], None) for m in self.batch.unsettled]
            self.ids = work.open_requests(ledger, self.batch, self.token, "sendgrid", calls, NOW)

    def note(self) -> None:
        rows = [{"request_id": i, "state": "sent", "provider_message_id": SECOND} for i in self.ids]
        with begin(self.box.settings) as ledger:
            work.close_requests(ledger, self.batch, self.token, rows, NOW)
            assert work.release(ledger, self.batch, self.token, NOW)


def stands(box: PostBox, customer: str) -> tuple[str, str | None]:
    s = message_states.c
    with reading(box.settings) as ledger:
        row = ledger.execute(sa.select(s.state, s.reason).where(s.customer_id == customer)).one()
    return row.state, row.reason


@pytest.fixture
def sent_again(box: PostBox) -> PostBox:
    worker = Worker(box)
    worker.call()
    worker.note()
    assert stands(box, ONE) == ("accepted", None)
    return box


def test_events_of_the_second_call_alone_show_nothing(sent_again: PostBox) -> None:
    box = sent_again
    kinds = ("processed", "delivered", "open")
    assert box.ingest(*(event(box, kind, ONE, SECOND) for kind in kinds))["twice"] == 0
    assert stands(box, ONE)[0] == "accepted"
    assert (box.totals().twice, box.totals().accepted) == (0, {"sendgrid": 6})


@pytest.mark.parametrize("calls", [(FIRST, SECOND), (SECOND, FIRST), (FIRST,), (FIRST, FIRST, None)])
def test_an_event_of_the_first_call_shows_that_both_left(sent_again: PostBox, calls: tuple[str | None, ...]) -> None:
    box = sent_again
    reports = [box.ingest(event(box, "delivered", ONE, call)) for call in calls]
    assert sum(report["twice"] for report in reports) == 1
    assert stands(box, ONE) == ("accepted", "twice")
    assert stands(box, OTHER)[0] == "accepted"
    assert (box.totals().twice, box.totals().accepted) == (1, {"sendgrid": 6})
    with reading(box.settings) as ledger:
        assert len(list(sends.sends(ledger))) == 6  # each once


def test_an_event_without_a_call_is_of_either(sent_again: PostBox) -> None:
    """A late bounce names none: the message counts once, and nobody says that it left twice."""
    box = sent_again
    assert box.ingest(event(box, "bounce", ONE, None), event(box, "click", OTHER, None))["twice"] == 0
    assert box.totals().twice == 0


def test_an_event_while_the_second_call_is_under_way(box: PostBox) -> None:
    worker = Worker(box)
    worker.call()
    assert box.ingest(event(box, "delivered", ONE, FIRST))["twice"] == 0
    worker.note()
    assert box.ingest(event(box, "delivered", ONE, SECOND))["twice"] == 1
    assert (box.totals().twice, box.totals().accepted) == (1, {"sendgrid": 6})
    with reading(box.settings) as ledger:
        assert len(list(sends.sends(ledger))) == 6


def test_the_call_is_kept_of_these_messages_only(sent_again: PostBox) -> None:
    box = sent_again
    box.ingest(event(box, "delivered", "c0", SECOND), event(box, "delivered", ONE, SECOND))
    assert [r["detail"] for r in box.rows(tables.delivery_events)] == [
        None,
        {"call": f"{SECOND}.recvd-7cf6d9c4-1-65F.0"},
    ]
