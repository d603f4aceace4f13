"""Delivery events: what came back for a message. Append-only; a provider's event is kept once, however often it comes.

A row is {provider, provider_event_id, message_id, event, occurred_at, received_at, detail, machine}: the first four
words as in ledger/tables.py, `detail` a small JSON object without personal data or None, `machine` False if left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from controltower.ledger.insert import insert_new, inserted
from controltower.ledger.tables import batches, campaign_runs, delivery_events, messages, occurrences, outcomes

_ASKED_AT_ONCE = 500  # ids a query: SQLite takes no more than so many parameters


class Known(NamedTuple):
    """What the ledger knows of a message."""

    customer_id: str
    run_id: int
    channel: str
    campaign: str
    variant: str


def record(connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> int:
    """Append events; those already there are left as they are. Returns how many were new."""
    return insert_new(connection, delivery_events, _ordered(rows))


def record_new(connection: sa.Connection, provider: str, rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Append events of one provider, as `record` does. Returns the provider's ids of those that were new."""
    ordered = _ordered({**row, "provider": provider} for row in rows)
    return set(inserted(connection, delivery_events, ordered, delivery_events.c.provider_event_id))


def known_messages(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Known]:
    """What the ledger knows of these messages; those it doesn't know are left out."""
    m, b, r = messages.c, batches.c, campaign_runs.c
    wanted = sorted(set(ids))
    found: dict[str, Known] = {}
    for start in range(0, len(wanted), _ASKED_AT_ONCE):
        rows = connection.execute(
            sa.select(m.message_id, m.customer_id, b.run_id, b.channel, occurrences.c.campaign, b.variant)
            .join(batches, b.batch_id == m.batch_id)
            .join(campaign_runs, r.run_id == b.run_id)
            .join(occurrences, occurrences.c.occurrence_id == r.occurrence_id)
            .where(m.message_id.in_(wanted[start : start + _ASKED_AT_ONCE]))
        )
        found.update((message_id, Known(*known)) for message_id, *known in rows)
    return found


def unproven(connection: sa.Connection, ids: Iterable[str]) -> set[str]:
    """Those of the messages whose answer was lost (`unknown`), and of which nothing has come back yet."""
    m, o = messages.c, outcomes.c
    earlier = outcomes.alias()
    last = sa.select(sa.func.max(earlier.c.outcome_id)).where(earlier.c.seq == m.seq).correlate(messages)
    lost = sa.and_(o.outcome_id == last.scalar_subquery(), o.state == "unknown")
    wanted = sorted(set(ids))
    found: set[str] = set()
    for start in range(0, len(wanted), _ASKED_AT_ONCE):
        rows = sa.select(m.message_id).join(outcomes, o.seq == m.seq).where(lost, ~proved())
        found.update(connection.execute(rows.where(m.message_id.in_(wanted[start : start + _ASKED_AT_ONCE]))).scalars())
    return found


def proved(as_of: datetime | None = None) -> sa.Exists:
    """Inside a query of `messages`: whether something came back of the message by `as_of` (default: so far), which
    shows that it left.
    """
    e = delivery_events.c
    back = sa.exists().where(e.message_id == messages.c.message_id, e.event != "unknown")
    return (back if as_of is None else back.where(e.received_at <= as_of)).correlate(messages)


def _ordered(rows: Iterable[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
    """With every column, and in the key's order: two writers of the same events don't lock each other out."""
    blank = {"detail": None, "machine": False, "message_id": None}
    return sorted((blank | dict(row) for row in rows), key=lambda row: (row["provider"], row["provider_event_id"]))
