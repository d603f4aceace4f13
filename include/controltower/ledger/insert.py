"""Inserting rows that may be there already, the same way on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

_ROWS = 1000  # a statement


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that break no unique key, and return how many those were."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    added = 0
    for start in range(0, len(rows), _ROWS):
        chunk = list(rows[start : start + _ROWS])
        statement = dialect.insert(table).on_conflict_do_nothing().returning(next(iter(table.primary_key)))
        added += len(connection.execute(statement, chunk).all())
    return added
