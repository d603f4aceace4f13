"""One load: a source's tables through the gate into the lake, all of them or none.

Every table is read and checked before anything is published. Where one can't be read, or has too many bad rows,
nothing of the load is published, and the lake stays as it was. Of too many bad rows the quarantine is written, so that
they can be seen, and the withdrawals of consent are recorded: those don't wait for a mended file.
A table that the source doesn't have keeps what it had.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from controltower.data import manifest as manifests
from controltower.data import quarantine, withdrawals
from controltower.data.contract import CONTRACT
from controltower.data.gate import Checked, Gate, Interval
from controltower.data.lake import Lake
from controltower.data.rules import KNOWN_WHEN
from controltower.data.scratch import bounded, bounds, scratch
from controltower.data.sources.base import Source, Wanted
from controltower.data.staging import stage
from controltower.errors import BadSource
from controltower.settings import Settings


def load(settings: Settings, source: Source, interval: Interval, record: Callable[[pa.Table], None]) -> dict[str, Any]:
    """Load what the source knows in the interval. Returns the report of each table, by name.

    `record` gets the load's consents, as the last thing before the lake changes: a withdrawal may be known too early,
    never too late. Raises BadSource as described above.
    """
    lake = Lake(settings)
    with scratch(settings) as folder, duckdb.connect(config=bounds(settings, folder)) as con, bounded():
        gate = Gate(con, lake.root, manifests.read(lake.root), interval)
        checked = _check_all(source, gate, folder)
        bad = {table: quarantine.rows(con, result, interval.key) for table, result in checked.items()}
        parts = {quarantine.TABLE: lake.write(quarantine.TABLE, pa.concat_tables(bad.values()))}
        try:
            for table, result in checked.items():
                quarantine.check_limit(result, bad[table], source.bad_rows_limit)
        except BadSource as e:
            if withdrawals.TABLE in checked:
                e = _keep_withdrawals(e, withdrawals.of_refused(con, interval.now), record)
            lake.commit(interval.key, parts)
            raise e from None
        parts |= {table: lake.write(table, gate.rows(table)) for table in checked}
        reports = {table: _report(result, interval) for table, result in checked.items()}
        if withdrawals.TABLE in checked:
            record(withdrawals.held_back(con, interval.now))
            record(gate.rows(withdrawals.TABLE).read_all())
            reports[withdrawals.TABLE]["notes"] += withdrawals.notes(con, checked[withdrawals.TABLE])
        lake.commit(interval.key, parts)
    return reports


def _keep_withdrawals(error: BadSource, rows: pa.Table, record: Callable[[pa.Table], None]) -> BadSource:
    """Record what a refused load tells of withdrawals. Returns the error, which then says so."""
    if not rows.num_rows:
        return error
    record(rows)
    told = f"But the {rows.num_rows:,} withdrawals of consent that could be read are recorded, and hold."
    return BadSource(f"{error.what} {told}", error.remedy)


def _check_all(source: Source, gate: Gate, folder: Path) -> dict[str, Checked]:
    made, staged = folder / "source", folder / "staged"
    made.mkdir()
    staged.mkdir()
    checked = {}
    interval = gate.interval
    inputs = source.tables(Wanted(made, interval.end, interval.start, interval.zone, now=interval.now))
    for table in (name for name in CONTRACT if name in inputs):  # orders before their lines
        given = inputs[table]
        try:
            groups = stage(gate.con, table, given, staged, source.encoding)
            checked[table] = gate.check(table, groups)
        except OSError as e:
            name = Path(str(e.filename)).name if e.filename else table
            raise BadSource(f"{name} can't be read: {e.strerror}.", "Check that it is there and readable.") from None
    return checked


def _report(result: Checked, interval: Interval) -> dict[str, Any]:
    """Counts, and what the user should know."""
    notes = []
    if not result.read:
        notes.append("holds no rows")
    left_out = sum(group.left_out for group in result.groups)
    if left_out:
        notes.append(f"{left_out:,} rows are left out by the mapping's `where`")
    if result.untimed:
        notes.append(f"{result.untimed:,} rows carry no {result.table.known}: taken as known {_when(result, interval)}")
    broken: dict[str, int] = {}
    for number, rows in sorted(result.broken.items()):
        rule = result.rules[number - 1]
        broken[f"{rule.name} of {rule.column}"] = rows
    for group in result.groups:
        for line in group.bad_lines:
            broken[line.rule] = broken.get(line.rule, 0) + 1
    return {
        "files": len(result.files),
        "read": result.read,
        "loaded": result.loaded,
        "duplicates": result.duplicates,
        "quarantined": result.quarantined,
        "outside": result.outside,
        "broken": broken,
        "notes": notes,
    }


def _when(result: Checked, interval: Interval) -> str:
    if interval.known_at == "file":
        return "at their file's time"
    if result.table.happened:
        return "when they happened"
    if result.table.name == "order_lines":
        return "when they were ordered"
    since = {"customers": "signed_up_at", "products": "available_from", "listings": "valid_from"}.get(result.table.name)
    if result.table.name in KNOWN_WHEN and not since:
        return "on their date"
    return (
        f"from {since}, or from the beginning where that is empty or still to come" if since else "from the beginning"
    )
