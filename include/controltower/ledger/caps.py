"""Counting messages for frequency caps: the one place where it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime

import sqlalchemy as sa

from controltower.ledger import underway
from controltower.ledger.database import among
from controltower.ledger.tables import batches, campaign_runs, decisions, messages, outcomes

# A message with one of these last outcomes never reached the customer; an unknown one may have.
_NEVER_LEFT = ("not_sent", "rejected", "cancelled")


def counts(
    connection: sa.Connection,
    since: datetime,
    until: datetime,
    *,
    customers: Collection[str] | None = None,
    channel: str | None = None,
    but_occurrence: int | None = None,
    with_planned: bool = True,
) -> Counter[str]:
    """Messages per customer that left in (since, until], and by default those planned by then that still wait.

    `but_occurrence` leaves one occurrence out: a message doesn't stand in its own way, nor in its next version's.
    """
    m, b, o, r = messages.c, batches.c, outcomes.c, campaign_runs.c
    earlier = outcomes.alias()
    last = sa.select(sa.func.max(earlier.c.outcome_id)).where(earlier.c.seq == m.seq).correlate(messages)
    never_left = (
        sa.exists()
        .where(o.seq == m.seq, o.outcome_id == last.scalar_subquery(), o.state.in_(_NEVER_LEFT))
        .correlate(messages)
    )
    left = sa.and_(b.state == "done", b.done_at > since, b.done_at <= until)
    waits = sa.and_(b.state == "pending", r.planned_at <= until)
    rows = (
        sa.select(m.customer_id, sa.func.count())
        .join(batches, b.batch_id == m.batch_id)
        .join(campaign_runs, r.run_id == b.run_id)
        .where(sa.or_(left, waits) if with_planned else left, m.message_id.is_not(None), ~never_left)
        .group_by(m.customer_id)
    )
    if customers is not None:
        theirs = sa.select(decisions.c.seq).where(among(connection, decisions.c.customer_id, customers))
        rows = rows.where(m.seq.in_(theirs))
    if channel is not None:
        rows = rows.where(b.channel == channel)
    if but_occurrence is not None:
        rows = rows.where(r.occurrence_id != but_occurrence)
    found: Counter[str] = Counter(dict(connection.execute(rows).tuples().all()))
    if not with_planned:
        found.update(_out_of_pending(connection, since, until, customers, channel))
    return found


def _out_of_pending(
    connection: sa.Connection, since: datetime, until: datetime, customers: Collection[str] | None, channel: str | None
) -> Iterator[str]:
    """The customers whose message has left although its batch isn't done."""
    for batch, left in underway.half_sent(connection):
        if channel not in (None, batch.channel):
            continue
        for message in batch.messages:
            at = left.get(message.seq)
            if at and since < at <= until and (customers is None or message.customer_id in customers):
                yield message.customer_id
