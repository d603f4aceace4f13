"""What becomes of events: rows, suppressions, consents, and totals of a run; on both databases."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from controltower import clock
from controltower.commands.stages import feedback
from controltower.feedback import consequences
from controltower.jobs.feedback import ingest_feedback
from controltower.jobs.retention import keep_to_retention
from controltower.ledger import consents, plans, suppressions, tables, webhooks
from controltower.ledger.database import begin, reading
from controltower.settings import INCLUDE

from .conftest import LOST, NOW, PostBox, address

NOTHING = {
    "bodies": 0, "events": 0, "duplicates": 0, "of_tests": 0, "unknown_message": 0, "unknown_event": 0, "broken": {},
    "suppressed": {}, "unsubscribed": 0, "confirmed": 0, "twice": 0, "complained": {}, "paused": [],
    "as_of": NOW.isoformat(),
}  # fmt: skip


def held(box: PostBox, customer: str, channel: str = "email") -> bool:
    with reading(box.settings) as ledger:
        hashed = suppressions.address_hash(box.settings.signing_key(), address(customer))
        return hashed in suppressions.held(ledger, "address", channel, "marketing", clock.now(box.settings))


def consent(box: PostBox, customer: str, at: timedelta, granted: bool = True) -> None:
    with begin(box.settings) as ledger:
        row = {"customer_id": customer, "channel": "email", "purpose": "marketing", "recorded_at": NOW + at,
               "granted": granted, "source": "page"}  # fmt: skip
        consents.record(ledger, [row])


def consented(box: PostBox, at: timedelta = timedelta()) -> set[str]:
    with reading(box.settings) as ledger:
        return consents.granted(ledger, "email", "marketing", NOW + at)


def test_nothing_to_read_is_a_report_of_nothing(box: PostBox) -> None:
    assert ingest_feedback() == NOTHING


def test_events_are_recorded_in_our_words_without_personal_data(box: PostBox) -> None:
    words = {
        "processed": "queued", "deferred": "deferred", "delivered": "delivered", "bounce": "bounced",
        "dropped": "dropped", "open": "opened", "click": "clicked", "spamreport": "complained",
        "unsubscribe": "unsubscribed", "group_unsubscribe": "unsubscribed", "group_resubscribe": "unknown",
    }  # fmt: skip
    reason = f"550 5.1.1 <{address('c1')}>: Recipient address rejected"
    more = {"reason": reason, "response": reason, "url": f"https://shop.example/?u={address('c1')}", "status": "5.1.1"}
    report = box.ingest(*(box.event(kind, "c1", type="bounce", **more) for kind in words))
    assert (report["bodies"], report["events"], report["unknown_event"]) == (1, len(words), 1)
    rows = box.rows(tables.delivery_events)
    assert {r["provider_event_id"]: r["event"] for r in rows} == {
        f"event-{n}": ours for n, ours in enumerate(words.values(), 1)
    }
    assert {r["message_id"] for r in rows} == {box.message_ids["c1"]}
    assert {r["received_at"] for r in rows} == {NOW}
    assert {r["occurred_at"] for r in rows} == {NOW + timedelta(seconds=n) for n in range(1, len(words) + 1)}
    written = "".join(
        str(r) for t in (tables.delivery_events, tables.suppressions, tables.consents) for r in box.rows(t)
    )
    for private in ("customers.example", "192.0.2", "Mozilla", "shop.example"):
        assert private not in written
    details = {r["event"]: r["detail"] for r in rows}
    assert details["bounced"] == {"type": "bounce", "status": "5.1.1"}
    assert details["dropped"] == {"reason": "other"}
    assert details["unknown"] == {"provider_event": "group_resubscribe"}
    assert details["delivered"] is None


def test_openings_by_programs_are_marked(box: PostBox) -> None:
    box.ingest(
        box.event("open", sg_machine_open=True),
        box.event("open", sg_machine_open=False),
        box.event("open", sg_machine_open="true"),
        box.event("click", sg_machine_open=True),
    )
    assert [r["machine"] for r in box.rows(tables.delivery_events)] == [True, False, False, False]


def test_a_replay_changes_nothing(box: PostBox) -> None:
    events = [box.event("bounce", "c1", type="bounce"), box.event("spamreport", "c2"), box.event("open", "c3")]
    box.ingest(*events)
    ledger = [box.rows(t) for t in (tables.delivery_events, tables.suppressions, tables.consents)]
    assert box.post(*events) == "seen before"
    assert ingest_feedback() == NOTHING
    clock.set_clock(box.settings, NOW + timedelta(days=1), speed=0)
    report = box.ingest(*reversed(events), events[0])  # the same events in another body
    assert (report["bodies"], report["events"], report["duplicates"]) == (1, 0, 4)
    assert [box.rows(t) for t in (tables.delivery_events, tables.suppressions, tables.consents)] == ledger


def test_a_replayed_complaint_does_not_undo_a_new_consent(box: PostBox) -> None:
    consent(box, "c1", timedelta(days=-30))
    complaint = box.event("spamreport", "c1")
    assert box.ingest(complaint)["unsubscribed"] == 1
    assert consented(box) == set()
    consent(box, "c1", timedelta(hours=1))
    clock.set_clock(box.settings, NOW + timedelta(hours=2), speed=0)
    box.ingest(complaint, box.event("open", "c2"))
    assert consented(box, timedelta(hours=3)) == {"c1"}


LEADS_TO: list[tuple[str, dict[str, Any], str | None]] = [
    ("bounce", {"type": "bounce", "status": "5.1.1"}, "bounced"),
    ("bounce", {"type": "bounce"}, "bounced"),
    ("bounce", {"type": "bounce", "status": ""}, "bounced"),
    ("bounce", {"type": "bounce", "status": "4.2.2"}, None),
    ("bounce", {"type": "blocked", "status": "5.7.1"}, None),
    ("bounce", {}, None),
    ("dropped", {"reason": "Bounced Address"}, "bounced"),
    ("dropped", {"reason": "Invalid"}, "invalid"),
    ("dropped", {"reason": "Spam Reporting Address"}, "complained"),
    ("dropped", {"reason": "Unsubscribed Address"}, "unsubscribed"),
    ("dropped", {"reason": "Invalid SMTPAPI header"}, None),
    ("dropped", {"reason": "Spam Content"}, None),
    ("dropped", {"reason": 7}, None),
    ("dropped", {}, None),
    ("deferred", {"response": "450 try again later"}, None),
    ("spamreport", {}, "complained"),
    ("unsubscribe", {}, None),
]


def test_which_addresses_are_suppressed(box: PostBox) -> None:
    for n, (kind, more, reason) in enumerate(LEADS_TO):
        report = box.ingest(box.event(kind, f"d{n}", **more))
        assert report["suppressed"] == ({reason: 1} if reason else {}), (kind, more)
        assert held(box, f"d{n}") == bool(reason)
        assert not held(box, f"d{n}", channel="push")
        assert box.ingest(box.event(kind, f"d{n}", **more))["suppressed"] == {}  # another event, the same address
    assert not held(box, "c2")


def test_an_objection_withdraws_the_customers_consent(box: PostBox) -> None:
    sources = {
        "spamreport": "complaint",
        "unsubscribe": "provider_unsubscribe",
        "group_unsubscribe": "provider_unsubscribe",
    }
    everyone = {f"c{n}" for n in range(4)}
    for customer in everyone:
        consent(box, customer, timedelta(days=-30))
    for n, (kind, source) in enumerate(sources.items()):
        assert box.ingest(box.event(kind, f"c{n}"))["unsubscribed"] == 1
        everyone.remove(f"c{n}")
        assert consented(box) == everyone
        withdrawn = box.rows(tables.consents)[-1]
        assert (withdrawn["source"], withdrawn["channel"], withdrawn["granted"]) == (source, "email", False)


def test_the_person_is_the_messages_and_the_address_the_events(box: PostBox) -> None:
    """The customer has another address since: the new one stays open, and nobody else's consent is touched."""
    for customer in ("c1", "c2"):
        consent(box, customer, timedelta(days=-30))
    box.ingest(box.event("spamreport", "c1", email=" C2@Customers.Example "))
    assert held(box, "c2")
    assert not held(box, "c1")
    assert consented(box) == {"c2"}


