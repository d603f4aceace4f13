"""The gate: every row that enters the lake is checked here against the contract, vectorised in DuckDB.

A table's rows become a table `checked_<table>` of the connection: its columns as read, `_rule` (0 good, -1 outside the
interval, -2 of somebody who was erased, else the number of the first rule that the row breaks), `_file`, `_line`, and
of a row that breaks a rule the raw `_value` that broke it and the raw `_row`, a JSON object of what it gave.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import duckdb
import pyarrow as pa

from controltower.data.anomalies import Load
from controltower.data.contract import CONTRACT, Table, Type
from controltower.data.erased import ERASED, Erased, mark
from controltower.data.manifest import Manifest, Part
from controltower.data.parts import around
from controltower.data.rules import EPOCH, KNOWN_WHEN, Rule, cleaned, moment, odd_keys, read, rules, within
from controltower.data.sql import listed, literal, quoted, raw
from controltower.data.staging import Group
from controltower.data.stores import Store

SKEW = timedelta(minutes=5)  # how far clocks may be apart
EXTRAS = "_extras"  # in a row as it came: a JSON object of the columns that the contract doesn't know

_PLACE = "(_file << 40) + CAST(_line AS BIGINT)"  # the rows' order in their files; that of the table may be another
_KEYS_AT_A_TIME = 8_000_000  # what the memory of a gigabyte holds of them beside the rows
_ORDERS = "_orders"  # temporary table: the orders that lines may point at, with their times


@dataclass(frozen=True)
class Interval:
    """The rows to take: known in [start, end). `key` names it in the lake; start None: all of history until end.

    `known_at` says when a row counts as known that doesn't tell it: when it happened, or at its file's time.
    """

    key: str
    start: datetime | None
    end: datetime
    zone: str
    known_at: Literal["happened", "file"]
    now: datetime


@dataclass
class Checked:
    """What the gate found in a table, in rows. read = loaded + duplicates + quarantined + outside + erased."""

    table: Table
    files: list[str]
    read: int = 0
    loaded: int = 0
    duplicates: int = 0
    outside: int = 0
    erased: int = 0  # of people who were erased: not loaded, and kept nowhere
    untimed: int = 0  # loaded rows that don't say when they were known
    unkeyed: int = 0  # and with a key that is a word for none, as NULL
    broken: dict[int, int] = field(default_factory=dict)  # rule number -> rows
    rules: list[Rule] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    @property
    def quarantined(self) -> int:
        return sum(self.broken.values()) + sum(len(g.bad_lines) for g in self.groups)


class Gate:
    """Checks the tables of one load, on one DuckDB connection, against each other and against the lake."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        store: Store,
        manifest: Manifest,
        interval: Interval,
        erased: Erased,
    ) -> None:
        self.con, self.interval, self._erased = con, interval, erased
        self._store, self._manifest = store, manifest
        self._checked: set[str] = set()
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET enable_progress_bar = false")

    def check(self, table: str, groups: list[Group]) -> Checked:
        """Read a table's rows, tell good from bad, and find duplicates. Orders go before their lines."""
        contract = CONTRACT[table]
        result = Checked(contract, [f.name for g in groups for f in g.files], groups=groups)
        result.rules = rules(contract, self.interval.end + SKEW)
        if table == "order_lines":
            self._gather_orders()
        offset, selects = 0, []
        for group in groups:
            selects.append(self._select(contract, group, result.rules, offset))
            offset += len(group.files)
        self.con.execute(f"CREATE TABLE checked_{table} AS {' UNION ALL '.join(selects)}")
        mark(self.con, contract, self._checked, self._erased)
        self._checked.add(table)
        counts = dict(self.con.execute(f"SELECT _rule, count(*) FROM checked_{table} GROUP BY _rule").fetchall())
        result.read = sum(counts.values()) + sum(len(g.bad_lines) for g in groups)
        result.outside = counts.pop(-1, 0)
        result.erased = counts.pop(ERASED, 0)
        good = counts.pop(0, 0)
        result.broken = counts
        result.duplicates = self._find_duplicates(contract)
        result.loaded = good - result.duplicates
        found = f"SELECT count_if(_untimed), count_if(_unkeyed) FROM ({self._good(contract, '_untimed, _unkeyed')})"
        result.untimed, result.unkeyed = self.con.execute(found).fetchall()[0]
        return result

    def measure(self, table: str) -> Load:
        """What this load brought of a table that was checked, to be compared with other loads."""
        contract = CONTRACT[table]
        counted = [c.name for c in contract.columns if c.name not in contract.required]
        newest = quoted(contract.happened or contract.known)
        keys = f"count(DISTINCT hash({', '.join(map(quoted, contract.key))}))" if contract.kind == "version" else "NULL"
        fills = ", ".join(f"count({quoted(name)}) FILTER (_rule = 0)" for name in counted)
        found = self.con.execute(
            f"SELECT count(*) FILTER (_rule = 0), max({newest}) FILTER (_rule = 0), {keys}, {fills}"
            f" FROM checked_{table}"
        ).fetchall()[0]
        filled = {name: n for name, n in zip(counted, found[3:], strict=True) if n}
        return Load(
            self.interval.start, min(self.interval.end, self.interval.now), found[0], found[2], filled, found[1]
        )

    def known_since(self, table: str) -> datetime | None:
        """When the oldest of the rows to load was known."""
        known = f"min({quoted(CONTRACT[table].known)})"
        found: datetime | None = self.con.execute(self._good(CONTRACT[table], known)).fetchall()[0][0]
        return found

    def rows(self, table: str) -> pa.RecordBatchReader:
        """The rows to load, in the contract's columns, by date."""
        contract = CONTRACT[table]
        columns = ", ".join(quoted(c.name) for c in contract.columns)
        order = f"CAST({quoted(contract.happened)} AS DATE), {_PLACE}" if contract.happened else _PLACE
        return self.con.sql(f"{self._good(contract, columns)} ORDER BY {order}").to_arrow_reader(250_000)

    def _good(self, contract: Table, columns: str) -> str:
        name = contract.name
        return (
            f"SELECT {columns} FROM checked_{name} WHERE _rule = 0 AND rowid NOT IN (SELECT rid FROM duplicates_{name})"
        )

    def _select(self, contract: Table, group: Group, checks: list[Rule], offset: int) -> str:
        """SQL of a group's rows: raw values -> values read -> when known, and the first rule broken."""
        kinds = {c.name: group.raw.get(c.name, ("NULL", "VARCHAR")) for c in contract.columns}
        raws = ", ".join(f"{cleaned(*kinds[c.name])} AS {raw(c.name)}" for c in contract.columns)
        reads = ", ".join(
            f"{read(c, kinds[c.name][1], self.interval.zone)} AS {quoted(c.name)}" for c in contract.columns
        )
        told = ", ".join(f"{within(c)} AS {quoted(c.name)}" for c in contract.columns)
        given = ", ".join(f"CAST({raw(name)} AS VARCHAR)" for name in group.raw)
        file, line = group.place
        not_blank = f"coalesce({given}) IS NOT NULL" if group.blank_rows else "true"
        branches = " ".join(f"WHEN {rule.broken} THEN {n}" for n, rule in enumerate(checks, start=1))
        values = " ".join(
            f"WHEN {n} THEN CAST({raw(rule.column)} AS VARCHAR)" for n, rule in enumerate(checks, start=1)
        )
        columns = ", ".join(self._column(contract, c.name) for c in contract.columns)
        keys = [c.name for c in contract.columns if c.type is Type.KEY and c.name in group.raw]
        unkeyed = " OR ".join(f"({quoted(name)} IS NULL AND {raw(name)} IS NOT NULL)" for name in keys) or "false"
        return f"""
            SELECT {columns}, {quoted(contract.known)} IS NULL AS _untimed, {unkeyed} AS _unkeyed, _rule, _file, _line,
                   CASE WHEN _rule > 0 THEN CASE _rule {values} END END AS _value,
                   CASE WHEN _rule > 0 THEN {self._row(contract, group)} END AS _row
            FROM (SELECT *, CASE WHEN {self._outside(contract)} THEN -1 {branches} ELSE 0 END AS _rule
                  FROM (SELECT *, {self._known(contract, group, offset)} AS _known, {odd_keys(contract)} AS _odd_keys
                        FROM (SELECT * REPLACE ({told}), {moment(self.interval.end)} AS _end
                              FROM (SELECT *, {reads}
                                    FROM (SELECT {raws}, CAST({group.extras} AS VARCHAR) AS _extras,
                                                 CAST({file} AS BIGINT) + {offset} AS _file, {line} AS _line
                                          FROM {group.source})
                                    WHERE {not_blank}))
                        {self._with_orders(contract)}))"""

    def _row(self, contract: Table, group: Group) -> str:
        """The row as it came, to be mended; one that doesn't say when it was known tells its file's time."""
        given = {name: f"CAST({raw(name)} AS VARCHAR)" for name in group.raw}
        if self.interval.known_at == "file" and contract.kind != "log":
            given[contract.known] = f"coalesce(CAST({raw(contract.known)} AS VARCHAR), CAST(_known AS VARCHAR))"
        pairs = [f"{literal(name)}, {value}" for name, value in given.items()] + [f"'{EXTRAS}', _extras"]
        return f"CAST(json_merge_patch('{{}}', json_object({', '.join(pairs)})) AS VARCHAR)"

    def _column(self, contract: Table, name: str) -> str:
        """A column as it is stored: the gate fills in when the row was known, and that an order is placed."""
        if name == contract.known and contract.kind != "log":
            return f"_known AS {quoted(name)}"
        if name == "attributes":
            return "coalesce(CAST(json_merge_patch(_extras, attributes) AS VARCHAR), _extras, attributes) AS attributes"
        if contract.name == "orders" and name == "status":
            return "coalesce(status, 'placed') AS status"
        return quoted(name)

    def _known(self, contract: Table, group: Group, offset: int) -> str:
        known = quoted(contract.known)
        if contract.kind == "log":
            return known
        if self.interval.known_at == "happened":
            when = KNOWN_WHEN.get(contract.name, EPOCH)
        else:
            times = [datetime.fromtimestamp(f.stat().st_mtime, UTC) for f in group.files]
            when = f"[{', '.join(map(moment, times))}][_file - {offset} + 1]"
        return f"CASE WHEN {raw(contract.known)} IS NULL THEN {when} ELSE {known} END"

    def _outside(self, contract: Table) -> str:
        """Known later (unless later than it can be: that breaks a rule), or earlier. A log's late rows are taken in."""
        latest = max(self.interval.end, self.interval.now) + SKEW
        outside = f"(_known >= {moment(self.interval.end)} AND _known <= {moment(latest)})"
        if self.interval.known_at == "file" and contract.kind != "log":
            outside += f" OR (_known > {moment(latest)} AND {raw(contract.known)} IS NULL)"
        if self.interval.start and contract.kind != "log":
            outside += f" OR _known < {moment(self.interval.start)}"
        return outside

    def _with_orders(self, contract: Table) -> str:
        return f"LEFT JOIN {_ORDERS} ON order_id = _order_id" if contract.name == "order_lines" else ""

    def _gather_orders(self) -> None:
        """Orders of this load, whenever known, and those of the lake."""
        sources = []
        if "orders" in self._checked:
            sources.append("SELECT order_id, ordered_at FROM checked_orders WHERE _rule <= 0")
        files = self._files("orders")
        if files:
            sources.append(f"SELECT order_id, ordered_at FROM {files}")
        orders = " UNION ALL ".join(sources) or f"SELECT '' AS order_id, {EPOCH} AS ordered_at WHERE false"
        self.con.execute(
            f"CREATE TEMP TABLE {_ORDERS} AS"
            f" SELECT order_id AS _order_id, min(ordered_at) AS _ordered_at FROM ({orders}) GROUP BY order_id"
        )

    def _find_duplicates(self, contract: Table) -> int:
        """Fill `duplicates_<table>` with rows that are there already, in this load or in the lake's other intervals.

        Events and logs: by key. Versions: an exact repeat, or the same as the version before it.
        """
        name, keys = contract.name, ", ".join(map(quoted, contract.key))
        content = ", ".join(quoted(c.name) for c in contract.columns if c.name != contract.known)
        same = "0" if contract.kind != "version" else f"hash({content})"
        shape = f"{keys}, {quoted(contract.known)} AS _at, hash({keys}) AS _key, {same} AS _same"
        self.con.execute(
            f"CREATE TABLE candidates AS SELECT {shape}, {_PLACE} AS _place, rowid AS rid"
            f" FROM checked_{name} WHERE _rule = 0"
        )
        files = self._files(name)
        if files:
            self.con.execute(
                f"INSERT INTO candidates SELECT {shape},"
                f" (file_index::BIGINT << 32) + file_row_number - (1::BIGINT << 60) AS _place, -1 AS rid"  # older
                f" FROM {files} WHERE hash({keys}) IN (SELECT _key FROM candidates)"
            )
        if contract.kind == "version":
            again = (
                "row_number() OVER (PARTITION BY _key, _at, _same ORDER BY _place) > 1"
                " OR coalesce(_same = lag(_same) OVER (PARTITION BY _key ORDER BY _at, _place), false)"
            )
        else:
            again = f"row_number() OVER (PARTITION BY {keys} ORDER BY rid >= 0, _at, _place) > 1"
        ((rows,),) = self.con.execute("SELECT count(*) FROM candidates").fetchall()
        self.con.execute(f"CREATE TABLE duplicates_{name} (rid BIGINT)")
        for slice_ in range(slices := rows // _KEYS_AT_A_TIME + 1):
            some_of = f"FROM candidates WHERE _key % {slices} = {slice_}"
            self.con.execute(
                f"CREATE OR REPLACE TEMP TABLE repeated AS SELECT _key {some_of} GROUP BY _key HAVING count(*) > 1"
            )
            self.con.execute(f"""
                INSERT INTO duplicates_{name} SELECT rid FROM (
                    SELECT rid, {again} AS again {some_of} AND _key IN (FROM repeated)
                ) WHERE again AND rid >= 0""")
        self.con.execute("DROP TABLE candidates")
        return int(self.con.execute(f"SELECT count(*) FROM duplicates_{name}").fetchall()[0][0])

    def _files(self, table: str) -> str:
        """What the lake will hold of a table besides this load, to select from; empty where that is nothing.

        Of events only the dates within the late window.
        """
        replaced = self.interval.key if table in self._checked else None
        parts = [p for p in self._manifest.parts(table, without=replaced) if p.rows]
        if CONTRACT[table].kind == "event":
            parts = self._late(CONTRACT[table], parts)
        return f"read_parquet({listed(self._store.local(p.file for p in parts))})" if parts else ""

    def _late(self, contract: Table, parts: list[Part]) -> list[Part]:
        happened = quoted(str(contract.happened))
        span = f"SELECT min({happened}), max({happened}) FROM checked_{contract.name} WHERE _rule = 0"
        low, high = self.con.execute(span).fetchall()[0]
        if low is None:
            return []
        return around(parts, low.date(), high.date())
