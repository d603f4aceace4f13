"""Messages of one occurrence to one person, planned before two ids were known to be one: one may leave."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import sqlalchemy as sa

from controltower.ledger import merges, work
from controltower.ledger.database import among
from controltower.ledger.tables import batches, campaign_runs, decisions, messages, subjects

_NEVER_LEFT = ("not_sent", "rejected", "cancelled")


def find(connection: sa.Connection, batch: work.Batch, customers: Collection[str]) -> set[str]:
    """Those of a batch's customers whose message must not leave, because another of their person's does.

    One that has left, or may have, stands in the way of all others; of those that wait, the one to the customer whose
    subject stands for the person goes first, then the one that was planned first.
    """
    families = merges.families(connection, customers)
    if not families:
        return set()
    ids = families.with_others(customers) & set(families.customers)
    waiting, gone = _of_occurrence(connection, batch, ids)
    found = set()
    for customer in ids.intersection(customers):
        others = families.of(customer) - {customer}
        mine = waiting.get(customer)
        if others & gone or (mine and any(waiting[other] < mine for other in others if other in waiting)):
            found.add(customer)
    return found


def _of_occurrence(
    connection: sa.Connection, batch: work.Batch, ids: Collection[str]
) -> tuple[dict[str, tuple[bool, int]], set[str]]:
    """Of the messages to these in the batch's occurrence, each one's place among those that wait, and to whom one has
    left or may have."""
    m, b, r, d, s = messages.c, batches.c, campaign_runs.c, decisions.c, subjects.c
    occurrence = sa.select(r.occurrence_id).where(r.run_id == batch.run_id).scalar_subquery()
    rows = connection.execute(
        sa.select(m.seq, m.customer_id, m.batch_id, sa.func.coalesce(s.own_subject_id, s.subject_id) != s.subject_id)
        .join(decisions, sa.and_(d.seq == m.seq, d.customer_id == m.customer_id))
        .join(batches, b.batch_id == m.batch_id)
        .join(campaign_runs, r.run_id == b.run_id)
        .join(subjects, s.customer_id == m.customer_id)
        .where(among(connection, d.customer_id, ids), r.occurrence_id == occurrence, m.message_id.is_not(None))
        .order_by(m.seq)
    ).all()
    read = lru_cache(maxsize=None)(lambda batch_id: work.read(connection, batch_id))
    waiting: dict[str, tuple[bool, int]] = {}
    gone: set[str] = set()
    for seq, customer, batch_id, stepped_back in rows:
        its = read(batch_id)
        if seq in its.unsent:
            waiting[customer] = stepped_back, seq
        elif its.settled.get(seq) not in _NEVER_LEFT:
            gone.add(customer)
    return waiting, gone
