"""One load: a source's tables through the gate into the lake, all of them or none.

Every table is read and checked before anything is published. Where one can't be read, or has too many bad rows,
nothing of the load is published, and the lake stays as it was. Of too many bad rows the quarantine is written, so that
they can be seen, and the withdrawals of consent are recorded: those don't wait for a mended file.
A table that the source doesn't have keeps what it had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from controltower.data import quarantine, withdrawals
from controltower.data.anomalies import Load
from controltower.data.contract import CONTRACT
from controltower.data.erased import Erased
from controltower.data.gate import Checked, Gate, Interval
from controltower.data.lake import Lake
from controltower.data.rules import KNOWN_WHEN
from controltower.data.scratch import bounded, bounds, scratch
from controltower.data.sources.base import Source, Wanted
from controltower.data.staging import stage
from controltower.errors import BadSource
from controltower.settings import Settings


class Loaded(NamedTuple):
    """By table: the report, and what to compare with other loads. `since`: when the oldest row loaded was known."""

    reports: dict[str, dict[str, Any]]
    brought: dict[str, Load]
    since: datetime | None


def load(
    settings: Settings, source: Source, interval: Interval, erased: Erased, record: Callable[[pa.Table], None]
) -> Loaded:
    """Load what the source knows in the interval, but nothing of people who were erased.

    `record` gets the load's consents, as the last thing before the lake changes: a withdrawal may be known too early,
    never too late. Raises BadSource as described above.
    """
    lake = Lake(settings)
    read = lake.manifest()
    # In a file, not in memory: of a table in memory some 9 bytes a row can't be spilled
    with (
        scratch(settings) as folder,
        duckdb.connect(folder / "load", config=bounds(settings, folder)) as con,
        bounded(),
    ):
        con.execute("SET force_compression = 'uncompressed'")
        gate = Gate(con, lake.store, read, interval, erased)
        checked = _check_all(source, gate, folder)
        for result in checked.values():
            quarantine.leave_known(lake, con, result, interval, read)
        found = (quarantine.refusal(con, result, source.bad_rows_limit) for result in checked.values())
        refused = next((error for error in found if error), None)
        parts = {quarantine.TABLE: quarantine.write(lake, con, checked, interval, read, keep_rows=not refused)}
        if refused:
            if withdrawals.TABLE in checked:
                refused = _keep_withdrawals(refused, withdrawals.of_refused(con, interval.now), record)
            lake.commit(interval.key, parts, read)
            raise refused
        parts |= {table: lake.write(table, gate.rows(table)) for table in checked}
        reports = {table: _report(result, interval) for table, result in checked.items()}
        brought = {table: gate.measure(table) for table in checked}
        if withdrawals.TABLE in checked:
            record(withdrawals.held_back(con, interval.now))
            record(gate.rows(withdrawals.TABLE).read_all())
            reports[withdrawals.TABLE]["notes"] += withdrawals.notes(con, checked[withdrawals.TABLE])
        known = [at for table in checked if (at := gate.known_since(table))]
        lake.commit(interval.key, parts, read)
    return Loaded(reports, brought, min(known, default=None))


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
    before = {file: _state(file) for given in inputs.values() for file in given.files}
    for table in (name for name in CONTRACT if name in inputs):  # orders before their lines
        given = inputs[table]
        try:
            groups = stage(gate.con, table, given, staged, source.encoding, source.delimiter)
            checked[table] = gate.check(table, groups)
        except OSError as e:
            name = Path(str(e.filename)).name if e.filename else table
            raise BadSource(f"{name} can't be read: {e.strerror}.", "Check that it is there and readable.") from None
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:  # its text may quote a value
            _check_whole(before)
            if not any(file.suffix == ".parquet" for file in given.files):
                raise
            raise BadSource(f"A Parquet file of {table} is damaged.", "Write its files again.") from None
    _check_whole(before)
    return checked


def _check_whole(before: Mapping[Path, object]) -> None:
    """Raise BadSource for a file that isn't as it was before it was read."""
    for file, state in before.items():
        if _state(file) != state:
            raise BadSource(
                f"{file.name} was changed while it was read: it is still being written.",
                "Load again when it is whole. Write files under another name, and rename them when they are.",
            )


def _state(file: Path) -> tuple[int, int, int] | None:
    """Changes when a file is written to or replaced."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _report(result: Checked, interval: Interval) -> dict[str, Any]:
    """Counts, and what the user should know."""
    notes = []
    if not result.read:
        notes.append("holds no rows")
    left_out = sum(group.left_out for group in result.groups)
    if left_out:
        notes.append(f"{left_out:,} rows are left out by the mapping's `where`")
    if result.unkeyed:
        notes.append(f"{result.unkeyed:,} rows have a key that is a word for none (as NULL or nan): read as empty")
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
        "erased": result.erased,
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
