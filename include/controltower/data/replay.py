"""Quarantined rows once more: as a file to mend them in, and through the same gate into the interval they came from.

What was replayed is known by the rows' ids (lake table `replayed`), so that doing it again adds nothing, and loading
the interval again keeps what was mended. The mended rows are a load of their own beside the interval's, its name with
+1, +2 and so on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from controltower.data import quarantine, withdrawals
from controltower.data.contract import CONTRACT
from controltower.data.csv_file import read_header, stage_csv
from controltower.data.erased import Erased
from controltower.data.gate import EXTRAS, Gate, Interval
from controltower.data.lake import Lake
from controltower.data.quarantine import LINE
from controltower.data.scratch import bounded, bounds, scratch
from controltower.data.spreadsheet import as_it_was
from controltower.data.sql import literal, quoted
from controltower.data.staging import Group
from controltower.errors import BadSource, NoData
from controltower.settings import Settings

TABLE = "replayed"
SCHEMA = pa.schema([("id", pa.string()), ("table", pa.string()), ("replayed_at", pa.timestamp("us", "UTC"))])
ID, BROKE = "_quarantine", "_broke"  # columns of the file beside the table's own
_SHOWN = 20  # rows of a report


class Replayed(NamedTuple):
    """What became of the rows given, in rows. given = replayed + bad + to_come + before + unknown."""

    given: int
    replayed: int  # loaded or there already
    loaded: int
    to_come: int  # not known yet
    before: int  # replayed earlier
    unknown: int  # in quarantine no longer: their interval was loaded again
    broken: dict[str, int]  # rule -> rows that stay in quarantine
    rows: list[dict[str, Any]]  # the first of them: line, rule, column
    since: datetime | None  # when the oldest row loaded was known


def done(lake: Lake) -> set[str]:
    """The ids of the rows that were replayed."""
    files = lake.store.local(part.file for part in lake.manifest().parts(TABLE))
    return {i for file in files for i in pq.read_table(file, columns=["id"])["id"].to_pylist()}


def waiting(lake: Lake, table: str) -> pa.Table:
    """A table's quarantined rows that can be replayed, as text: id, what each broke, the contract's columns as the row
    gave them; `_extras` is a JSON object of its other columns, `_line` the text of a line that is no row.

    Raises NoData where there are none.
    """
    kept = _kept(lake, table)
    if not kept.num_rows:
        raise NoData(
            f"No row of {table} in quarantine can be replayed.",
            "`controltower quarantine list` shows what is there. A refused load keeps no rows: mend its file.",
        )
    given = [json.loads(row) for row in kept["row"].to_pylist()]
    contract = CONTRACT[table]
    used = {name for row in given for name in row} | set(contract.required)
    names = [c.name for c in contract.columns if c.name in used] + [n for n in (EXTRAS, LINE) if n in used]
    broke = pc.if_else(
        pc.is_valid(kept["column"]),
        pc.binary_join_element_wise(kept["rule"], kept["column"].fill_null(""), " of "),
        kept["rule"],
    )
    columns = {name: pa.array([row.get(name) for row in given], pa.string()) for name in names}
    return pa.table({ID: kept["id"], BROKE: broke, **columns})


def read_file(file: Path, table: str, encoding: str, folder: Path) -> pa.Table:
    """The mended file: like `waiting` gave it, with fewer rows or other values, and `_number`, its lines.

    Raises BadSource where it can't be that file.
    """
    header = read_header(file, encoding)
    known = {ID, BROKE, EXTRAS, LINE, *(c.name for c in CONTRACT[table].columns)}
    if ID not in header:
        raise BadSource(
            f"{file.name} has no column {ID}.", "Mend the file that `controltower quarantine export` wrote."
        )
    if strange := [name for name in header if name not in known]:
        raise BadSource(f"{file.name} has a column {strange[0]!r}, which {table} has not.", "Take it out.")
    staged = folder / "mended.parquet"
    if odd := stage_csv(file, staged, encoding):
        raise BadSource(f"{file.name} line {odd[0].line} has {odd[0].found}.", "Mend the line, and replay it again.")
    found = pq.read_table(staged).rename_columns([*header, "_number"])
    for i, name in enumerate(header):
        texts = found[name].combine_chunks().dictionary_encode()
        plain = pa.array([as_it_was(text) for text in texts.dictionary.to_pylist()], pa.string())
        found = found.set_column(i, name, plain.take(texts.indices))
    found = found.filter(pc.invert(_blank(found.select(header))))
    ids = found[ID].to_pylist()
    if None in ids:
        line = found["_number"][ids.index(None)]
        raise BadSource(
            f"{file.name} line {line} has no {ID}: it is no row of quarantine.", "Load new rows by `ingest`."
        )
    if twice := [n for n, count in Counter(ids).items() if count > 1]:
        line = found["_number"][len(ids) - 1 - ids[::-1].index(twice[0])]
        raise BadSource(f"{file.name} line {line} has a row of quarantine again.", "Let each stand once.")
    _check_extras(found, file.name)
    return found


def replay(
    settings: Settings,
    table: str,
    mended: pa.Table,
    now: datetime,
    erased: Erased,
    record: Callable[[pa.Table], None],
) -> Replayed:
    """Load mended rows, or those that pass by now as they are, but nothing of people who were erased.

    `record` gets consents, as in `load`. A row that still breaks a rule stays in quarantine as it was. One of consents
    withdraws there as in a load.
    """
    lake = Lake(settings)
    kept = _kept(lake, table)
    at = pc.index_in(mended[ID], kept["id"])
    before = _count(pc.is_in(mended[ID], pa.array(sorted(done(lake)), pa.string())))
    mine = mended.filter(pc.is_valid(at))
    kept = kept.take(at.drop_null())
    mine = _with_known(mine, kept, table)
    result = Replayed(mended.num_rows, 0, 0, 0, before, mended.num_rows - mine.num_rows - before, {}, [], None)
    loads = kept.group_by(["interval", "zone"], use_threads=False).aggregate([]).sort_by("interval").to_pylist()
    for load in loads:
        here = pc.and_(pc.equal(kept["interval"], load["interval"]), pc.equal(kept["zone"], load["zone"]))
        interval = Interval(_key(lake, load["interval"]), None, now, load["zone"], "happened", now)
        result = _through_gate(settings, table, mine.filter(here), interval, erased, record, result)
    return result


def _through_gate(
    settings: Settings,
    table: str,
    rows: pa.Table,
    interval: Interval,
    erased: Erased,
    record: Callable[[pa.Table], None],
    sofar: Replayed,
) -> Replayed:
    lake = Lake(settings)
    with scratch(settings) as folder, duckdb.connect(config=bounds(settings, folder)) as con, bounded():
        manifest = lake.manifest()
        gate = Gate(con, lake.store, manifest, interval, erased)
        checked = gate.check(table, [_group(table, rows, folder / "rows.parquet")])
        found = con.execute(f"SELECT _line, _rule FROM checked_{table} ORDER BY _line").fetchall()
        good = [line for line, rule in found if rule == 0]
        since = gate.known_since(table)
        bad = [(line, checked.rules[rule - 1]) for line, rule in found if rule > 0]
        if table == withdrawals.TABLE:
            record(withdrawals.held_back(con, interval.now))
            record(gate.rows(table).read_all())
        if good:
            ids = rows.filter(pc.is_in(rows["_number"], pa.array(good, pa.int64())))[ID]
            marks = pa.table([ids, [table] * len(ids), [interval.now] * len(ids)], schema=SCHEMA)
            parts = {table: lake.write(table, gate.rows(table)), TABLE: lake.write(TABLE, marks)}
            lake.commit(interval.key, parts, manifest)
    broken = Counter(sofar.broken) + Counter(f"{rule.name} of {rule.column}" for _, rule in bad)
    shown = [{"line": line, "rule": rule.name, "column": rule.column} for line, rule in bad]
    return sofar._replace(
        replayed=sofar.replayed + len(good),
        loaded=sofar.loaded + checked.loaded,
        since=min(filter(None, (sofar.since, since)), default=None),
        to_come=sofar.to_come + checked.outside,
        broken=dict(broken),
        rows=[*sofar.rows, *shown][:_SHOWN],
    )


def _group(table: str, rows: pa.Table, file: Path) -> Group:
    """The rows as something that the gate selects from."""
    pq.write_table(rows, file)
    names = [c.name for c in CONTRACT[table].columns if c.name in rows.column_names]
    return Group(
        files=[file],
        source=f"read_parquet({literal(str(file))})",
        raw={name: (quoted(name), "VARCHAR") for name in names},
        extras=f"nullif(trim({EXTRAS}), '')" if EXTRAS in rows.column_names else "NULL",
        place=("0", "_number"),
        blank_rows=False,
    )


def _kept(lake: Lake, table: str) -> pa.Table:
    """The table's rows in quarantine that have their raw row, and weren't replayed."""
    found = quarantine.read(lake)
    found = found.filter(pc.and_(pc.equal(found["table"], table), pc.is_valid(found["row"])))
    return found.filter(pc.invert(pc.is_in(found["id"], pa.array(sorted(done(lake)), pa.string()))))


def _with_known(rows: pa.Table, kept: pa.Table, table: str) -> pa.Table:
    """Rows that don't say when they were known keep what they had: their file's time."""
    contract = CONTRACT[table]
    if "_number" not in rows.column_names:
        rows = rows.append_column("_number", pa.array(range(1, rows.num_rows + 1), pa.int64()))
    if contract.kind == "log":
        return rows
    had = pa.array([json.loads(row).get(contract.known) for row in kept["row"].to_pylist()], pa.string())
    if contract.known not in rows.column_names:
        return rows.append_column(contract.known, had)
    place = rows.column_names.index(contract.known)
    return rows.set_column(place, contract.known, pc.coalesce(rows[contract.known].combine_chunks(), had))


def _check_extras(rows: pa.Table, file: str) -> None:
    """The other columns must still be a JSON object."""
    texts = rows[EXTRAS].to_pylist() if EXTRAS in rows.column_names else []
    for line, text in zip(rows["_number"].to_pylist(), texts, strict=False):
        try:
            good = text is None or isinstance(json.loads(text), dict)
        except ValueError:
            good = False
        if not good:
            raise BadSource(
                f"{file} line {line} has an {EXTRAS} that is no JSON object.", 'Write it as {"name": "value"}.'
            )


def _blank(rows: pa.Table) -> pa.ChunkedArray:
    """Which rows hold nothing at all, as a spreadsheet leaves them at the end."""
    blank: Sequence[pa.ChunkedArray] = [pc.is_null(column) for column in rows.columns]
    found = blank[0]
    for column in blank[1:]:
        found = pc.and_(found, column)
    return found


def _key(lake: Lake, interval: str) -> str:
    """Of the next replay of an interval."""
    earlier = [key for key in lake.intervals(TABLE) if key.startswith(f"{interval}+")]
    return f"{interval}+{len(earlier) + 1}"


def _count(which: pa.ChunkedArray) -> int:
    return int(pc.sum(which).as_py() or 0)
