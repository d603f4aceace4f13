"""Consents, suppressions and caps as the ledger tells them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa
import pytest
from controltower.ledger import caps, consents, reports, suppressions, work
from controltower.ledger.caps import Window
from controltower.ledger.database import begin
from controltower.settings import Settings

from .conftest import DUE, LATER, NOW, message, write_plan

DAY = timedelta(days=1)


def consent(customer: str, granted: bool, days_ago: float, **more: object) -> dict[str, object]:
    return {
        "customer_id": customer, "channel": "email", "purpose": "marketing", "recorded_at": NOW - days_ago * DAY,
        "granted": granted, "source": "form", **more,
    }  # fmt: skip


def holders(settings: Settings, **keys: object) -> set[str]:
    with begin(settings) as ledger:
        return consents.granted(ledger, "email", "marketing", NOW, **keys)  # type: ignore[arg-type]


def test_the_latest_consent_holds_and_a_withdrawal_wins_a_tie(ledger_settings: Settings) -> None:
    rows = [
        consent("yes", True, 5),
        consent("withdrew", True, 5), consent("withdrew", False, 4),
        consent("came_back", False, 5), consent("came_back", True, 4),
        consent("tie", True, 3), consent("tie", False, 3),
        consent("expired", True, 5, expires_at=NOW - DAY),
        consent("later", True, -1),
    ]  # fmt: skip
    with begin(ledger_settings) as ledger:
        assert consents.record(ledger, rows) == len(rows)
    assert holders(ledger_settings) == {"yes", "came_back"}
    assert holders(ledger_settings, customers=["yes", "nobody"]) == {"yes"}


def test_importing_consents_twice_adds_nothing(ledger_settings: Settings) -> None:
    table = pa.Table.from_pylist([consent("a", True, 5), consent("b", False, 2)])
    assert consents.append(ledger_settings, table) == 2
    assert consents.append(ledger_settings, table) == 0
    assert holders(ledger_settings) == {"a"}


@pytest.mark.parametrize(
    ("keys", "held"),
    [
        ({}, True),
        ({"channel": "email"}, True),
        ({"channel": "push"}, False),
        ({"purpose": "marketing"}, True),
        ({"purpose": "third_party_ads"}, False),
        ({"until": NOW + DAY}, True),
        ({"until": NOW}, False),
    ],
)
def test_a_suppression_holds_for_its_channel_purpose_and_time(
    ledger_settings: Settings, keys: dict[str, object], held: bool
) -> None:
    with begin(ledger_settings) as ledger:
        suppressions.add(ledger, "customer", "c", reason="objected", source="test", now=NOW - DAY, **keys)  # type: ignore[arg-type]
        assert suppressions.held(ledger, "customer", "email", "marketing", NOW) == ({"c"} if held else set())
        assert suppressions.held(ledger, "address", "email", "marketing", NOW) == set()


def test_an_address_is_kept_as_a_keyed_hash_without_regard_to_case() -> None:
    assert suppressions.address_hash(b"k", " Ann@Shop.example") == suppressions.address_hash(b"k", "ann@shop.EXAMPLE")
    assert suppressions.address_hash(b"k", "ann@shop.example") != suppressions.address_hash(b"l", "ann@shop.example")
    assert "ann" not in suppressions.address_hash(b"k", "ann@shop.example")


def test_caps_count_what_left_and_what_is_planned_but_not_what_never_left(ledger_settings: Settings) -> None:
    write_plan(ledger_settings, [message(0), message(1), message(2, due_at=LATER)])
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, DUE, ["email"])
        assert claimed
        batch, token = claimed
        sent, refused = (m.seq for m in batch.messages)
        (request,) = work.open_requests(ledger, batch, token, "sendgrid", [([sent], None)], DUE)
        work.close_requests(ledger, batch, token, [{"request_id": request, "state": "sent"}], DUE)
        work.drop(ledger, batch, token, [(refused, "not_sent", "expired")], DUE)
        work.release(ledger, batch, token, DUE)
    with begin(ledger_settings) as ledger:
        assert caps.counts(ledger, [Window(NOW)], LATER) == [{"c0": 1, "c2": 1}]
        assert caps.counts(ledger, [Window(NOW)], LATER, with_planned=False) == [{"c0": 1}]
        assert caps.counts(ledger, [Window(DUE)], LATER, with_planned=False) == [{}]
        assert caps.counts(ledger, [Window(NOW, "push")], LATER) == [{}]
        assert caps.counts(ledger, [Window(NOW)], LATER, ["c2"]) == [{"c2": 1}]
        assert caps.counts(ledger, [Window(NOW)], LATER, but_occurrence=1) == [{}]
        before = NOW - timedelta(seconds=1)
        assert caps.counts(ledger, [Window(NOW - DAY)], before) == [{}]  # what was planned later was not known then


def test_what_left_a_batch_that_is_not_done_counts_too(ledger_settings: Settings) -> None:
    write_plan(ledger_settings, [message(0), message(1)])
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, DUE, ["email"])
        assert claimed
        batch, token = claimed
        ids = work.open_requests(ledger, batch, token, "sendgrid", [([m.seq], None) for m in batch.messages], DUE)
        rows = [{"request_id": i, "state": s} for i, s in zip(ids, ["sent", "retry"], strict=True)]
        work.close_requests(ledger, batch, token, rows, DUE)
        assert not work.release(ledger, batch, token, DUE, retry_in=60)
        assert caps.counts(ledger, [Window(NOW)], LATER, with_planned=False) == [{"c0": 1}]
        assert caps.counts(ledger, [Window(NOW)], LATER) == [{"c0": 1, "c1": 1}]
        (found,) = reports.totals(ledger)
        assert (found.accepted, found.pending, found.accounted) == ({"sendgrid": 1}, 1, True)
        assert reports.waiting(ledger) == (1, DUE)


def test_others_messages_count_for_a_check_whether_their_batch_is_done_or_not(ledger_settings: Settings) -> None:
    mine = write_plan(ledger_settings, [message(0, due_at=LATER), message(1, due_at=LATER)])
    write_plan(ledger_settings, [message(0), message(1)], campaign="summer")

    def counted(*since: timedelta, at: datetime = DUE) -> list[dict[str, int]]:
        windows = [Window(DUE - one) for one in since]
        with begin(ledger_settings) as ledger:
            found = caps.counts(ledger, windows, at, ["c0", "c1"], but_run=mine, with_planned=False)
        return [dict(one) for one in found]

    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, DUE, ["email"])
        assert claimed
        batch, token = claimed
        assert batch.run_id != mine
        ids = work.open_requests(ledger, batch, token, "sendgrid", [([m.seq], None) for m in batch.messages], DUE)
        rows = [{"request_id": i, "state": s} for i, s in zip(ids, ["sent", "retry"], strict=True)]
        work.close_requests(ledger, batch, token, rows, DUE)
    (sent, _) = (m.customer_id for m in batch.messages)
    assert counted(DAY) == [{sent: 1}]  # although no batch of another run is done
    with begin(ledger_settings) as ledger:
        work.drop(ledger, batch, token, [(batch.messages[1].seq, "not_sent", "expired")], DUE)
        assert work.release(ledger, batch, token, DUE)
    assert counted(DAY) == [{sent: 1}]
    assert counted(timedelta(0), DAY) == [{}, {sent: 1}]  # the widest window is asked for
    assert counted(DAY, at=DUE - timedelta(seconds=1)) == [{}]  # what left later, the clock having been set back
    with begin(ledger_settings) as ledger:
        own = caps.counts(ledger, [Window(NOW)], DUE, ["c0"], but_run=batch.run_id, with_planned=False)
    assert own == [{}]
