"""What left: each message that a provider took, and when. It is the touch that may have caused an order.

A message was taken if a request for it was `sent`, else if an outcome says so, because something came back of it. Its
moment is when the first such call began.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger.members import unpack
from controltower.ledger.tables import (
    batches,
    campaign_runs,
    delivery_events,
    messages,
    occurrences,
    outcomes,
    requests,
)

UNDELIVERED = ("bounced", "dropped")  # the provider took it and could not hand it over
_BATCHES_AT_ONCE = 20  # of up to 1000 messages: what is held in memory


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that left."""

    message_id: str
    seq: int
    run_id: int
    campaign: str
    occurrence: str
    customer_id: str
    subject_id: int
    channel: str
    variant: str
    sent_at: datetime


def sends(
    connection: sa.Connection,
    *,
    run_id: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    as_of: datetime | None = None,
) -> Iterator[Sent]:
    """What left in (since, until], of one run or of all, in no particular order, 20,000 messages in memory at a time.

    With `as_of`, only what was known by then: calls that had ended, and events received.
    """
    r, b = requests.c, batches.c
    bounds = [r.opened_at > since] if since else []
    bounds += [r.opened_at <= until] if until else []
    left = sa.select(r.batch_id).where(r.state == "sent", *bounds)
    left_after_all = _settled(sa.select(messages.c.batch_id)).where(*bounds)
    wanted = sa.select(b.batch_id).where(b.batch_id.in_(left.union(left_after_all))).order_by(b.batch_id)
    if run_id is not None:
        wanted = wanted.where(b.run_id == run_id)
    found = connection.execute(wanted).scalars().all()
    for start in range(0, len(found), _BATCHES_AT_ONCE):
        for sent in _of_batches(connection, found[start : start + _BATCHES_AT_ONCE], as_of):
            if (since is None or sent.sent_at > since) and (until is None or sent.sent_at <= until):
                yield sent


def undelivered(connection: sa.Connection, since: datetime, as_of: datetime) -> set[str]:
    """The messages of which a bounce or drop was received in (since, as_of]: they reached nobody. A small share."""
    e = delivery_events.c
    rows = sa.select(e.message_id).where(
        e.event.in_(UNDELIVERED), e.received_at > since, e.received_at <= as_of, e.message_id.is_not(None)
    )
    return set(connection.execute(rows).scalars())


def _of_batches(connection: sa.Connection, chosen: Sequence[int], as_of: datetime | None) -> Iterator[Sent]:
    """Every message of these batches that left."""
    r, m = requests.c, messages.c
    calls = (
        sa.select(r.members, r.opened_at, batches.c.first_seq)
        .join(batches, batches.c.batch_id == r.batch_id)
        .where(r.batch_id.in_(chosen), r.state == "sent")
        .order_by(r.opened_at, r.request_id)
    )
    settled = _settled(sa.select(m.seq, r.opened_at)).where(m.batch_id.in_(chosen))
    if as_of is not None:
        calls, settled = calls.where(r.closed_at <= as_of), settled.where(outcomes.c.at <= as_of)
    taken: dict[int, datetime] = {}
    for members, opened_at, first_seq in connection.execute(calls):
        for seq in unpack(members, first_seq):
            taken.setdefault(seq, opened_at)
    for seq, opened_at in connection.execute(settled.order_by(outcomes.c.outcome_id)):
        taken.setdefault(seq, opened_at)
    rows = connection.execute(
        sa.select(
            m.message_id, m.seq, batches.c.run_id, occurrences.c.campaign, occurrences.c.occurrence,
            m.customer_id, m.subject_id, batches.c.channel, batches.c.variant,
        )
        .join(batches, batches.c.batch_id == m.batch_id)
        .join(campaign_runs, campaign_runs.c.run_id == batches.c.run_id)
        .join(occurrences, occurrences.c.occurrence_id == campaign_runs.c.occurrence_id)
        .where(m.batch_id.in_(chosen))
        .order_by(m.seq)
    )  # fmt: skip
    for row in rows:
        if row.seq in taken:
            yield Sent(*row, taken[row.seq])


def _settled(query: sa.Select[Any]) -> sa.Select[Any]:
    """Of messages whose answer was lost and of which something came back, with the call whose answer that was."""
    return (
        query.select_from(outcomes)
        .join(messages, messages.c.seq == outcomes.c.seq)
        .join(requests, requests.c.request_id == outcomes.c.request_id)
        .where(outcomes.c.state == "accepted")
    )
