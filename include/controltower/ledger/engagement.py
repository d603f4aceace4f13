"""What came back for our messages and with what probability they were sent: ids only, for those who learn from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger.tables import decisions, delivery_events, messages

_RUNS_AT_ONCE = 500  # a query


@dataclass(frozen=True, slots=True)
class Answer:
    """A delivery event of a message that is ours."""

    provider: str
    provider_event_id: str
    message_id: str
    customer_id: str
    event: str
    occurred_at: datetime
    received_at: datetime
    detail: Any  # a small JSON object, or None
    machine: bool


def answers(connection: sa.Connection, since: datetime | None) -> Iterator[Answer]:
    """The delivery events received from `since` on (None: all), oldest first; those of unknown messages left out."""
    e = delivery_events.c
    columns = (
        e.provider, e.provider_event_id, e.message_id, messages.c.customer_id, e.event, e.occurred_at, e.received_at,
        e.detail, e.machine,
    )  # fmt: skip
    rows = sa.select(*columns).join(messages, messages.c.message_id == e.message_id)
    if since is not None:
        rows = rows.where(e.received_at >= since)
    for row in connection.execute(rows.order_by(e.received_at, e.event_id)):
        yield Answer(*row)


def probabilities(connection: sa.Connection, run_ids: Collection[int]) -> dict[tuple[int, str], float]:
    """With what probability the messages of these runs were decided, by run and customer."""
    d = decisions.c
    wanted, found = sorted(run_ids), {}
    for start in range(0, len(wanted), _RUNS_AT_ONCE):
        chunk = wanted[start : start + _RUNS_AT_ONCE]
        rows = sa.select(d.run_id, d.customer_id, d.probability).where(d.run_id.in_(chunk), d.outcome == "message")
        found.update({(run_id, customer): p for run_id, customer, p in connection.execute(rows)})
    return found
