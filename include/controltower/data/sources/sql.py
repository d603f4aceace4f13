"""A database as a source: a `table:` or a `query:` for each table of the contract, streamed into Parquet.

    kind: sql
    connection: shop_db        # an Airflow connection's id, or the variable AIRFLOW_CONN_SHOP_DB
    overlap_minutes: 60
    tables:
      orders: { table: public.sale, cursor: changed_at, columns: { id: order_id, placed: ordered_at } }

All tables are read in one read-only transaction, in PostgreSQL on one snapshot: an order and its lines belong together.
With a `cursor`, an interval reads the rows from `overlap_minutes` before its start, for what was committed late, until
its end. A row's cursor says when it was known, unless the mapping says it; one from the overlap, at the interval's
start, as only now it reached us. What had been loaded already is found to be a duplicate.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from controltower.data.contract import CONTRACT
from controltower.data.sources.base import Input, Wanted
from controltower.data.sources.mapping import SourceFile, TableMapping
from controltower.errors import BadSource
from controltower.settings import INCLUDE, connection_url

_BATCH = 20_000  # rows in memory at a time
_KNOWN = "_known"

log = logging.getLogger(__name__)


class SqlSource:
    """Reads the database that `connection` or `url` names; its user needs the right to read only."""

    def __init__(self, name: str, config: SourceFile, shop_file: Path | None = None) -> None:
        if not config.tables:
            raise BadSource(f"The source {name} names no tables.", "Add `tables:` with a `table:` or a `query:` each.")
        for table, mapping in config.tables.items():
            if not (mapping.table or mapping.query):
                raise BadSource(f"{name}: tables.{table} names no table.", "Give it a `table:` or a `query:`.")
        self.name = name
        self.shop_file = shop_file or INCLUDE / "shops" / "folder.yaml"
        self.zone, self.known_at = config.timezone, config.known_at
        self.bad_rows_limit, self.encoding, self.delimiter = config.bad_rows_limit, "utf-8", ","
        self._config = config
        self._notes: list[str] = []

    def tables(self, wanted: Wanted) -> dict[str, Input]:
        with _reading(self._url()) as database:
            return {name: self._read(database, name, mapping, wanted) for name, mapping in self._config.tables.items()}

    def notes(self) -> list[str]:
        return self._notes

    def _date(self, name: str, files: list[Path], wanted: Wanted) -> None:
        """Give files without a cursor the time at which their rows count as known, where these don't tell it.

        A day's load runs after the day: what it reads counts as known at the day's end. A load of longer ago reads
        what nobody can say was known then.
        """
        now = wanted.now or wanted.until
        regular = wanted.until > now - timedelta(days=1)
        at = min(now, wanted.until - timedelta(seconds=1)) if regular else now
        for file in files:
            os.utime(file, (at.timestamp(), at.timestamp()))
        if wanted.since and not regular:
            self._notes.append(
                f"{name} has no cursor, and is read as it is now: rows without a time aren't of that day"
            )

    def _url(self) -> sa.URL:
        config = self._config
        text = connection_url(config.connection) if config.connection else config.url
        if not text:
            name = config.connection
            raise BadSource(
                f"The source {self.name} " + (f"finds no connection {name}." if name else "names no database."),
                f"Make it in Airflow, or set AIRFLOW_CONN_{name.upper()}." if name else "Add `connection:` or `url:`.",
            )
        try:
            return sa.make_url(text)
        except sa.exc.ArgumentError:  # its text quotes the password
            raise BadSource(
                f"The connection of the source {self.name} is no URL of a database.",
                "Write it as postgresql://user:password@host/database.",
            ) from None

    def _read(self, database: sa.Connection, name: str, mapping: TableMapping, wanted: Wanted) -> Input:
        try:
            statement = _statement(database, mapping, wanted, timedelta(minutes=self._config.overlap_minutes))
            files = _streamed(database, statement, name, mapping, wanted)
        except SQLAlchemyError as e:
            raise BadSource(
                f"The database refuses the {'query' if mapping.query else 'table'} of {name}: {_reason(e)}.",
                "Correct it, or the rights of the connection's user; the table must be there, and its columns.",
            ) from None
        if not mapping.cursor:
            self._date(name, files, wanted)
        known = CONTRACT[name].known
        told = known in mapping.expressions
        if mapping.cursor and CONTRACT[name].kind != "log" and not told and files:
            theirs = {ours: theirs for theirs, ours in mapping.columns.items()}.get(known, known)
            own = theirs in pq.read_schema(files[0]).names and theirs != mapping.cursor
            if not own:
                columns = {a: b for a, b in mapping.columns.items() if b != known}
                made = {known: _KNOWN} | mapping.expressions
                mapping = mapping.model_copy(update={"expressions": made, "columns": columns})
        return Input(files, mapping)


@contextmanager
def _reading(url: sa.URL) -> Iterator[sa.Connection]:
    """One read-only transaction, on one snapshot where the database can."""
    kind = url.get_backend_name()
    options: dict[str, Any] = {"stream_results": True, "max_row_buffer": _BATCH}
    if kind == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
    except (ImportError, SQLAlchemyError) as e:
        raise BadSource(f"There is no driver for {url.drivername}: {e}.", "Install it beside controltower.") from None
    try:
        with engine.connect().execution_options(**options) as database:
            if kind == "sqlite":
                database.exec_driver_sql("PRAGMA query_only = ON")
                database.exec_driver_sql("BEGIN")
            elif kind in ("mysql", "mariadb"):
                database.exec_driver_sql("SET TRANSACTION READ ONLY")
            yield database
    except SQLAlchemyError as e:
        raise BadSource(f"The database can't be read: {_reason(e)}.", "Check its connection, and try again.") from None
    finally:
        engine.dispose()


def _statement(
    database: sa.Connection, mapping: TableMapping, wanted: Wanted, overlap: timedelta
) -> sa.Select[tuple[Any, ...]]:
    """SELECT * over the table or query, bounded by the cursor. Names are quoted, moments bound."""
    rows: sa.FromClause
    if mapping.query:
        text = re.sub(r"(?<!:):(?!:)", r"\\:", mapping.query.strip().rstrip(";"))  # no colon is a parameter
        rows = sa.text(text).columns().subquery("q")
    else:
        *schema, table = str(mapping.table).split(".")
        rows = sa.table(_name(table), schema=_name(".".join(schema)) if schema else None)
    found: sa.Select[tuple[Any, ...]] = sa.select(sa.literal_column("*")).select_from(rows)
    if mapping.cursor:
        cursor: sa.ColumnElement[Any] = sa.column(_name(mapping.cursor))
        newest = sa.select(cursor).select_from(rows).where(cursor.is_not(None)).limit(1)
        example = database.execute(newest).scalar()
        found = found.where(cursor < _bound(example, wanted.until, wanted.zone, mapping.cursor))
        if wanted.since:
            first = _bound(example, wanted.since - overlap, wanted.zone, mapping.cursor)
            found = found.where(cursor >= first)
    return found.limit(wanted.most_rows) if wanted.most_rows else found


def _name(name: str) -> sa.quoted_name:
    return sa.quoted_name(name, quote=True)


def _bound(example: Any, moment: datetime, zone: str, cursor: str) -> sa.ColumnElement[Any]:
    """A moment as the cursor's own values are: with a zone, without one (the source's), a date, or ISO text."""
    naive = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    if example is None or isinstance(example, datetime):
        zoned = example is not None and example.tzinfo is not None
        return sa.literal(moment.astimezone(UTC) if zoned else naive, sa.DateTime(timezone=zoned))
    day = naive.date() if naive.time() == time.min else naive.date() + timedelta(days=1)  # a day is known at its start
    if isinstance(example, date):
        return sa.literal(day, sa.Date())
    if isinstance(example, str) and re.match(r"\d{4}-\d\d-\d\d", example):
        if len(example) == len("2025-06-01"):
            return sa.literal(day.isoformat(), sa.String())
        offset = re.search(r"(Z|[+-]\d\d:?\d\d)$", example[10:])
        text = (moment.astimezone(UTC).replace(tzinfo=None) if offset else naive).isoformat(sep=example[10])
        return sa.literal(text, sa.String())
    raise BadSource(f"The cursor {cursor} holds no times, but {type(example).__name__}.", "Name a column of times.")


def _streamed(
    database: sa.Connection, statement: sa.Select[tuple[Any, ...]], name: str, mapping: TableMapping, wanted: Wanted
) -> list[Path]:
    """Write the rows, a file for each set of types that the batches turn out to have."""
    answer = database.execute(statement)
    names = list(answer.keys())
    twice = [n for n in names if names.count(n) > 1]
    if twice:
        raise BadSource(f"The query of {name} has the column {twice[0]!r} twice.", "Give each a name of its own.")
    if mapping.cursor and mapping.cursor not in names:
        raise BadSource(f"{name} has no column {mapping.cursor!r} for its cursor.", f"It has: {', '.join(names)}.")
    writers: dict[pa.Schema, pq.ParquetWriter] = {}
    files: list[Path] = []
    done = 0
    with ExitStack() as open_files:
        for batch in answer.partitions(_BATCH):
            columns = [_column([row[i] for row in batch]) for i in range(len(names))]
            table = pa.table(columns, names=names)
            if mapping.cursor:
                known = _known([row[names.index(mapping.cursor)] for row in batch], wanted)
                table = table.append_column(_KNOWN, known)
            if table.schema not in writers:
                files.append(wanted.folder / f"{name}-{len(files)}.parquet")
                writer = pq.ParquetWriter(files[-1], table.schema, compression="lz4")
                writers[table.schema] = open_files.enter_context(writer)
            writers[table.schema].write_table(table)
            done += len(batch)
            if done % (50 * _BATCH) == 0:
                log.info("%s: %s rows read", name, f"{done:,}")
        if not files:
            schema = pa.schema([(n, pa.string()) for n in [*names, *([_KNOWN] if mapping.cursor else [])]])
            files.append(wanted.folder / f"{name}-0.parquet")
            pq.write_table(schema.empty_table(), files[-1])
    return files


def _known(cursors: Sequence[Any], wanted: Wanted) -> pa.Array:
    """When each row was known: as its cursor says, but not before the interval, in which it reached us."""
    zone = ZoneInfo(wanted.zone)

    def moment(value: Any) -> datetime | None:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                return None
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time.min)
        if value is None:
            return None
        at = (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)
        return max(at, wanted.since) if wanted.since else at

    return pa.array([moment(value) for value in cursors], pa.timestamp("us", tz="UTC"))


def _column(values: list[Any]) -> pa.Array:
    """Values as Parquet holds them; what has no type of its own there (decimals, JSON, UUIDs) is text."""
    kinds = {type(value) for value in values if value is not None}
    try:
        if not kinds or kinds <= {str}:
            return pa.array(values, pa.string())
        if kinds == {datetime}:
            zoned = {value.tzinfo is not None for value in values if value is not None}
            if len(zoned) == 1:
                return pa.array(values, pa.timestamp("us", tz="UTC" if zoned.pop() else None))
        for kind, stored in ((bool, pa.bool_()), (int, pa.int64()), (date, pa.date32()), (float, pa.float64())):
            if kinds == {kind}:
                return pa.array(values, stored)
    except (pa.ArrowInvalid, OverflowError):  # an integer too large, a year too far
        pass
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


def _reason(error: SQLAlchemyError) -> str:
    """The database's own first line: SQLAlchemy's text holds the statement and its values."""
    return str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
