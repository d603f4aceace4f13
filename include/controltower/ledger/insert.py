"""Inserting rows, many at a time or such as may be there already, the same way on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
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


def load(connection: sa.Connection, table: sa.Table, rows: Iterable[pa.Table]) -> None:
    """Insert many new rows, given in pieces with columns of the table's names, JSON as text: by COPY on PostgreSQL."""
    if connection.dialect.name == "sqlite":
        _execute_many(connection, table, sa.insert(table), rows)
    else:
        _copy(connection, table.name, rows)


def load_new(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    """The same for rows of which some may be there already: those are left as they are. Most often none is."""
    if connection.dialect.name == "sqlite":
        _execute_many(connection, table, sqlite.insert(table).on_conflict_do_nothing(), [rows])
        return
    try:
        with connection.begin_nested():
            load(connection, table, [rows])
    except sa.exc.IntegrityError:
        _copy_new(connection, table, rows)


def _copy_new(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    names, fresh = ", ".join(rows.column_names), f"fresh_{table.name}"
    like = f"CREATE TEMP TABLE IF NOT EXISTS {fresh} ON COMMIT DROP AS SELECT {names} FROM {table.name} WITH NO DATA"
    connection.exec_driver_sql(like)
    connection.exec_driver_sql(f"TRUNCATE {fresh}")
    _copy(connection, fresh, [rows])
    insert = f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {fresh} ON CONFLICT DO NOTHING"
    connection.exec_driver_sql(insert)


def loaded(connection: sa.Connection, *columns: sa.Column[Any]) -> None:
    """Let PostgreSQL know what many new rows are like: until then it would guess, and look them up the slow way."""
    if connection.dialect.name == "postgresql":
        for table, theirs in groupby(columns, key=lambda column: column.table.name):
            connection.exec_driver_sql(f"ANALYZE {table} ({', '.join(c.name for c in theirs)})")


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Rows by the `size`, as itertools.batched of Python 3.12."""
    given = iter(rows)
    while chunk := list(islice(given, size)):
        yield chunk


def lines(rows: pa.Table) -> Iterator[bytes]:
    """The rows as text, as PostgreSQL's COPY reads it: a line each, its fields parted by tabs."""
    for batch in rows.to_batches(10 * _ROWS):
        fields = [_text(column) for column in batch.columns]
        whole = pc.binary_join_element_wise(*fields, "\t", null_handling="replace", null_replacement=r"\N")
        yield _joined(pa.concat_arrays([whole, pa.array([""])]), "\n")


def _joined(texts: pa.Array, between: str) -> bytes:
    whole: bytes = pc.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts), between)[0].as_buffer().to_pybytes()
    return whole


def _text(column: pa.Array) -> pa.Array:
    """Values as COPY writes them; what is there often is written once."""
    if pa.types.is_dictionary(column.type):
        return _text(column.dictionary).take(column.indices)
    if pa.types.is_string(column.type):
        held = _joined(column.fill_null(""), "")
        for byte, escape in (("\\", r"\\"), ("\t", r"\t"), ("\n", r"\n"), ("\r", r"\r")):
            if byte.encode() in held:
                column = pc.replace_substring(column, byte, escape)
        return column
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    encoded = column.dictionary_encode()
    return encoded.dictionary.cast(pa.string()).take(encoded.indices)


def _execute_many(connection: sa.Connection, table: sa.Table, statement: sa.Insert, rows: Iterable[pa.Table]) -> None:
    for piece in rows:
        names = piece.column_names
        as_text = {n: sa.bindparam(n, type_=sa.Text) for n in names if isinstance(table.c[n].type, sa.JSON)}
        for batch in piece.to_batches(10 * _ROWS):
            if batch.num_rows:
                connection.execute(statement.values(as_text) if as_text else statement, batch.to_pylist())


def _copy(connection: sa.Connection, into: str, rows: Iterable[pa.Table]) -> None:
    """In columns of the first piece's names."""
    pieces = iter(rows)
    if (first := next(pieces, None)) is None:
        return
    driver = connection.connection.driver_connection
    assert driver is not None
    statement = f"COPY {into} ({', '.join(first.column_names)}) FROM STDIN"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for piece in chain([first], pieces):
                for text in lines(piece):
                    copy.write(text)
    except driver.IntegrityError as e:
        raise sa.exc.IntegrityError(statement, None, e) from None
