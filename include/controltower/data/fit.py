"""How the columns of a shop's file become those of a table: which fit, which are computed, what is left over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from controltower.data.contract import Table, Type
from controltower.data.expressions import Expression, guarded, nearest, parse
from controltower.data.sources.mapping import TableMapping
from controltower.data.sql import quoted
from controltower.errors import BadSource

REMEDY = "in the source's YAML (a folder's is source.yaml)"


@dataclass(frozen=True)
class Fit:
    """`columns`: ours -> theirs. `rest`: theirs that become nothing, kept in `attributes`. `problems`, worst first."""

    columns: dict[str, str]
    expressions: dict[str, Expression]
    rest: list[str]
    missing: list[str]
    problems: list[BadSource] = field(default_factory=list)


def fit(table: Table, file: str, theirs: Sequence[str], mapping: TableMapping, *, all_known: bool = True) -> Fit:
    """Bring a file's columns and a mapping together. `all_known`: a name that isn't among `theirs` is a mistake."""
    theirs = list(theirs)
    expressions = mapping.parsed()
    where = parse(mapping.where) if mapping.where else None
    problems = []
    if all_known:
        for name in mapping.columns:
            if name not in theirs:
                what = f"The mapping of {table.name} names the column {name!r}, but {file} has no such column"
                problems.append(BadSource(f"{what}{nearest(name, theirs)}.", f"It has: {', '.join(theirs)}."))
        for ours, made in {**expressions, **({"where": where} if where else {})}.items():
            for name in made.columns:
                if name not in theirs:
                    what = f"The expression {made.text!r} of {table.name}.{ours} names {name!r}, which {file} lacks"
                    problems.append(BadSource(f"{what}{nearest(name, theirs)}.", f"It has: {', '.join(theirs)}."))
    known = {c.name for c in table.columns}
    ours_of = {name: mapping.columns.get(name, name) for name in theirs}
    named = [ours for ours in ours_of.values() if ours in known and ours not in expressions]
    twice = [ours for ours in named if named.count(ours) > 1]
    if twice:
        problems.append(BadSource(f"Two columns of {file} are {table.name}.{twice[0]}.", "Map or rename one of them."))
    missing = [name for name in table.required if name not in named and name not in expressions]
    if missing:
        problems.append(missing_columns(table, file, missing, theirs))
    used = {*mapping.leave_out, *(name for made in expressions.values() for name in made.columns)}
    columns = {ours: name for name, ours in ours_of.items() if ours in known and ours not in expressions}
    rest = [name for name in theirs if name not in columns.values() and name not in used]
    return Fit(columns, expressions, rest, missing, problems)


def missing_columns(table: Table, file: str, missing: list[str], theirs: list[str]) -> BadSource:
    return BadSource(
        f"{file} lacks what {table.name} must have: {', '.join(missing)}. Its columns are: {', '.join(theirs)}.",
        f"Add it, or map another column to it under `tables: {table.name}: columns:` or `expressions:` {REMEDY}.",
    )


def computed(
    con: duckdb.DuckDBPyConnection, table: Table, mapping: TableMapping, rows: str, place: tuple[str, str],
    stored: Mapping[str, tuple[str, str]], blanks: Sequence[str] = (),
) -> tuple[str, dict[str, tuple[str, str]], tuple[str, str], int]:  # fmt: skip
    """`rows` with the mapping's expressions computed, and without those that `where` leaves out.

    `stored`: each of their columns -> its SQL and DuckDB type. `blanks`: SQL of all of a row's values; a row that has
    none is a blank line, which no constant makes a row of. Returns (what to select from, ours -> SQL and type, SQL of
    a row's place, how many rows were left out). Raises BadSource for an expression that can't run on these types.
    """
    kinds = {c.name: c.type for c in table.columns}
    raw, made = {}, []
    for ours, expression in mapping.parsed().items():
        sql = expression.sql(stored)
        kind = _kind(con, f"{table.name}.{ours}", expression, sql, rows)
        if kinds[ours] is Type.JSON and kind.startswith(("STRUCT", "MAP")):
            sql = f"to_json({sql})"
        inputs = [f"CAST({stored[name][0]} AS VARCHAR)" for name in expression.columns]
        made.append(f", {guarded(sql, inputs)} AS {quoted(f'_e_{ours}')}")
        raw[ours] = (quoted(f"_e_{ours}"), "VARCHAR")
    where = f"coalesce({', '.join(f'CAST({b} AS VARCHAR)' for b in blanks)}) IS NOT NULL" if blanks else "true"
    left_out = 0
    if mapping.where:
        expression = parse(mapping.where)
        sql = f"CAST({expression.sql(stored)} AS BOOLEAN)"
        _kind(con, f"{table.name}.where", expression, sql, rows)
        taken = f"coalesce(TRY(coalesce({sql}, false)), true)"  # where it fails the row stays, for the gate to judge
        left_out = con.execute(f"SELECT count(*) FROM {rows} WHERE {where} AND NOT {taken}").fetchall()[0][0]
        where = f"{where} AND {taken}"
    file, line = place
    source = f"(SELECT *, {file} AS _at_file, {line} AS _at_line{''.join(made)} FROM {rows} WHERE {where})"
    return source, raw, ("_at_file", "_at_line"), int(left_out)


def _kind(con: duckdb.DuckDBPyConnection, name: str, expression: Expression, sql: str, rows: str) -> str:
    try:
        return str(con.execute(f"DESCRIBE SELECT {sql} AS value FROM {rows}").fetchall()[0][1])
    except duckdb.Error as e:
        raise BadSource(
            f"The expression {expression.text!r} of {name} can't run: {str(e).splitlines()[0]}",
            "Columns of CSV and JSON Lines are text: write CAST(x AS DOUBLE), or strptime(x, '%d/%m/%Y').",
        ) from None
