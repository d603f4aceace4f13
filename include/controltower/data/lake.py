"""The lake: immutable Parquet files per table, interval and date, named by one manifest, read with Ibis on DuckDB.

Publishing writes new files and then replaces the manifest (see `manifest.py`), so that readers in other processes see
either the old rows or the new ones, of all tables together. Nothing under a reader is renamed or changed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from controltower.data import manifest as manifests
from controltower.data.contract import CONTRACT, SCHEMA_VERSION, Table
from controltower.data.identity import people
from controltower.data.manifest import Load, Manifest, Part
from controltower.data.queries import Queries
from controltower.data.scratch import bounded, bounds, scratch
from controltower.data.sql import listed, quoted
from controltower.errors import NoData
from controltower.settings import Settings, load_shop

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pandas as pd

BATCH = 100_000  # rows that are read at a time
GRACE = 3600.0  # seconds a replaced file stays for readers that began before

_DUCKDB = {
    pa.string(): "VARCHAR", pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ", pa.date32(): "DATE", pa.bool_(): "BOOLEAN",
    pa.decimal128(18, 4): "DECIMAL(18,4)", pa.float64(): "DOUBLE", pa.int64(): "BIGINT",
}  # fmt: skip

_MADE_BY = {"features": "features", "scores": "score", "recommendations": "score"}


def interval_key(moment: datetime) -> str:
    """The key of a derived table's interval: its as_of moment, as 2026-06-15T00:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Lake:
    """The tables of one home."""

    def __init__(self, settings: Settings, grace: float = GRACE) -> None:
        self.settings = settings
        self.grace = grace
        self.root = settings.home / "lake"

    def publish(self, table: str, interval: str, rows: pa.Table, *, happened: str | None = None) -> int:
        """Replace one interval of a table by `rows`. Returns their number.

        They are split by the UTC date of column `happened` (by default the contract's), else they are one part.
        Rows of a contract table have its columns.
        """
        self.commit(interval, {table: self.write(table, rows, happened=happened)})
        return rows.num_rows

    def write(
        self, table: str, rows: pa.Table | pa.RecordBatchReader, *, happened: str | None = None
    ) -> tuple[Part, ...]:
        """Write rows as parts that nobody sees until `commit` names them. Batches should come in the order of dates."""
        contract = CONTRACT.get(table)
        happened = happened or (contract.happened if contract else None)
        schema = _schema(table, rows.schema)
        if isinstance(rows, pa.Table) and happened:
            rows = rows.sort_by(happened)
        (self.root / table).mkdir(parents=True, exist_ok=True)
        writer = _PartWriter(self.root, table, schema)
        with writer:
            for batch in rows.to_batches() if isinstance(rows, pa.Table) else rows:
                for date, piece in _by_date(pa.table(batch).select(schema.names).cast(schema), happened):
                    writer.write(date, piece)
        return writer.parts

    def commit(self, interval: str, tables: Mapping[str, tuple[Part, ...]], instead_of: Collection[str] = ()) -> None:
        """Publish written parts of several tables in one step; `instead_of`: intervals that these tables then lack."""
        self.root.mkdir(parents=True, exist_ok=True)
        manifests.commit(self.root, interval, tables, self.grace, instead_of)

    def merge(self, tables: Sequence[str], intervals: Collection[str], into: str) -> None:
        """Let one interval of these tables hold what several held, in fewer files. Nothing reads differently."""
        parts = {}
        with self.read() as reading:
            for table in tables:
                happened = CONTRACT[table].happened if table in CONTRACT else None
                parts[table] = self.write(table, reading.rows_of(table, intervals, happened))
        manifests.commit(self.root, into, parts, self.grace, instead_of=intervals)

    def intervals(self, table: str) -> list[str]:
        """The keys of the table's intervals, sorted."""
        return sorted(manifests.read(self.root).loads(table))

    def sizes(self, table: str) -> dict[str, int]:
        """How many rows each of the table's intervals holds."""
        loads = manifests.read(self.root).loads(table)
        return {interval: sum(p.rows for p in load.parts) for interval, load in loads.items()}

    def made_before(self, table: str, since: datetime | None) -> list[str]:
        """The intervals of a derived table that read facts known since a moment, and so may lack what is loaded now."""
        return [key for key in self.intervals(table) if since and key >= interval_key(since)]

    @contextmanager
    def read(self, as_of: datetime | None = None) -> Iterator[Reading]:
        """One consistent look at all tables, as of a moment (None: at everything)."""
        manifest = manifests.read(self.root)
        with scratch(self.settings) as folder, duckdb.connect(config=bounds(self.settings, folder)) as connection:
            yield Reading(connection, self.settings, manifest, as_of)


