"""Inserting rows that may be there already, the same way on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

_ROWS = 1000  # a statement


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that break no unique key, and return how many those were."""
    return len(inserted(connection, table, rows, next(iter(table.primary_key))))


def inserted(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], column: sa.Column[Any]
) -> list[Any]:
    """Insert the rows that break no unique key, and return a column of those."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    added: list[Any] = []
    for start in range(0, len(rows), _ROWS):
        chunk = list(rows[start : start + _ROWS])
        statement = dialect.insert(table).on_conflict_do_nothing().returning(column)
        added += connection.execute(statement, chunk).scalars().all()
    return added
