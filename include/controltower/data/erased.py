"""Who was erased: kept as keyed hashes only, and asked by the gate, so that no later load brings them back."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
import pyarrow as pa

from controltower.data.contract import Table
from controltower.data.sql import quoted

ERASED = -2  # `_rule` of a row of theirs
OWNER = {"coupons": "issued_to"}  # the column that names the customer, where it isn't customer_id
PASSED_ON = {"orders": "order_id", "devices": "device_id"}  # what a later version may give to somebody else
PARENTS = {"order_lines": ("orders", "order_id"), "message_events": ("messages_history", "message_id")}


@dataclass(frozen=True)
class Erased:
    """Hashes of customer ids, and of the visitors that were theirs alone: those only until they were erased."""

    key: bytes = field(repr=False)
    customers: frozenset[str] = frozenset()
    visitors: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def pseudonyms(self) -> frozenset[str]:
        """What they are called in the ledger."""
        return frozenset(map(_pseudonym, self.customers))

    def among(self, customers: Iterable[str]) -> list[str]:
        """Those of some customer ids that are erased; a million take two seconds, and nothing where nobody is."""
        return [c for c in customers if hashed(self.key, "customer", c) in self.customers] if self.customers else []

    def visits(self, visitors: Mapping[str, datetime]) -> set[str]:
        """Those of some visitor ids that were erased after the moment given with each: later visits are new."""
        if not self.visitors:
            return set()
        return {v for v, at in visitors.items() if self.visitors.get(hashed(self.key, "visitor", v), at) > at}


NOBODY = Erased(b"")


def hashed(key: bytes, kind: str, value: str) -> str:
    """The keyed hash of a `customer`'s or `visitor`'s id."""
    return hmac.new(key, f"erased:{kind}:{value}".encode(), "sha256").hexdigest()


def pseudonym(key: bytes, customer: str) -> str:
    """The id that an erased customer's rows in the ledger have."""
    return _pseudonym(hashed(key, "customer", customer))


def _pseudonym(customer_hash: str) -> str:
    return f"erased-{customer_hash[:32]}"


def mark(con: duckdb.DuckDBPyConnection, table: Table, checked: Iterable[str], erased: Erased) -> None:
    """Mark the rows of `checked_<table>` that are of somebody erased; `checked`: the tables that were looked at before.

    An anonymous visit counts as theirs if it happened before they were erased: what a browser does later is new.
    """
    if not erased.customers:
        return
    rows, names = f"checked_{table.name}", {column.name for column in table.columns}
    owner = OWNER.get(table.name, "customer_id")
    if owner in names:
        _given(con, erased.among(_distinct(con, rows, owner)))
        con.execute(f"UPDATE {rows} SET _rule = {ERASED} WHERE {quoted(owner)} IN (SELECT id FROM _erased)")
    if "visitor_id" in names and erased.visitors:
        seen = {v: erased.visitors.get(hashed(erased.key, "visitor", v)) for v in _distinct(con, rows, "visitor_id")}
        _given(con, [v for v, at in seen.items() if at], [at for at in seen.values() if at])
        con.execute(
            f"UPDATE {rows} SET _rule = {ERASED} FROM _erased"
            f" WHERE customer_id IS NULL AND visitor_id = id AND {quoted(str(table.happened))} <= until"
        )
    if table.name in PASSED_ON:  # of the last owner: without that one's version, an earlier owner's would count
        key = PASSED_ON[table.name]
        among = f"SELECT {key} FROM {rows} WHERE _rule = {ERASED}"
        newest = f"row_number() OVER (PARTITION BY {key} ORDER BY {table.known} DESC, _file DESC, _line DESC) = 1"
        last = f"SELECT {key}, _rule FROM {rows} WHERE _rule IN (0, {ERASED}) AND {key} IN ({among}) QUALIFY {newest}"
        con.execute(
            f"UPDATE {rows} SET _rule = {ERASED} WHERE {key} IN (SELECT {key} FROM ({last}) WHERE _rule = {ERASED})"
        )
    if table.name in PARENTS:
        parent, key = PARENTS[table.name]
        if parent in checked:
            theirs = f"SELECT {key} FROM checked_{parent} GROUP BY {key} HAVING bool_and(_rule = {ERASED})"
            con.execute(f"UPDATE {rows} SET _rule = {ERASED} WHERE {key} IN ({theirs})")


def _distinct(con: duckdb.DuckDBPyConnection, rows: str, column: str) -> list[str]:
    query = f"SELECT DISTINCT {quoted(column)} FROM {rows} WHERE {quoted(column)} IS NOT NULL"
    return [str(row[0]) for row in con.execute(query).fetchall()]


def _given(con: duckdb.DuckDBPyConnection, ids: list[str], until: list[datetime] | None = None) -> None:
    given = pa.table({"id": pa.array(ids, pa.string())})
    given = given.append_column("until", pa.array(until, _TIME) if until else pa.nulls(len(ids), _TIME))
    con.register("_given", given)
    con.execute("CREATE OR REPLACE TEMP TABLE _erased AS SELECT * FROM _given")
    con.unregister("_given")


_TIME = pa.timestamp("us", "UTC")
