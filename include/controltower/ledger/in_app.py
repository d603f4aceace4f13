"""The messages that a customer's app can fetch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from controltower.ledger.tables import (
    batches,
    campaign_runs,
    decisions,
    delivery_events,
    messages,
    occurrences,
    outcomes,
    subjects,
)

CHANNEL = "in_app"
MOST = 50


@dataclass(frozen=True)
class Available:
    """An in-app message that was sent; `events` are those that its app has told of it."""

    message_id: str
    run_id: int
    customer_id: str
    variant: str
    expires_at: datetime
    events: frozenset[str]


def available(connection: sa.Connection, customer_id: str, now: datetime) -> list[Available]:
    """What was sent to this person and has not expired, the newest first; nothing of an occurrence that was cancelled
    or is paused: unlike a mail, what an app has yet to fetch can be called back.
    """
    m, b, d, r, s = messages.c, batches.c, decisions.c, campaign_runs.c, subjects.c
    subject = sa.select(s.subject_id).where(s.customer_id == customer_id).scalar_subquery()
    newest = campaign_runs.alias()
    state = sa.select(newest.c.state).where(newest.c.occurrence_id == r.occurrence_id).correlate(campaign_runs)
    state = state.order_by(newest.c.version.desc()).limit(1)
    theirs = connection.execute(sa.select(s.customer_id).where(s.subject_id == subject)).scalars().all()
    rows = connection.execute(
        sa.select(m.message_id, b.run_id, m.customer_id, b.variant, b.expires_at)
        .join(messages, m.seq == d.seq)
        .join(batches, b.batch_id == m.batch_id)
        .join(campaign_runs, r.run_id == b.run_id)
        .join(occurrences, occurrences.c.occurrence_id == r.occurrence_id)
        .where(d.customer_id.in_(theirs), d.channel == CHANNEL, d.outcome == "message", m.message_id.is_not(None))
        .where(b.state == "done", b.due_at <= now, b.expires_at > now)
        .where(
            state.scalar_subquery() != "cancelled", ~occurrences.c.paused, ~sa.exists().where(outcomes.c.seq == m.seq)
        )
        .order_by(b.due_at.desc(), m.seq.desc())
        .limit(MOST)
    ).all()
    told: dict[str, set[str]] = {}
    e = delivery_events.c
    ids = [row.message_id for row in rows]
    for message_id, event in connection.execute(sa.select(e.message_id, e.event).where(e.message_id.in_(ids))):
        told.setdefault(message_id, set()).add(event)
    return [Available(*row, frozenset(told.get(row.message_id, ()))) for row in rows]
