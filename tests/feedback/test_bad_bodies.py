"""Bodies that are broken, absurd or hostile: a named outcome each, and never an exception; on both databases."""

from __future__ import annotations

import json
from typing import Any

import pytest
from controltower.feedback import consequences
from controltower.feedback.intake import LARGEST_BODY
from controltower.feedback.sendgrid import EVENTS
from controltower.ledger import tables, webhooks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import MOMENT, NOW, PostBox, undone

KEY = b"key"
FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


BROKEN = [
    (b"", "not_json"),
    (b"event=delivered&email=a%40b", "not_json"),
    (b'[{"event": "open", "timest', "not_json"),
    (b"\xff\xfe\x00", "not_json"),
    (b'["\xff"]', "not_json"),
    (b"[" + b"9" * 5000 + b"]", "not_json"),
    (b"null", "not_a_list"),
    (b'{"event": "delivered"}', "not_a_list"),
    (b'"open"', "not_a_list"),
    (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
    (b'[{"a":' * 50_000 + b"1" + b"}]" * 50_000, "too_deep"),
    (b"[" + b" " * LARGEST_BODY + b"]", "too_large"),
    (b"[]", "handled"),
    (b'[1, null, [], "open"]', "4 not_an_object"),
    (b'[{}, {"timestamp": "soon"}, 1]', "2 bad_timestamp, 1 not_an_object"),
]


def test_a_broken_body_gets_a_name_and_stays(box: PostBox) -> None:
    for body, _ in BROKEN:
        assert box.post_body(body) == "stored"
    box.ingest()
    rows = box.rows(tables.webhook_bodies)
    assert [r["outcome"] for r in rows] == [named for _, named in BROKEN]
    assert [r["body"] for r in rows] == [body for body, _ in BROKEN]
    assert box.rows(tables.delivery_events) == []


ABSURD = [None, True, "1781481620", -1, 0, 10**12, 10**40, MOMENT * 1000, float("nan"), float("inf"), -1e300, [], {}]


def test_an_absurd_time_is_named_and_its_neighbours_count(box: PostBox) -> None:
    absurd = [box.event("open", "c1", timestamp=timestamp) for timestamp in ABSURD]
    report = box.ingest(*absurd, box.event("open", "c2"))
    assert (report["events"], report["broken"]) == (1, {"bad_timestamp": len(ABSURD)})


@pytest.mark.parametrize("timestamp", ABSURD)
def test_who_must_not_be_written_to_counts_whatever_the_time(box: PostBox, timestamp: object) -> None:
    bounce = box.event("bounce", "c1", timestamp=timestamp, type="bounce")
    report = box.ingest(bounce, box.event("unsubscribe", "c2", timestamp=timestamp))
    assert (report["suppressed"], report["unsubscribed"]) == ({"bounced": 1}, 1)
    assert all(r["occurred_at"] == r["received_at"] for r in box.rows(tables.delivery_events))


def test_a_broken_body_holds_nothing_up(box: PostBox) -> None:
    box.post_body(b"{")
    box.post_body(b"[[]]")
    report = box.ingest(box.event("open", "c1"))
    assert (report["bodies"], report["events"]) == (3, 1)
    assert report["broken"] == {"not_json": 1, "not_an_object": 1}


STRANGE = [
    "\x00", "a\x00b@c.example", "\ud800", "\udfff@c.example", "🎈" * 5000, "'; drop table messages; --", 10**400, 1e308,
    float("nan"), -0.0, True, None, [], {}, [[[]]], {"a": {"b": ["\x00"]}},
]  # fmt: skip


def test_strange_values_anywhere_do_no_harm(box: PostBox) -> None:
    fields = ("email", "event", "sg_event_id", "message_id", "type", "status", "reason", "sg_machine_open", "extra")
    events = [
        box.event(kind, "c1", **({"type": "bounce"} | {field: value}))
        for kind in ("bounce", "dropped", "open", "spamreport")
        for field in fields
        for value in STRANGE
    ]
    report = box.ingest(*events, {**box.event("open"), "\x00": "\x00", "\ud800": "\ud800"})
    assert (report["events"], report["broken"]) == (len(events) + 1, {})
    assert len(box.rows(tables.delivery_events)) == len(events) + 1
    assert "bounced" in report["suppressed"]


def _bodies() -> st.SearchStrategy[Any]:
    names = st.sampled_from(
        ["email", "event", "timestamp", "sg_event_id", "message_id", "type", "status", "reason", "sg_machine_open"]
    )
    scalars = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text()
        | st.sampled_from([*EVENTS, "bounce", "blocked", "a@b.example", "0" * 32, "Invalid", "5.1.1"])
        | st.integers(MOMENT - 1000, MOMENT)
    )  # fmt: skip
    values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3))
    event = st.dictionaries(names | st.text(max_size=5), values, max_size=9)
    return st.lists(event | event.map(lambda e: e | {"timestamp": MOMENT}) | values, max_size=8) | values


@given(_bodies())
@FUZZ
def test_any_json_has_an_outcome(box: PostBox, value: Any) -> None:
    with undone(box.settings) as ledger:
        webhooks.store(ledger, "sendgrid", [json.dumps(value).encode()], NOW)
        body = webhooks.next_waiting(ledger)
        assert body is not None
        report = consequences.Report()
        assert consequences.handle(ledger, body, KEY, report)
        if isinstance(value, list):
            assert report.events + report.duplicates + sum(report.broken.values()) == len(value)


@given(st.binary(max_size=200))
@FUZZ
def test_any_bytes_have_an_outcome(box: PostBox, body: bytes) -> None:
    with undone(box.settings) as ledger:
        webhooks.store(ledger, "sendgrid", [body], NOW)
        waiting = webhooks.next_waiting(ledger)
        assert waiting is not None
        assert consequences.handle(ledger, waiting, KEY, consequences.Report())
