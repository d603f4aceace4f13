"""What the lake holds of a person, in every version of every table, and its end: the parts without their rows.

Parts are immutable, so those that hold rows of the person are written anew, and every version that is kept names the
new ones. The old files stay for readers that began before, until a commit after the grace deletes them; `at_once`
deletes them now.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data import quarantine
from controltower.data.contract import CONTRACT
from controltower.data.erased import OWNER, PARENTS, PASSED_ON, Erased
from controltower.data.lake import Lake
from controltower.data.manifest import Manifest, Part
from controltower.data.parts import begun, finished
from controltower.data.scratch import bounded, bounds, scratch
from controltower.data.sql import listed, quoted
from controltower.errors import BadSource, ControlTowerError

_ROUNDS = 5  # a table may be published anew while its parts are written
_LINKED = ("customer_id", "customer", "person_id", "person", "one", "other", "gone")  # columns of the identity tables
# What of the lake names no person. A table that neither stands here nor has an owner is refused: none is forgotten.
NOBODYS = frozenset(
    "products listings collections collection_products costs exchange_rates external replayed identity_read".split()
)
_KINDS = ("customers", "visitors", "orders", "messages", "devices")


@dataclass(frozen=True)
class Traces:
    """By what a person is found: ids, and the addresses (e-mail, telephone, push token) that were theirs, as given.

    `visitors` were theirs alone, `orders` and `devices` are theirs by now; `shared` are addresses that others
    have, too.
    """

    customers: frozenset[str]
    visitors: frozenset[str] = frozenset()
    orders: frozenset[str] = frozenset()
    messages: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()  # telephones and push tokens


NO_TRACES = Traces(frozenset())


class Persons:
    """Finds and erases persons in a lake."""

    def __init__(self, lake: Lake) -> None:
        self._lake, self._store = lake, lake.store

    def find(self, customers: Collection[str]) -> Traces:
        """All traces of these customers, also in files that no reader sees any more."""
        with self._connected(Traces(frozenset(customers))) as con:
            mine = "SELECT id FROM _customers"

            def ids(table: str, query: str) -> frozenset[str]:
                files = self._files(table)
                if not files:
                    return frozenset()
                found = con.execute(query.format(rows=_scan(files))).fetchall()
                return frozenset(str(row[0]) for row in found if row[0] is not None)

            alone = (
                "SELECT visitor_id FROM {rows} WHERE visitor_id IS NOT NULL GROUP BY visitor_id"
                f" HAVING bool_and(customer_id IS NULL OR customer_id IN ({mine})) AND count(customer_id) > 0"
            )
            also = f"SELECT visitor_id FROM {{rows}} WHERE customer_id IS NOT NULL AND customer_id NOT IN ({mine})"
            visitors = {table: ids(table, alone) for table in ("events", "identities")}
            visitors["events"] -= ids("identities", also)
            visitors["identities"] -= ids("events", also)
            theirs = f"FROM {{rows}} WHERE customer_id IN ({mine})"
            emails = ids("customers", f"SELECT DISTINCT email {theirs}")
            same = ", ".join("?" for _ in emails) or "NULL"
            shared = frozenset[str]()
            # as it is now: who was erased within the grace is still in files that nobody reads any more
            if emails and (files := self._local(self._lake.manifest().parts("customers"))):
                query = f"SELECT DISTINCT lower(trim(email)) FROM {_scan(files)} WHERE customer_id NOT IN ({mine})"
                low = sorted(email.strip().lower() for email in emails)
                rows = con.execute(f"{query} AND lower(trim(email)) IN ({same})", low).fetchall()
                taken = {str(row[0]) for row in rows}
                shared = frozenset(email for email in emails if email.strip().lower() in taken)
            return Traces(
                customers=frozenset(customers),
                visitors=frozenset().union(*visitors.values()),
                orders=self._owned(con, "orders"),
                messages=ids("messages_history", f"SELECT DISTINCT message_id {theirs}"),
                devices=self._owned(con, "devices"),
                emails=emails,
                shared=shared,
                others=ids("customers", f"SELECT DISTINCT phone {theirs}")
                | ids("devices", f"SELECT DISTINCT push_token {theirs}"),
            )

    def _owned(self, con: duckdb.DuckDBPyConnection, table: str) -> frozenset[str]:
        """What is theirs by its newest version, as readers see it; of what they don't see, by all there still are."""
        key, known, found = PASSED_ON[table], CONTRACT[table].known, set()
        now = self._local(self._lake.manifest().parts(table))
        seen = f"SELECT {key} FROM {_scan(now)}" if now else "SELECT NULL WHERE false"
        if now:
            newest = (
                f"row_number() OVER (PARTITION BY {key} ORDER BY {known} DESC, file_index DESC, file_row_number DESC)"
            )
            among = f"SELECT {key} FROM {_scan(now)} WHERE customer_id IN (SELECT id FROM _customers)"
            last = f"SELECT {key}, customer_id FROM {_scan(now)} WHERE {key} IN ({among}) QUALIFY {newest} = 1"
            found |= set(con.execute(f"SELECT {key} FROM ({last}) WHERE customer_id IN (FROM _customers)").fetchall())
        if files := self._files(table):
            found |= set(con.execute(
                f"SELECT {key} FROM {_scan(files)} WHERE {key} NOT IN ({seen})"
                f" GROUP BY {key} HAVING bool_and(coalesce(customer_id IN (FROM _customers), false))"
            ).fetchall())  # fmt: skip
        return frozenset(str(id) for (id,) in found)

    def rows(self, traces: Traces) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Every row that is theirs, by table: all versions, and what is in quarantine. No earlier owner of a device or
        an order.

        Those that only an earlier version of the lake has, too.
        """
        manifest = self._lake.manifest()
        with self._connected(traces) as con:
            for table in sorted(manifest.tables):
                files = self._local(manifest.parts(table) + manifest.earlier_parts(table))
                if files and (whose := _whose(table, _names(files))):
                    whose += " AND customer_id IN (SELECT id FROM _customers)" if table in PASSED_ON else ""
                    found = con.sql(f"SELECT DISTINCT * FROM {_scan(files)} WHERE {whose}").to_arrow_table().to_pylist()
                    if found:
                        yield table, found

    def erase(self, traces: Traces) -> Counter[str]:
        """Rewrite the parts with rows of theirs, all in one commit. Returns how many rows went, by table."""
        gone: Counter[str] = Counter()
        for _ in range(_ROUNDS):
            manifest = self._lake.manifest()
            with self._connected(traces) as con:
                holding = self._holding(con, manifest)
                swaps = {
                    part.file: self._without(con, table, part, rows)
                    for table, parts in holding.items()
                    for part, rows in parts
                }
            if not swaps:
                break
            swapped = self._lake.swap(swaps)
            gone.update({t: sum(n for part, n in parts if part.file in swapped) for t, parts in holding.items()})
        return +gone

    def without_erased(self, tables: Mapping[str, Sequence[Part]], erased: Erased) -> dict[str, tuple[Part, ...]]:
        """Parts that nobody sees yet; those with rows of somebody erased are written anew."""
        files = [part.file for parts in tables.values() for part in parts]
        lacking = set(self._store.lacking(files))  # the commit tells
        return {
            table: tuple(
                part if part.file in lacking or not part.rows else self._unless_erased(table, part, erased)
                for part in parts
            )
            for table, parts in tables.items()
        }

    def _unless_erased(self, table: str, part: Part, erased: Erased) -> Part:
        (file,) = self._local([part])
        names = _names([file])
        if _whose(table, names) is None or "customer_id" not in names or not erased.customers:
            return part
        counted = f"SELECT customer_id, count(*) FROM {_scan([file])} WHERE customer_id IS NOT NULL GROUP BY ALL"
        visits = (
            "SELECT visitor_id, count(*), max(as_of) AT TIME ZONE 'UTC'"
            f" FROM {_scan([file])} WHERE visitor_id IS NOT NULL GROUP BY ALL"
        )
        with self._connected(NO_TRACES) as con:
            rows = dict(con.execute(counted).fetchall())
            seen = con.execute(visits).fetchall() if {"visitor_id", "as_of"} <= names else []
        gone = erased.among(rows)
        visitors = erased.visits({visitor: at.replace(tzinfo=UTC) for visitor, _, at in seen})
        if not gone and not visitors:
            return part
        count = sum(rows[one] for one in gone) + sum(n for visitor, n, _ in seen if visitor in visitors)
        with self._connected(Traces(frozenset(gone), frozenset(visitors))) as con:
            fresh = self._without(con, table, part, count)
        self._store.remove([part.file])
        return fresh

    def left_over(self, traces: Traces, *, delete: bool) -> int:
        """Files with rows of theirs that no reader sees any more; `delete`: now. Returns how many there are still."""
        manifest, left = self._lake.manifest(), 0
        with self._connected(traces) as con:
            for table in manifest.tables:
                for name, file in self._unnamed(table, manifest):
                    whose = _whose(table, _names([file]))
                    if whose and con.execute(f"SELECT 1 FROM {_scan([file])} WHERE {whose} LIMIT 1").fetchall():
                        left += not delete
                        if delete:
                            self._store.remove([name])
        return left

    def _holding(self, con: duckdb.DuckDBPyConnection, manifest: Manifest) -> dict[str, list[tuple[Part, int]]]:
        """The parts with rows of theirs, and how many, by table: of all versions that are kept."""
        found: dict[str, list[tuple[Part, int]]] = defaultdict(list)
        for table in manifest.tables:
            some = [part for part in manifest.parts(table) + manifest.earlier_parts(table) if part.rows]
            files = self._local(some)
            parts = dict(zip(files, some, strict=True))
            whose = _whose(table, _names(files)) if files else None
            if whose:
                query = f"SELECT filename, count(*) FROM {_scan(files, named=True)} WHERE {whose} GROUP BY filename"
                found[table] = [(parts[file], rows) for file, rows in con.execute(query).fetchall()]
        return {table: parts for table, parts in found.items() if parts}

    def _without(self, con: duckdb.DuckDBPyConnection, table: str, part: Part, rows: int) -> Part:
        """The part without their rows, which nobody sees yet; its others are in their order.

        Its name tells whose place it takes, unless rows of an earlier owner go with theirs: features of others change.
        """
        (file,) = self._local([part])
        schema, whose = pq.read_schema(file), _whose(table, _names([file]))
        others = (
            table in PASSED_ON
            and con.execute(
                f"SELECT 1 FROM {_scan([file])} WHERE {whose}"
                " AND coalesce(customer_id NOT IN (SELECT id FROM _customers), true) LIMIT 1"
            ).fetchall()
        )
        kept = con.sql(
            f"SELECT {', '.join(map(quoted, schema.names))} FROM {_scan([file], numbered=True)}"
            f" WHERE NOT coalesce({whose}, false) ORDER BY file_row_number"
        ).to_arrow_reader(250_000)
        fresh, sink = begun(self._store, table, instead_of=None if others else part.file)
        with pq.ParquetWriter(sink, schema) as writer:
            for batch in kept:
                writer.write_table(pa.table(batch).cast(schema))
        finished(self._store, fresh, sink)
        return Part(fresh, part.date, part.rows - rows)

    def _files(self, table: str) -> list[str]:
        manifest = self._lake.manifest()
        named = self._local(manifest.parts(table) + manifest.earlier_parts(table))
        return named + [file for _, file in self._unnamed(table, manifest)]

    def _local(self, parts: Iterable[Part]) -> list[str]:
        return self._store.local(part.file for part in parts if part.rows)

    def _unnamed(self, table: str, manifest: Manifest) -> list[tuple[str, str]]:
        """Whole files of a table that no kept version names, and their paths: replaced ones, and those that are yet to
        be published.
        """
        found = []
        for name in self._store.others(table, manifest.kept_files()):
            try:
                (file,) = self._store.local([name])
                found += [(name, file)] if pq.read_metadata(file).num_rows else []
            except (OSError, pa.ArrowException, BadSource):
                continue  # still being written, or removed meanwhile
        return found

    @contextmanager
    def _connected(self, traces: Traces) -> Iterator[duckdb.DuckDBPyConnection]:
        settings = self._lake.settings
        with scratch(settings) as folder, duckdb.connect(config=bounds(settings, folder)) as con, bounded():
            con.execute("SET TimeZone = 'UTC'")
            con.execute("SET enable_progress_bar = false")
            for kind in _KINDS:
                con.execute(
                    f"CREATE TEMP TABLE _{kind} AS SELECT unnest($1::VARCHAR[]) AS id", [sorted(getattr(traces, kind))]
                )
            yield con


def _names(files: Iterable[str]) -> set[str]:
    return {name for file in files for name in pq.read_schema(file).names}


def _whose(table: str, names: Collection[str]) -> str | None:
    """SQL of whether a row of a table with these columns is theirs; None: it names no persons."""
    if table in NOBODYS:
        return None
    if table == quarantine.TABLE:
        return _quarantined(names)
    owners: tuple[str, ...] = ("customer_id",)
    if table in OWNER:
        owners = (OWNER[table],)
    elif table.startswith("identity"):
        owners = _LINKED
    told = [f"{name} IN (SELECT id FROM _customers)" for name in owners if name in names]
    if {"visitor_id", "customer_id"} <= set(names) and not table.startswith("identity"):
        told.append("(customer_id IS NULL AND visitor_id IN (SELECT id FROM _visitors))")
    if table in PARENTS:
        parent, key = PARENTS[table]
        told.append(f"{key} IN (SELECT id FROM _{'orders' if parent == 'orders' else 'messages'})")
    if passed := PASSED_ON.get(table):  # without the last owner's version, an earlier owner's would be the newest
        told.append(f"{passed} IN (SELECT id FROM _{table})")
    if not told:
        raise ControlTowerError(f"Whose the rows of {table} are isn't known.", "Let data/persons.py tell it.")
    return f"({' OR '.join(told)})"


_KEYED: Mapping[str, str] = {
    "customers": "customers", "consents": "customers", "devices": "devices", "orders": "orders",
    "order_lines": "orders", "messages_history": "messages",
}  # fmt: skip


def _quarantined(names: Collection[str]) -> str:
    """A bad row is theirs by its key, or by what it gave where that is kept."""
    told = [
        f"(\"table\" = '{table}' AND (key IN (SELECT id FROM _{kind})"
        f" OR EXISTS (SELECT 1 FROM _{kind} WHERE starts_with(key, id || ' '))))"
        for table, kind in _KEYED.items()
    ]
    if "row" in names:
        given = (("customer_id", "customers"), ("issued_to", "customers"), ("order_id", "orders"),
                 ("message_id", "messages"), ("device_id", "devices"), ("visitor_id", "visitors"))  # fmt: skip
        told += [f"json_extract_string(row, '$.{column}') IN (SELECT id FROM _{kind})" for column, kind in given]
    return f"({' OR '.join(told)})"


def _scan(files: Sequence[str], *, named: bool = False, numbered: bool = False) -> str:
    options = "union_by_name = true" + (", filename = true" if named else "")
    options += ", file_row_number = true" if numbered else ""
    return f"read_parquet({listed(list(files))}, {options})"
