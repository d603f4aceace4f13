"""What follows from a body of events: rows in the ledger, suppressed addresses, withdrawn consents.

Each event counts once, by its provider's id, so a replay changes nothing. What it leads to depends on that event alone,
never on what came before it: bodies may come in any order and parted in any way. (What became of a message is the set
of its events; nothing here keeps a state.)

The address. A body is signed, so what it says of an address is SendGrid's own finding, and mail to that address would
not arrive: its hash is suppressed, also when the message isn't ours (the account may send other mail) or the customer
has a new address meanwhile, which stays open. What concerns a person, the withdrawal of a consent, goes by our message
id only: an address alone could be somebody else's by now.

What comes back of a test send leads to nothing and is kept nowhere, only counted in the report: whoever reports a test
as spam is no customer who objects.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from controltower.content.links import is_test
from controltower.feedback import sendgrid
from controltower.feedback.sendgrid import Broken, Event
from controltower.ledger import consents, events, recipients, suppressions, unknowns
from controltower.ledger.webhooks import Body

CLOCKS_DIFFER = timedelta(minutes=5)

PARSERS = {"sendgrid": sendgrid.parse}


@dataclass
class Report:
    """What was read, in counts."""

    bodies: int = 0
    events: int = 0
    duplicates: int = 0
    of_tests: int = 0
    unknown_message: int = 0
    unknown_event: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    suppressed: Counter[str] = field(default_factory=Counter)
    complained: Counter[str] = field(default_factory=Counter)  # by provider
    unsubscribed: int = 0
    confirmed: int = 0
    twice: int = 0


def handle(connection: sa.Connection, body: Body, key: bytes, report: Report) -> str:
    """Record a body's events with all that follows from them, and count it in the report. Returns the body's outcome:
    `handled`, else what was wrong with it (the rest of it was handled).
    """
    report.bodies += 1
    try:
        found, broken = PARSERS[body.provider](body.body, key)
    except Broken as e:
        report.broken[str(e)] += 1
        return str(e)
    report.broken.update(broken)
    real = [e for e in found if not (e.message_id and is_test(key, e.message_id))]
    report.of_tests += len(found) - len(real)
    _record(connection, body, real, report)
    return ", ".join(f"{n} {reason}" for reason, n in sorted(broken.items())) or "handled"


def _when(event: Event, body: Body) -> datetime:
    """When it happened; one that gives no time that can be meant, or one still to come, when we heard of it."""
    latest = body.received_at + CLOCKS_DIFFER
    return event.occurred_at if event.occurred_at and event.occurred_at <= latest else body.received_at


def _record(connection: sa.Connection, body: Body, found: list[Event], report: Report) -> None:
    ids = {e.message_id for e in found if e.message_id}
    known = events.known_messages(connection, ids)
    again = unknowns.reopened(connection, known)
    once = {e.provider_event_id: e for e in reversed(found)}  # the first of those with one id
    new, settled = events.record(
        connection,
        [
            {
                "provider": body.provider, "provider_event_id": e.provider_event_id, "message_id": e.message_id,
                "event": e.event, "occurred_at": _when(e, body), "received_at": body.received_at,
                "detail": {**(e.detail or {}), "call": e.call} if e.call and e.message_id in again else e.detail,
                "machine": e.machine,
            }
            for e in once.values()
        ],
    )  # fmt: skip
    fresh = [e for i, e in once.items() if i in new]
    report.events += len(fresh)
    report.duplicates += len(found) - len(fresh)
    report.unknown_message += sum(e.message_id not in known for e in fresh)
    if complained := sum(e.event == "complained" for e in fresh):
        report.complained[body.provider] += complained
    report.unknown_event += sum(e.event == "unknown" for e in fresh)
    report.confirmed += len(settled)
    report.twice += unknowns.tell_apart(connection, again)
    for reason, address in sorted({(e.suppress, e.address_hash) for e in fresh if e.suppress and e.address_hash}):
        if suppressions.add(
            connection, "address", address, channel="email", reason=reason, source=body.provider, now=body.received_at
        ):
            report.suppressed[reason] += 1
    objections = sorted(
        {
            (customer, e.objection)
            for e in fresh
            if e.objection and e.message_id and (person := recipients.find(connection, e.message_id))
            for customer in person.customers
        }
    )
    report.unsubscribed += consents.record(
        connection,
        [
            {
                "customer_id": customer, "channel": "email", "purpose": "marketing", "granted": False,
                "recorded_at": body.received_at, "source": source,
            }
            for customer, source in objections
        ],
    )  # fmt: skip
