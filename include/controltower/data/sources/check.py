"""What a source would bring, before anything is loaded: its mapping, rows as they would be stored, rules broken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb

from controltower.data import quarantine
from controltower.data.contract import CONTRACT, PERSONAL
from controltower.data.erased import NOBODY
from controltower.data.fit import Fit, fit
from controltower.data.gate import Checked, Gate, Interval
from controltower.data.lake import Lake
from controltower.data.scratch import bounded, bounds, scratch
from controltower.data.sources.base import Input, Source, Wanted
from controltower.data.sources.mapping import TableMapping
from controltower.data.sources.sample import heads, their_columns
from controltower.data.sql import quoted
from controltower.data.staging import stage
from controltower.errors import BadSource
from controltower.settings import Settings

SAMPLE = 100_000  # rows looked at, of each table


def check(
    settings: Settings, source: Source, interval: Interval, rows: int = 20, sample: int = SAMPLE
) -> dict[str, Any]:
    """Look at the first rows of each table as a load would. Nothing is written to the lake or the ledger.

    Returns {source, zone, ok, tables: {name: {files, read, whole, good, bad, limit, ok, error, columns: [{column,
    required, from, expression, type, null}], kept, missing, broken: [{rule, column, rows, file, line, value}], rows,
    notes}}, notes}. Personal values are masked. Raises BadSource where the source as a whole can't be read.
    """
    lake = Lake(settings)
    with scratch(settings) as folder, duckdb.connect(config=bounds(settings, folder)) as con, bounded():
        gate = Gate(con, lake.store, lake.manifest(), interval, NOBODY)
        made, staged = folder / "source", folder / "staged"
        made.mkdir()
        staged.mkdir()
        inputs = source.tables(Wanted(made, interval.end, interval.start, interval.zone, sample, interval.now))
        whole: dict[str, bool] = {}
        tables: dict[str, Any] = {}
        for table in (name for name in CONTRACT if name in inputs):  # orders before their lines
            given = inputs[table]
            files, whole[table] = heads(given.files, folder / "heads" / table, sample, source.encoding)
            loose = table == "order_lines" and not whole.get("orders", True)
            found = _table(gate, source, table, Input(files, given.mapping), staged, rows, loose)
            tables[table] = {"whole": whole[table], **found}
    return {
        "source": source.name,
        "zone": interval.zone,
        "ok": all(found["ok"] for found in tables.values()),
        "tables": tables,
        "notes": source.notes(),
    }


def _table(
    gate: Gate, source: Source, table: str, given: Input, folder: Path, rows: int, loose: bool
) -> dict[str, Any]:
    """`loose`: the lines' orders may lie outside the sample, so that those without one say nothing."""
    mapping = given.mapping or TableMapping()
    report: dict[str, Any] = {"files": [f.name for f in given.files], "read": 0, "good": 0, "bad": 0, "ok": False,
                              "limit": source.bad_rows_limit, "error": None, "broken": [], "rows": [],
                              "notes": []}  # fmt: skip
    nulls: dict[str, float] = {}
    fitted = None
    try:
        theirs = list(
            dict.fromkeys(c for f in given.files for c in their_columns(f, source.encoding, source.delimiter))
        )
        fitted = fit(CONTRACT[table], given.files[0].name, theirs, mapping)
        groups = stage(gate.con, table, given, folder, source.encoding, source.delimiter)
        result = gate.check(table, groups)
        report |= _judged(gate, result, source.bad_rows_limit, loose)
        report["rows"] = _rows(gate, table, rows)
        nulls = _nulls(gate, table)
    except BadSource as e:
        report["error"] = str(e).replace(f"{given.files[0].parent}/", "")
    if fitted:
        report |= {"columns": _columns(table, fitted, mapping, nulls), "kept": fitted.rest, "missing": fitted.missing}
    return {"columns": [], "kept": [], "missing": []} | report


def _judged(gate: Gate, result: Checked, limit: float, loose: bool) -> dict[str, Any]:
    bad = quarantine.rows(gate.con, result, gate.interval)
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for row in bad.to_pylist():
        first = {name: row[name] for name in ("rule", "column", "file", "line", "value")}
        kinds.setdefault((row["rule"], row["column"] or ""), {**first, "rows": 0})["rows"] += 1
    broken = sorted(kinds.values(), key=lambda kind: -kind["rows"])
    notes = []
    if loose and any(kind["rule"] == "order" for kind in broken):
        notes.append("rule order: not counted, the orders of these lines may lie outside the sample")
    counted = sum(kind["rows"] for kind in broken if not (loose and kind["rule"] == "order"))
    considered = result.read - result.outside
    if result.outside:
        notes.append(f"{result.outside:,} rows are known only later than now, and would not be loaded yet")
    left_out = sum(group.left_out for group in result.groups)
    if left_out:
        notes.append(f"{left_out:,} rows are left out by `where`")
    return {"read": result.read, "good": result.loaded + result.duplicates, "bad": counted, "broken": broken,
            "ok": not considered or counted / considered <= limit, "notes": notes}  # fmt: skip


def _columns(table: str, fitted: Fit, mapping: TableMapping, nulls: dict[str, float]) -> list[dict[str, Any]]:
    """Each column of the contract that is given or must be, and where it comes from."""
    found = []
    for column in CONTRACT[table].columns:
        theirs, expression = fitted.columns.get(column.name), mapping.expressions.get(column.name)
        if theirs or expression or column.required:
            found.append({"column": column.name, "required": column.required, "from": theirs, "expression": expression,
                          "type": column.type.value, "null": nulls.get(column.name)})  # fmt: skip
    return found


def _nulls(gate: Gate, table: str) -> dict[str, float]:
    """The share of rows without a value, by column, over all that were read."""
    names = [c.name for c in CONTRACT[table].columns]
    shares = ", ".join(f"1 - count({quoted(name)}) / count(*)" for name in names)
    found = gate.con.execute(f"SELECT {shares} FROM checked_{table} HAVING count(*) > 0").fetchall()
    return dict(zip(names, found[0], strict=True)) if found else {}


def _rows(gate: Gate, table: str, most: int) -> list[dict[str, str]]:
    """Rows as they would be stored, as text, without the empty values."""
    personal = PERSONAL if table == "identities" else PERSONAL - {"value"}
    taken: list[dict[str, str]] = []
    for batch in gate.rows(table):
        for row in batch.slice(0, most - len(taken)).to_pylist():
            told = {name: str(value) for name, value in row.items() if value is not None}
            taken.append({name: _masked(text) if name in personal else text for name, text in told.items()})
        if len(taken) >= most:
            break
    return taken


def _masked(text: str) -> str:
    """As in the quarantine: letters become x and digits 9."""
    return re.sub(r"\d", "9", re.sub(r"[^\W\d_]", "x", text))
