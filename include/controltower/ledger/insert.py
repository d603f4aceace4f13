"""Inserting rows, many at a time or such as may be there already, the same way on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")

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


def load(connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert many new rows, each as the values of `columns`: by COPY on PostgreSQL."""
    if connection.dialect.name == "sqlite":
        _execute_many(connection, sa.insert(table), columns, rows)
    else:
        _copy(connection, table, table.name, columns, rows)


def load_new(connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """The same for rows of which some may be there already: those are left as they are."""
    if connection.dialect.name == "sqlite":
        _execute_many(connection, sqlite.insert(table).on_conflict_do_nothing(), columns, rows)
        return
    names, fresh = ", ".join(columns), f"fresh_{table.name}"
    like = f"CREATE TEMP TABLE IF NOT EXISTS {fresh} ON COMMIT DROP AS SELECT {names} FROM {table.name} WITH NO DATA"
    connection.exec_driver_sql(like)
    connection.exec_driver_sql(f"TRUNCATE {fresh}")
    _copy(connection, table, fresh, columns, rows)
    insert = f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {fresh} ON CONFLICT DO NOTHING"
    connection.exec_driver_sql(insert)


def loaded(connection: sa.Connection, *tables: sa.Table) -> None:
    """Let PostgreSQL know what many new rows are like: until then it would guess, and look them up the slow way."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ANALYZE {', '.join(table.name for table in tables)}")


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Rows by the `size`, as itertools.batched of Python 3.12."""
    given = iter(rows)
    while chunk := list(islice(given, size)):
        yield chunk


def _execute_many(
    connection: sa.Connection, statement: sa.Insert, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    for chunk in batched(rows, 10 * _ROWS):
        connection.execute(statement, [dict(zip(columns, row, strict=True)) for row in chunk])


def _copy(
    connection: sa.Connection, table: sa.Table, into: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    json_at = [n for n, name in enumerate(columns) if isinstance(table.c[name].type, sa.JSON)]
    driver = connection.connection.driver_connection
    assert driver is not None
    statement = f"COPY {into} ({', '.join(columns)}) FROM STDIN"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                if json_at:
                    row = list(row)
                    for n in json_at:
                        row[n] = orjson.dumps(row[n]).decode()
                copy.write_row(row)
    except driver.IntegrityError as e:
        raise sa.exc.IntegrityError(statement, None, e) from None