class Reading(Queries):
    """A look at one version of the lake. Its expressions live as long as the `with` block that made it."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, settings: Settings, manifest: Manifest, as_of: datetime | None
    ) -> None:
        if as_of is not None and as_of.tzinfo is None:
            raise ValueError("as_of needs a time zone")
        super().__init__(connection)
        self.as_of = as_of
        self._settings = settings
        self._root = settings.home / "lake"
        self._manifest = manifest
        self._views: set[str] = set()
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET python_enable_replacements = false")  # no variable of ours is a table
        connection.execute("SET parquet_metadata_cache = true")  # the files never change
        connection.execute("SET enable_progress_bar = false")  # it would be drawn into whatever we print

    def has(self, table: str) -> bool:
        """Whether the table has a row as of this reading's moment."""
        if table not in CONTRACT:
            newest = self._newest(table)
            return newest is not None and any(p.rows for p in self._manifest.loads(table)[newest].parts)
        parts = [p for p in self._manifest.parts(table) if p.rows]
        query = f"SELECT 1 FROM {self._scan(parts)} WHERE {self._known(CONTRACT[table])} LIMIT 1" if parts else ""
        return bool(parts) and bool(self.execute(query))

    def table(self, table: str) -> ir.Table:
        """A contract table as of this reading's moment: typed, and empty where the shop has none.

        Of a version table, the last version of each key: at the same moment the later load wins, then the later row.
        Customers are persons: rows of merged customer ids have the id of the person (`customers` has one row of each),
        and a visitor's anonymous events that of the person who they belong to.
        """
        if table not in self._views:
            self._create_view(table, self.query(table))
        return self._backend.table(table)

    def query(self, table: str, among: str = "true") -> str:
        """The SQL of `table(table)`, of the keys that `among` limits it to (see `_contract_query`)."""
        query = self._contract_query(CONTRACT[table], among)
        if table == "events" and self.has_spans:
            return people.with_history(query)
        return people.by_person(CONTRACT[table], query) if self.has_persons else query

    def versions(self, table: str) -> str:
        """SQL of every version of every row known, with ids as given and the `filename` it is in."""
        parts = [p for p in self._manifest.parts(table) if p.rows]
        if not parts:
            return f"SELECT *, '' AS filename FROM ({self._contract_query(CONTRACT[table])})"
        return f"SELECT *, filename FROM {self._scan(parts)} WHERE {self._known(CONTRACT[table])}"

    def loads(self, table: str) -> Mapping[str, Load]:
        """What each of the table's intervals holds."""
        return self._manifest.loads(table)

    def files(self, load: Load) -> list[str]:
        """The files of a load that have rows, as `filename` names them."""
        return [str(self._root / part.file) for part in load.parts if part.rows]

    def as_given(self, table: str) -> ir.Table:
        """The same, with the customer ids as the shop gave them."""
        view = f"given_{table}"
        if view not in self._views:
            self._create_view(view, self._contract_query(CONTRACT[table]))
        return self._backend.table(view)

    def derived(self, table: str) -> ir.Table:
        """Features, scores, recommendations: the rows of the newest interval that is not later than this moment.

        Raises NoData, naming the stage to run, where there is none.
        """
        if table not in self._views:
            newest = self._newest(table)
            if newest is None:
                until = f" as of {interval_key(self.as_of)}" if self.as_of else ""
                stage = _MADE_BY.get(table)
                raise NoData(f"There are no {table} yet{until}.", f"Run `controltower {stage}` first." if stage else "")
            parts = list(self._manifest.loads(table)[newest].parts)
            self._create_view(table, f"SELECT * FROM {self._scan(parts)}")
        return self._backend.table(table)

    def of(self, table: str, column: str, values: Collection[str], columns: Sequence[str]) -> pa.Table:
        """The rows of a version table whose `column` is one of these values, as of this reading's moment.

        The same as filtering `table(table)`, only that it looks for the last versions of these keys alone, and that
        any id of a person finds the person's rows: they come with the id that was asked for.
        """
        contract = CONTRACT[table]
        key = quoted(contract.key[0])
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE _wanted AS SELECT DISTINCT unnest($1::VARCHAR[]) AS value", [list(values)]
        )
        persons = column == "customer_id" and self.has_persons
        if persons:
            self._connection.execute(people.WANTED)
        ids = "_ids" if persons else "_wanted"
        wanted = f"{quoted(column)} IN (SELECT value FROM {ids})"
        theirs = wanted if column == contract.key[0] else f"{key} IN (SELECT {key} FROM ({{rows}}) WHERE {wanted})"
        query = f"SELECT * FROM ({self._contract_query(contract, theirs)}) WHERE {wanted}"
        if persons:
            query = people.as_asked(people.by_person(contract, query))
        with bounded():
            chosen = ", ".join(map(quoted, columns))
            found: pa.Table = self._connection.sql(f"SELECT {chosen} FROM ({query})").to_arrow_table()
        return found

    def rows_of(self, table: str, intervals: Collection[str], happened: str | None) -> pa.RecordBatchReader:
        """All rows of some intervals, by the date of the column `happened` and in the order of their keys."""
        loads = self._manifest.loads(table)
        parts = [part for interval in sorted(intervals) if interval in loads for part in loads[interval].parts]
        day = f"CAST({quoted(happened)} AS DATE), " if happened else ""
        query = f"SELECT * FROM {self._scan(parts)} ORDER BY {day}file_index, file_row_number"
        return self._connection.sql(query).to_arrow_reader(250_000)

    @cached_property
    def has_persons(self) -> bool:
        """Whether a customer id belongs to another person as of this moment; makes `_persons`."""
        parts = [p for p in self._manifest.parts("identity") if p.rows]
        rows = f"SELECT * FROM {self._scan(parts)} WHERE {people.then(self.as_of)}" if parts else people.NOBODY
        with bounded():
            self._connection.execute(f"CREATE TEMP TABLE _persons AS SELECT customer_id, person_id FROM ({rows})")
        return bool(self.execute("SELECT 1 FROM _persons LIMIT 1"))

    @cached_property
    def has_spans(self) -> bool:
        """Whether anonymous events belong to somebody; makes `_spans`."""
        queries = {t: people.of_visitors(self._contract_query(CONTRACT[t])) for t in ("events", "identities")}
        anonymous = f"SELECT 1 FROM ({queries['events']}) WHERE customer_id IS NULL LIMIT 1"
        if not self.has_persons and not self.execute(anonymous):
            return False
        shop = load_shop(self._settings)
        keys = None
        if self.execute(f"SELECT 1 FROM ({people.keyed(queries['identities'])}) LIMIT 1"):
            files = [[str(self._root / p.file) for p in self._manifest.parts(t)] for t in ("customers", "identities")]
            keys = people.keys_as_of(files[0], files[1], shop.country, self.as_of)
        with bounded():
            self._connection.execute(
                people.spans(queries["events"], queries["identities"], keys, shop.identity.visitor_days)
            )
        return self.has_persons or bool(self.execute("SELECT 1 FROM _spans LIMIT 1"))

    def arrow(self, expr: ir.Table) -> pa.Table:
        """The expression's rows."""
        with bounded():
            return self._backend.to_pyarrow(expr)

    def batches(self, expr: ir.Table) -> Iterator[pa.RecordBatch]:
        """The expression's rows, some at a time: for results that are larger than what is computed."""
        with bounded():
            self._backend.create_view("_batches", expr, overwrite=True)
            yield from self._connection.sql("SELECT * FROM _batches").to_arrow_reader(BATCH)

    def frame(self, expr: ir.Table) -> pd.DataFrame:
        """The expression's rows as a data frame; money comes as Decimal objects, so cast it in the expression."""
        with bounded():
            return self._backend.to_pandas(expr)

    def _contract_query(self, contract: Table, among: str = "true") -> str:
        """The last version of each key; `among` limits the keys, and may ask for all their `{rows}`."""
        columns = ", ".join(quoted(c.name) for c in contract.columns)
        parts = [p for p in self._manifest.parts(contract.name) if p.rows]
        if not parts:
            typed = (f"CAST(NULL AS {_DUCKDB[f.type]}) AS {quoted(f.name)}" for f in contract.schema)
            return f"SELECT {', '.join(typed)} WHERE false"
        rows = f"FROM {self._scan(parts)} WHERE {self._known(contract)}"
        query = f"SELECT {columns} {rows} AND {among.format(rows=f'SELECT * {rows}')}"
        if contract.kind == "version":
            # parts come in the order of their loads, so the file's place in the list is the load's age
            query += (
                f" QUALIFY row_number() OVER (PARTITION BY {', '.join(map(quoted, contract.key))}"
                f" ORDER BY {quoted(contract.known)} DESC, file_index DESC, file_row_number DESC) = 1"
            )
        return query

    def _known(self, contract: Table) -> str:
        if self.as_of is None:
            return "true"
        return f"{quoted(contract.known)} <= TIMESTAMPTZ '{self.as_of.astimezone(UTC).isoformat()}'"

    def _scan(self, parts: list[Part]) -> str:
        self._check_newest(parts)
        return f"read_parquet({listed([str(self._root / p.file) for p in parts])})"

    def _check_newest(self, parts: list[Part]) -> None:
        """The files of one load are of one schema version, so the newest file tells whether we can read them."""
        metadata = pq.read_schema(self._root / parts[-1].file).metadata or {}
        manifests.check_schema(int(metadata.get(b"controltower.schema", b"0")), parts[-1].file)

    def _newest(self, table: str) -> str | None:
        limit = interval_key(self.as_of) if self.as_of else "~"
        return max((i for i in self._manifest.loads(table) if i <= limit), default=None)

    def _create_view(self, name: str, query: str) -> None:
        with bounded():
            self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {query}")
        self._views.add(name)


