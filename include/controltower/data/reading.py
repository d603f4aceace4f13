"""Reading the lake with Ibis on DuckDB: one version of all tables, as of a moment."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data import manifest as manifests
from controltower.data.contract import CONTRACT, SCHEMA_VERSION, Table
from controltower.data.identity import people
from controltower.data.manifest import Load, Manifest, Part
from controltower.data.parts import around
from controltower.data.queries import Queries
from controltower.data.scratch import bounded
from controltower.data.sql import listed, quoted
from controltower.data.stores import Store
from controltower.errors import NoData
from controltower.settings import Settings, load_shop

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pandas as pd

BATCH = 100_000  # rows that are read at a time

_DUCKDB = {
    pa.string(): "VARCHAR", pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ", pa.date32(): "DATE", pa.bool_(): "BOOLEAN",
    pa.decimal128(18, 4): "DECIMAL(18,4)", pa.float64(): "DOUBLE", pa.int64(): "BIGINT",
}  # fmt: skip

_MADE_BY = {"features": "features", "scores": "score", "recommendations": "score", "profiles": "score"}


def interval_key(moment: datetime) -> str:
    """The key of a derived table's interval: its as_of moment, as 2026-06-15T00:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Reading(Queries):
    """A look at one version of the lake. Its expressions live as long as the `with` block that made it."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, settings: Settings, store: Store, manifest: Manifest,
        as_of: datetime | None,
    ) -> None:  # fmt: skip
        if as_of is not None and as_of.tzinfo is None:
            raise ValueError("as_of needs a time zone")
        super().__init__(connection)
        self.as_of = as_of
        self._settings = settings
        self._store = store
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
        return self.named(table)

    def query(self, table: str, among: str = "true") -> str:
        """The SQL of `table(table)`, of the keys that `among` limits it to (see `_contract_query`)."""
        query = self._contract_query(CONTRACT[table], among)
        if table == "events" and self.has_spans:
            return people.with_history(query)
        return people.by_person(CONTRACT[table], query) if self.has_persons else query

    def every_row(self, table: str) -> str:
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
        return self._store.local(part.file for part in load.parts if part.rows)

    def as_given(self, table: str) -> ir.Table:
        """The same, with the customer ids as the shop gave them."""
        view = f"given_{table}"
        if view not in self._views:
            self._create_view(view, self._contract_query(CONTRACT[table]))
        return self.named(view)

    def derived(self, table: str) -> ir.Table:
        """Features, scores, lists, profiles: the rows of the newest interval that is not later than this moment.

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
        return self.named(table)

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

    def only_of(self, table: str, interval: str, load: Load) -> pa.RecordBatchReader | None:
        """The rows of a load, by date, without those that are in another interval than its own; None: it has none.

        An event counts once within the late window, a row of a log for good. Versions may be there twice.
        """
        contract = CONTRACT.get(table)
        mine = [p for p in load.parts if p.rows]
        if contract is None or contract.kind == "version" or not mine:
            return None
        others = [p for p in self._manifest.parts(table, without=interval) if p.rows]
        if contract.kind == "event":
            dates = [date.fromisoformat(p.date) for p in mine if p.date]
            others = around(others, min(dates), max(dates))
        same = " AND ".join(f"mine.{key} IS NOT DISTINCT FROM others.{key}" for key in map(quoted, contract.key))
        query = f"FROM {self._scan(mine)} AS mine {{}} JOIN {self._scan(others)} AS others ON {same}" if others else ""
        if not others or not self.execute(f"SELECT 1 {query.format('SEMI')} LIMIT 1"):
            return None
        day = f"CAST(mine.{quoted(contract.happened)} AS DATE), " if contract.happened else ""
        query = f"SELECT mine.* {query.format('ANTI')} ORDER BY {day}mine.file_index, mine.file_row_number"
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
            files = [self._store.local(p.file for p in self._manifest.parts(t)) for t in ("customers", "identities")]
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

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The query's rows, some at a time: for results that are larger than what is computed."""
        with bounded():
            yield from self._connection.sql(query).to_arrow_reader(BATCH)

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
        files = self._store.local(p.file for p in parts)
        # the files of one load are of one schema version, so the newest file tells whether we can read them
        metadata = pq.read_schema(files[-1]).metadata or {}
        manifests.check_schema(int(metadata.get(b"controltower.schema", b"0")), parts[-1].file, SCHEMA_VERSION)
        return f"read_parquet({listed(files)})"

    def _newest(self, table: str) -> str | None:
        limit = interval_key(self.as_of) if self.as_of else "~"
        return max((i for i in self._manifest.loads(table) if i <= limit), default=None)

    def _create_view(self, name: str, query: str) -> None:
        with bounded():
            self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {query}")
        self._views.add(name)
