"""Letting the ledger know which customer ids are one person, and that some no longer are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa

from controltower.ledger.plans import subject_ids
from controltower.ledger.tables import merges, subjects

_FOLLOWING = 0x6D657267  # PostgreSQL advisory lock


def follow(connection: sa.Connection, persons: Mapping[str, str], now: datetime) -> tuple[int, int]:
    """Let the ledger know who is one person: of each customer id that belongs to another, the person's.

    Returns how many merges are new, and how many ended. Doing it again changes nothing.
    """
    g = merges.c
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_FOLLOWING)))
    held = dict(connection.execute(sa.select(g.customer_id, g.person_id).where(g.ended_at.is_(None))).tuples().all())
    ended = {customer for customer, person in held.items() if persons.get(customer) != person}
    new = {customer: person for customer, person in persons.items() if held.get(customer) != person}
    if not ended and not new:
        return 0, 0
    for customer in sorted(ended):
        end = sa.update(merges).where(g.customer_id == customer, g.ended_at.is_(None))
        connection.execute(end.values(ended_at=now))
    rows = [{"customer_id": c, "person_id": p, "merged_at": now} for c, p in sorted(new.items())]
    if rows:
        connection.execute(sa.insert(merges), rows)
    touched = {held[customer] for customer in ended} | set(new.values())
    together: dict[str, list[str]] = {person: [person] for person in touched}
    for customer, person in persons.items():
        if person in touched:
            together[person].append(customer)
    alone = [[customer] for customer in ended if customer not in persons and customer not in touched]
    for ids in [*together.values(), *alone]:
        _share(connection, ids, now)
    return len(new), len(ended)


def _share(connection: sa.Connection, ids: Collection[str], now: datetime) -> None:
    """Give customer ids the subject that was the first of theirs; the first id wins a tie."""
    s = subjects.c
    if len(ids) > 1:
        subject_ids(connection, list(ids), now)
    own = sa.func.coalesce(s.own_subject_id, s.subject_id)
    rows = connection.execute(sa.select(s.customer_id, own, s.created_at).where(s.customer_id.in_(list(ids)))).all()
    if not rows:
        return
    place = {customer: n for n, customer in enumerate(ids)}
    first = min(rows, key=lambda row: (row.created_at, place[row.customer_id]))[1]
    for customer, subject, _ in rows:
        stepped = None if subject == first else subject
        connection.execute(
            sa.update(subjects).where(s.customer_id == customer).values(subject_id=first, own_subject_id=stepped)
        )
