"""Running SQL and expressions on a reading's connection, and keeping results for other queries of the same reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from controltower.data.scratch import bounded
from controltower.data.sql import quoted

if TYPE_CHECKING:
    import ibis
    import ibis.expr.types as ir


class Queries:
    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.kept: set[str] = set()

    @cached_property
    def _backend(self) -> ibis.backends.duckdb.Backend:
        """The same connection for expressions. Ibis takes half a second to import: not everybody needs it."""
        import ibis

        return ibis.duckdb.from_connection(self._connection)

    def execute(self, query: str) -> list[tuple[Any, ...]]:
        """Run SQL over this reading's tables. Returns the rows."""
        with bounded():
            return self._connection.execute(query).fetchall()

    def sql(self, expr: ir.Table) -> str:
        """The SQL of an expression over tables of this reading."""
        return str(self._backend.compile(expr))

    def run(self, query: str, given: Mapping[str, pa.Table] | None = None) -> pa.Table:
        """The rows of a query; it may name the Arrow tables that are given."""
        with self._given(given), bounded():
            found: pa.Table = self._connection.sql(query).to_arrow_table()
        return found

    def keep(self, name: str, query: str, given: Mapping[str, pa.Table] | None = None) -> None:
        """Compute a query's rows once, for several others; it may name the Arrow tables that are given."""
        with self._given(given):
            self.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(name)} AS {query}")
        self.kept.add(name)

    def computed(self, name: str, expr: ir.Table) -> ir.Table:
        """The rows of an expression, computed once and kept."""
        self.keep(name, self.sql(expr), _held(expr))
        return self.named(name)

    def show(self, name: str, expr: ir.Table) -> None:
        """An expression's rows under a name for other queries, each of which computes them."""
        for given, rows in _held(expr).items():
            self._connection.register(given, rows)
        self.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {self.sql(expr)}")

    def named(self, name: str) -> ir.Table:
        """A view or what was kept, for expressions. (Ibis would ask the engine, and parse its words for the types.)"""
        from ibis.expr import operations, schema

        with bounded():
            found = self._connection.sql(f"SELECT * FROM {quoted(name)} LIMIT 0").to_arrow_table().schema
        return operations.DatabaseTable(name, schema=schema.Schema.from_pyarrow(found), source=self._backend).to_expr()

    def forget(self, names: Iterable[str]) -> None:
        """Drop what was kept."""
        for name in set(names) & self.kept:
            self.execute(f"DROP TABLE {quoted(name)}")
            self.kept.discard(name)

    @contextmanager
    def _given(self, tables: Mapping[str, pa.Table] | None) -> Iterator[None]:
        """Arrow tables that a query may name; they aren't held any longer."""
        names = tables or {}
        for name, rows in names.items():
            self._connection.register(name, rows)
        try:
            yield
        finally:
            for name in names:
                self._connection.unregister(name)


def _held(expr: ir.Table) -> dict[str, pa.Table]:
    """The rows that an expression holds itself (ibis.memtable)."""
    from ibis.expr import operations

    return {held.name: held.data.to_pyarrow(held.schema) for held in expr.op().find(operations.InMemoryTable)}