def test_events_of_unknown_messages_are_kept(box: PostBox) -> None:
    unknown = "0123456789abcdef" * 2
    report = box.ingest(
        box.event("delivered", message_id=unknown),
        box.event("bounce", "c1", message_id=unknown, type="bounce"),
        box.event("spamreport", "c2", message_id=None),
        box.event("unsubscribe", "c3", message_id="not ours"),
    )
    assert (report["events"], report["unknown_message"], report["unsubscribed"]) == (4, 4, 0)
    assert [r["message_id"] for r in box.rows(tables.delivery_events)] == [unknown, unknown, None, None]
    assert held(box, "c1")  # what SendGrid found out of an address holds whoever wrote to it
    assert held(box, "c2")
    assert not held(box, "c3")
    assert box.rows(tables.consents) == []


def test_an_address_that_is_none_is_not_suppressed(box: PostBox) -> None:
    for email in (None, 7, "", "nobody", "a@" + "b" * 400, ["c1@customers.example"]):
        assert box.ingest(box.event("bounce", "c1", type="bounce", email=email))["suppressed"] == {}
    assert box.rows(tables.suppressions) == []


def test_late_events_of_a_cancelled_run_are_kept(box: PostBox) -> None:
    with begin(box.settings) as ledger:
        occurrence_id = plans.lock_occurrence(ledger, "spring", "2026-06-15", NOW)
        plans.cancel_unsent(ledger, occurrence_id, reason="cancelled", now=NOW, superseded=False)
    assert box.totals().state == "cancelled"
    report = box.ingest(box.event("delivered", "c1"), box.event("bounce", "c2", type="bounce"))
    assert (report["events"], report["unknown_message"], report["suppressed"]) == (2, 0, {"bounced": 1})


