"""Consents: append-only, the only truth about who may be written to. No row means no."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import sqlalchemy as sa

from controltower.ledger import merges
from controltower.ledger.database import among, begin, columns
from controltower.ledger.insert import insert_new
from controltower.ledger.tables import consents
from controltower.settings import Settings

PROFILING = "profiling"  # the purpose for which gender and age are inferred
_COLUMNS = [c.name for c in consents.c if c.name != "consent_id"]


def append(settings: Settings, rows: pa.Table) -> int:
    """Append consent rows in the contract's columns; those already there are left alone. Returns how many were new."""
    added = 0
    names = [n for n in _COLUMNS if n in rows.column_names]
    with begin(settings) as connection:
        for batch in rows.select(names).to_batches(max_chunksize=10_000):
            added += record(connection, batch.to_pylist())
    return added


def record(connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> int:
    """Append consent rows given as mappings. Returns how many were new."""
    blank = dict.fromkeys(_COLUMNS)
    return insert_new(connection, consents, [blank | dict(row) for row in rows])


def granted(
    connection: sa.Connection, channel: str, purpose: str, as_of: datetime, customers: Iterable[str] | None = None
) -> set[str]:
    """The customers whose consent holds at `as_of`: of all, or of those given.

    Of merged customers the strictest word holds: one's yes is all of theirs, unless another's last word is a no.
    """
    c = consents.c
    if customers is not None:
        customers = list(customers)
    families = merges.families(connection, customers)
    rank = sa.func.row_number().over(partition_by=c.customer_id, order_by=(c.recorded_at.desc(), c.granted.asc()))
    rows = sa.select(c.customer_id, c.granted, c.expires_at, rank.label("rank")).where(
        c.channel == channel, c.purpose == purpose, c.recorded_at <= as_of
    )
    if customers is not None:
        rows = rows.where(among(connection, c.customer_id, families.with_others(customers)))
    last = rows.subquery()
    holds = sa.select(last.c.customer_id).where(
        last.c.rank == 1, last.c.granted, sa.or_(last.c.expires_at.is_(None), last.c.expires_at > as_of)
    )
    found = set(columns(connection, holds)[0])
    if not families:
        return found
    merged = among(connection, last.c.customer_id, families.customers)
    refused = sa.select(last.c.customer_id).where(last.c.rank == 1, ~last.c.granted, merged)
    found = families.with_others(found) - families.with_others(connection.execute(refused).scalars())
    return found if customers is None else found.intersection(customers)


def agreed(
    connection: sa.Connection, purpose: str, as_of: datetime, customers: Collection[str] | None = None
) -> set[str]:
    """The customers, of all or of those given, whose consent to a purpose holds at `as_of` on some channel, and whose
    last word on none is a no: for what isn't done on a channel. Of merged customers, too, one's no is all of theirs.
    """
    c = consents.c
    families = merges.families(connection, customers)
    rank = sa.func.row_number().over(
        partition_by=(c.customer_id, c.channel), order_by=(c.recorded_at.desc(), c.granted.asc())
    )
    rows = sa.select(c.customer_id, c.granted, c.expires_at, rank.label("rank"))
    rows = rows.where(c.purpose == purpose, c.recorded_at <= as_of)
    if customers is not None:
        rows = rows.where(among(connection, c.customer_id, families.with_others(customers)))
    last = rows.subquery()
    said = sa.select(last.c.customer_id).where(last.c.rank == 1)
    unexpired = sa.or_(last.c.expires_at.is_(None), last.c.expires_at > as_of)
    (yes,) = columns(connection, said.where(last.c.granted, unexpired))
    (no,) = columns(connection, said.where(~last.c.granted))
    found = families.with_others(yes) - families.with_others(no)
    return found if customers is None else found.intersection(customers)


class Standing(NamedTuple):
    """A customer's last word on a channel and a purpose: what it was, since when, and whether it is a yes now."""

    granted: bool
    since: datetime
    holds: bool


def standing(
    connection: sa.Connection, customers: Iterable[str], as_of: datetime, to_come: bool = False
) -> dict[tuple[str, str, str], Standing]:
    """By (customer, channel, purpose); what nothing was ever said of is left out, and means no.

    With `to_come` also by what is dated later than `as_of`: `grant` dates a consent just after a withdrawal, and a
    home's clock may stand or be set back.
    """
    c = consents.c
    rows = (
        sa.select(c.customer_id, c.channel, c.purpose, c.granted, c.recorded_at, c.expires_at)
        .where(c.customer_id.in_(list(customers)), sa.true() if to_come else c.recorded_at <= as_of)
        .order_by(c.recorded_at, c.granted.desc())
    )
    return {
        (r.customer_id, r.channel, r.purpose): Standing(
            r.granted, r.recorded_at, r.granted and (r.expires_at is None or r.expires_at > as_of)
        )
        for r in connection.execute(rows)
    }


def withdraw(
    connection: sa.Connection,
    customers: Iterable[str],
    channel: str,
    purpose: str,
    now: datetime,
    *,
    source: str,
    proof: str | None = None,
    text_version: str | None = None,
) -> int:
    """Append a withdrawal for each customer whose last word isn't one already. Returns how many rows are new.

    Who never said anything gets one too: a refusal is a fact of its own. A consent that is dated later than `now` is
    withdrawn as well, at its own moment, where a withdrawal wins.
    """
    said = standing(connection, customers := list(customers), now)
    later = standing(connection, customers, now, to_come=True)
    moments: set[tuple[str, datetime]] = set()
    for customer in customers:
        word, last = said.get((customer, channel, purpose)), later.get((customer, channel, purpose))
        if word is None or word.granted:
            moments.add((customer, now))
        if last and last.granted and last.since > now:
            moments.add((customer, last.since))
    return record(
        connection,
        [
            {"customer_id": customer, "channel": channel, "purpose": purpose, "recorded_at": moment, "granted": False,
             "source": source, "proof": proof, "text_version": text_version}
            for customer, moment in sorted(moments)
        ],
    )  # fmt: skip


def grant(
    connection: sa.Connection,
    customer: str,
    channel: str,
    purpose: str,
    now: datetime,
    *,
    source: str,
    proof: str | None = None,
    text_version: str | None = None,
) -> int:
    """Append a consent unless one holds already. Returns how many rows are new."""
    word = standing(connection, [customer], now, to_come=True).get((customer, channel, purpose))
    if word and word.holds:
        return 0
    # A withdrawal wins a tie: a consent of the same moment comes just after it.
    moment = max(now, word.since + timedelta(microseconds=1)) if word else now
    row = {"customer_id": customer, "channel": channel, "purpose": purpose, "recorded_at": moment, "granted": True,
           "source": source, "legal_basis": "consent", "proof": proof, "text_version": text_version}  # fmt: skip
    return record(connection, [row])
