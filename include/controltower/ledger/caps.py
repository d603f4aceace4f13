"""Counting messages for frequency caps: the one place where it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from controltower.ledger.tables import batches, messages, outcomes

# A message with one of these last outcomes never reached the customer; an unknown one may have.
_NEVER_LEFT = ("not_sent", "rejected", "cancelled")


def counts(
    connection: sa.Connection,
    since: datetime,
    *,
    customers: Iterable[str] | None = None,
    channel: str | None = None,
    but_occurrence: int | None = None,
    with_pending: bool = True,
) -> Counter[str]:
    """Messages per customer that left after `since`, and by default those still planned.

    `but_occurrence` leaves one occurrence out: a message doesn't stand in its own way, nor in its next version's.
    """
    m, b, o = messages.c, batches.c, outcomes.c
    earlier = outcomes.alias()
    last = sa.select(sa.func.max(earlier.c.outcome_id)).where(earlier.c.seq == m.seq).correlate(messages)
    never_left = (
        sa.exists()
        .where(o.seq == m.seq, o.outcome_id == last.scalar_subquery(), o.state.in_(_NEVER_LEFT))
        .correlate(messages)
    )
    left = sa.and_(b.state == "done", b.done_at > since)
    wanted = sa.or_(left, b.state == "pending") if with_pending else left
    rows = (
        sa.select(m.customer_id, sa.func.count())
        .join(batches, b.batch_id == m.batch_id)
        .where(wanted, ~m.superseded, ~never_left)
        .group_by(m.customer_id)
    )
    if customers is not None:
        rows = rows.where(m.customer_id.in_(list(customers)))
    if channel is not None:
        rows = rows.where(m.channel == channel)
    if but_occurrence is not None:
        rows = rows.where(m.occurrence_id != but_occurrence)
    return Counter(dict(connection.execute(rows).tuples().all()))
