"""Consents: append-only, the only truth about who may be written to. No row means no."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from controltower.ledger.database import begin
from controltower.ledger.insert import insert_new
from controltower.ledger.tables import consents
from controltower.settings import Settings

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
    """The customers whose consent holds at `as_of`: of all, or of those given (a thousand or so at a time)."""
    c = consents.c
    rank = sa.func.row_number().over(partition_by=c.customer_id, order_by=(c.recorded_at.desc(), c.granted.asc()))
    rows = sa.select(c.customer_id, c.granted, c.expires_at, rank.label("rank")).where(
        c.channel == channel, c.purpose == purpose, c.recorded_at <= as_of
    )
    if customers is not None:
        rows = rows.where(c.customer_id.in_(list(customers)))
    last = rows.subquery()
    holds = sa.select(last.c.customer_id).where(
        last.c.rank == 1, last.c.granted, sa.or_(last.c.expires_at.is_(None), last.c.expires_at > as_of)
    )
    return set(connection.execute(holds).scalars())
