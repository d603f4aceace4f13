"""Whatever the order in which events come, and however they are parted into bodies, the ledger is the same."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from controltower.feedback import consequences
from controltower.ledger import reports, tables, webhooks
from controltower.settings import Settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import CUSTOMERS, MOMENT, NOW, PostBox, address, undone

FACTS = (tables.delivery_events, tables.suppressions, tables.consents)
KINDS = [
    {"event": "processed"}, {"event": "delivered"}, {"event": "open"}, {"event": "open", "sg_machine_open": True},
    {"event": "bounce", "type": "bounce", "status": "5.1.1"}, {"event": "bounce", "type": "blocked"},
    {"event": "click"}, {"event": "spamreport"}, {"event": "unsubscribe"}, {"event": "dropped", "reason": "Invalid"},
    {"event": "group_unsubscribe"}, {"event": "tea_break"}, {"event": "deferred", "timestamp": "never"},
]  # fmt: skip
EVENTS = st.lists(
    st.tuples(st.integers(0, 11), st.sampled_from(KINDS), st.sampled_from([*CUSTOMERS, "stranger"])), max_size=14
)


def made(box: PostBox, drawn: list[tuple[int, dict[str, Any], str]]) -> list[dict[str, Any]]:
    """Events with ids of their own, some of them twice: what an id was first drawn with is what it stands for."""
    first: dict[int, dict[str, Any]] = {}
    for n, kind, customer in drawn:
        event = {"sg_event_id": f"e{n}", "email": address(customer), "timestamp": MOMENT - n}
        first.setdefault(n, event | {"message_id": box.message_ids.get(customer)} | kind)
    return [first[n] for n, _, _ in drawn]


def outcome(conf: Settings, bodies: list[list[dict[str, Any]]]) -> tuple[list[Any], Any, int]:
    """What the ledger holds after these bodies, in no order and without its own row ids; then all is undone."""
    report = consequences.Report()
    with undone(conf) as ledger:
        for body in bodies:
            webhooks.store(ledger, "sendgrid", [json.dumps(body).encode()], NOW)
        while waiting := webhooks.next_waiting(ledger):
            webhooks.close(ledger, waiting.body_id, consequences.handle(ledger, waiting, b"key", report), NOW)
        held = [
            sorted(str(row) for row in ledger.execute(sa.select(*(c for c in table.c if not c.primary_key))))
            for table in FACTS
        ]
        return held, reports.totals(ledger), report.confirmed


@given(EVENTS, st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_order_of_events_does_not_matter(
    box: PostBox, drawn: list[tuple[int, dict[str, Any], str]], data: st.DataObject
) -> None:
    events = made(box, drawn)
    shuffled = data.draw(st.permutations(events))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=5)))
    parted = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    assert outcome(box.settings, parted) == outcome(box.settings, [events])


def test_delivered_after_bounced_leaves_both_facts(box: PostBox) -> None:
    """As when a mail server takes a mail and sends it back later, or the other way round."""
    bounced, delivered = box.event("bounce", "c1", type="bounce"), box.event("delivered", "c1")
    assert outcome(box.settings, [[bounced], [delivered]]) == outcome(box.settings, [[delivered], [bounced]])
