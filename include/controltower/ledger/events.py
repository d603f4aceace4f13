"""Delivery events: what came back for a message. Append-only; a provider's event is kept once, however often it comes.

A row is {provider, provider_event_id, message_id, event, occurred_at, received_at, detail, machine}: the first four
words as in the table, `detail` a small JSON object without personal data or None, `machine` False if left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from controltower.ledger import unknowns
from controltower.ledger.insert import inserted
from controltower.ledger.tables import batches, campaign_runs, delivery_events, messages, occurrences

_ASKED_AT_ONCE = 500  # ids a query: SQLite takes no more than so many parameters


class Known(NamedTuple):
    """What the ledger knows of a message."""

    customer_id: str
    run_id: int
    channel: str
    campaign: str
    variant: str


class Recorded(NamedTuple):
    """What came of recording events."""

    new: set[str]  # the provider's ids of the events that weren't there
    settled: set[str]  # the messages whose answer was lost, and that did leave


def record(connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> Recorded:
    """Append events; those already there are left as they are. A message that is unknown is settled by them."""
    ordered = _ordered(rows)
    new = set(inserted(connection, delivery_events, ordered, delivery_events.c.provider_event_id))
    return Recorded(new, unknowns.settle(connection, {row["message_id"] for row in ordered if row["message_id"]}))


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


def _ordered(rows: Iterable[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
    """With every column, and in the key's order: two writers of the same events don't lock each other out."""
    blank = {"detail": None, "machine": False, "message_id": None}
    return sorted((blank | dict(row) for row in rows), key=lambda row: (row["provider"], row["provider_event_id"]))