class _PartWriter:
    """Writes pieces to one part per run of equal dates."""

    def __init__(self, root: Path, table: str, schema: pa.Schema) -> None:
        self._root, self._table, self._schema = root, table, schema
        self._open: pq.ParquetWriter | None = None
        self._file, self._rows = "", 0
        self._date: str | None = None
        self._parts: list[Part] = []

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(self._parts)

    def __enter__(self) -> _PartWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._open is None and kind is None and not self._parts:
            self._start(None)  # an empty table still tells its columns
        self._finish()

    def write(self, date: str | None, piece: pa.Table) -> None:
        if self._open is None or date != self._date:
            self._finish()
            self._start(date)
        assert self._open is not None
        self._open.write_table(piece)
        self._rows += piece.num_rows

    def _start(self, date: str | None) -> None:
        self._file, self._date, self._rows = f"{self._table}/part-{uuid.uuid4().hex}.parquet", date, 0
        self._sink = (self._root / self._file).open("xb")
        self._open = pq.ParquetWriter(self._sink, self._schema)

    def _finish(self) -> None:
        if self._open is not None:
            self._open.close()
            os.fsync(self._sink.fileno())
            self._sink.close()
            self._open = None
            self._parts.append(Part(self._file, self._date, self._rows))


def _by_date(rows: pa.Table, happened: str | None) -> Iterator[tuple[str | None, pa.Table]]:
    """Runs of rows of one UTC date, in the order they come."""
    if happened is None or not rows.num_rows:
        if rows.num_rows:
            yield None, rows
        return
    dates = pc.run_end_encode(rows[happened].cast(pa.date32()).combine_chunks())
    start = 0
    for end, date in zip(dates.run_ends.to_pylist(), dates.values.to_pylist(), strict=True):
        yield date.isoformat() if date else None, rows.slice(start, end - start)
        start = end


def _schema(table: str, given: pa.Schema) -> pa.Schema:
    """The schema that a table's files have: the contract's, else as given; with table and schema version."""
    if table in CONTRACT:
        return CONTRACT[table].schema
    return given.with_metadata({"controltower.table": table, "controltower.schema": str(SCHEMA_VERSION)})