def test_an_event_proves_that_a_message_left_whose_answer_was_lost(box: PostBox) -> None:
    assert (box.totals().unknown, box.totals().accepted) == (2, {"sendgrid": 4})
    assert box.ingest(box.event("group_resubscribe", LOST[0]), box.event("open", "c1"))["confirmed"] == 0
    assert box.totals().unknown == 2
    report = box.ingest(box.event("delivered", LOST[0]), box.event("open", LOST[0]))
    assert report["confirmed"] == 1
    assert (box.totals().unknown, box.totals().accepted) == (1, {"sendgrid": 5})
    assert box.ingest(box.event("open", LOST[0]))["confirmed"] == 0
    assert box.ingest(box.event("bounce", LOST[1]))["confirmed"] == 1
    assert (box.totals().unknown, box.totals().accepted) == (0, {"sendgrid": 6})


def test_events_without_an_id_count_once_too(box: PostBox) -> None:
    event = box.event("open", "c1", sg_event_id=None)
    other = event | {"timestamp": event["timestamp"] + 1}
    strange = [event | {"sg_event_id": "a b"}, event | {"sg_event_id": "x" * 200}, event | {"sg_event_id": 7}]
    report = box.ingest(event, event, other, *strange)
    assert (report["events"], report["duplicates"]) == (5, 1)
    assert box.ingest(other, event)["duplicates"] == 2
    assert all(r["provider_event_id"].startswith("content:") for r in box.rows(tables.delivery_events))


def test_a_run_that_was_cut_short_is_made_up_for(box: PostBox) -> None:
    box.post(box.event("bounce", "c1", type="bounce"))
    box.post(box.event("spamreport", "c2"))
    with pytest.raises(KeyboardInterrupt), begin(box.settings) as ledger:
        body = webhooks.next_waiting(ledger)
        assert body is not None
        consequences.handle(ledger, body, box.settings.signing_key(), consequences.Report())
        raise KeyboardInterrupt
    assert box.rows(tables.delivery_events) == box.rows(tables.suppressions) == []
    report = ingest_feedback()
    assert (report["bodies"], report["events"]) == (2, 2)
    assert report["suppressed"] == {"bounced": 1, "complained": 1}


def test_several_at_once_leave_the_same_rows(box: PostBox) -> None:
    shared = [box.event("bounce", "c1", type="bounce"), box.event("spamreport", "c2"), box.event("open", LOST[0])]
    for n in range(12):
        box.post(*shared[n % 2 :], box.event("open", "c3"), box.event("bounce", "c3", type="bounce"))
    with ThreadPoolExecutor(4) as pool:
        reports = [job.result() for job in [pool.submit(ingest_feedback) for _ in range(4)]]
    assert sum(r["bodies"] for r in reports) == 12
    assert sum(r["events"] for r in reports) == 3 + 24
    assert sum(r["unsubscribed"] for r in reports) == 1
    assert len(box.rows(tables.delivery_events)) == 27
    assert len(box.rows(tables.suppressions)) == 3
    assert len(box.rows(tables.consents)) == 1


def removed(**how: bool) -> dict[str, int]:
    return {row["what"]: row["removed"] for row in keep_to_retention(**how)["kept"]}


def test_bodies_are_emptied_after_thirty_days(box: PostBox) -> None:
    events = [box.event("open", "c1")]
    box.ingest(*events)
    box.post_body(b"not json")
    clock.set_clock(box.settings, NOW + timedelta(days=29), speed=0)
    ingest_feedback()
    assert removed()["webhook_bodies"] == 0
    assert [r["body"] is None for r in box.rows(tables.webhook_bodies)] == [False, False]
    clock.set_clock(box.settings, NOW + timedelta(days=31), speed=0)
    box.post_body(json.dumps(events).encode())  # its digest is still known
    assert removed(dry_run=True)["webhook_bodies"] == removed()["webhook_bodies"] == 1
    assert [r["body"] is None for r in box.rows(tables.webhook_bodies)] == [True, False]


def test_the_command_prints_the_counts(box: PostBox, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(INCLUDE / "shops" / "simulated.yaml", box.settings.shop_file)
    box.post(box.event("bounce", "c1", type="bounce"), 7)
    feedback()
    said = capsys.readouterr().out
    assert "bodies: 1" in said
    assert "unknown:\n  accepted: 0\n  reopened: 0\n  given_up: 0\n  waiting: 2" in said
    assert "bounced: 1" in said
    assert "not_an_object: 1" in said
