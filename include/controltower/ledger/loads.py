"""Loads of the shop's data: how much of each table, what was odd about it, and who accepted that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from controltower.data.anomalies import Load
from controltower.ledger.tables import loads


class Standing(NamedTuple):
    """An odd load that nobody mended or accepted."""

    load_id: int
    source: str
    table: str
    interval: str
    ends_at: datetime
    odd: list[dict[str, Any]]


def record(connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append what a load brought of each of its tables."""
    if found := list(rows):
        connection.execute(sa.insert(loads), found)


def again(connection: sa.Connection, interval: str, tables: list[str], until: datetime, now: datetime) -> None:
    """What the last load of an interval until then brought of these tables, it holds again: append it once more."""
    t = loads.c
    its = (t.interval == interval, t.table_name.in_(tables), t.loaded_at <= until)
    last = sa.select(sa.func.max(t.load_id)).where(*its).group_by(t.source, t.table_name)
    rows = connection.execute(sa.select(loads).where(t.load_id.in_(last))).mappings().all()
    record(connection, [{k: v for k, v in row.items() if k != "load_id"} | {"loaded_at": now} for row in rows])


def last_of_each(connection: sa.Connection, source: str) -> dict[str, dict[str, Load]]:
    """By table and interval what the last load brought, the intervals that end last first."""
    found: dict[str, dict[str, Load]] = {}
    rows = connection.execute(_last().where(loads.c.source == source).order_by(loads.c.ends_at.desc(), loads.c.load_id))
    for r in rows:
        load = Load(
            r.starts_at, r.ends_at, r.rows, r.keys, r.filled, r.newest, r.odd, accepted=r.accepted_at is not None
        )
        found.setdefault(r.table_name, {})[r.interval] = load
    return found


def by_another(connection: sa.Connection, interval: str, source: str) -> bool:
    """Whether another source loaded that interval."""
    others = sa.select(loads.c.load_id).where(loads.c.interval == interval, loads.c.source != source)
    return connection.execute(others.limit(1)).first() is not None


def newest(connection: sa.Connection) -> dict[str, datetime]:
    """By table its newest fact, of all loads."""
    t = loads.c
    rows = (
        sa.select(t.table_name, sa.func.max(t.newest).label("newest"))
        .where(t.newest.is_not(None))
        .group_by(t.table_name)
    )
    return {row.table_name: row.newest for row in connection.execute(rows)}


def standing(connection: sa.Connection) -> list[Standing]:
    """Odd loads that still count: the last of their interval, not accepted. A dump that shrank is made good by a later
    one of the same table that didn't."""
    t = loads.c
    later = loads.alias()
    newer = sa.select(sa.func.max(later.c.ends_at)).where(
        later.c.source == t.source, later.c.table_name == t.table_name
    )
    query = _last().add_columns(newer.scalar_subquery().label("newest_end")).where(t.is_odd, t.accepted_at.is_(None))
    return [
        Standing(r.load_id, r.source, r.table_name, r.interval, r.ends_at, r.odd)
        for r in connection.execute(query.order_by(t.ends_at, t.table_name))
        if r.ends_at == r.newest_end or any(odd["code"] != "shrunk" for odd in r.odd)
    ]


def accept(connection: sa.Connection, load_ids: Iterable[int], by: str, why: str, now: datetime) -> None:
    connection.execute(
        sa.update(loads)
        .where(loads.c.load_id.in_(list(load_ids)), loads.c.accepted_at.is_(None))
        .values(accepted_at=now, accepted_by=by, accepted_why=why)
    )


def _last() -> sa.Select[Any]:
    """The last load of each source, table and interval."""
    t = loads.c
    last = sa.select(sa.func.max(t.load_id)).group_by(t.source, t.table_name, t.interval)
    return sa.select(loads).where(t.load_id.in_(last))
