"""Rows that broke a rule: kept in the lake's table `quarantine`, per load, published together with the good ones.

Columns: id, table, key, rule, column, value (masked where it tells who a person is), file, line, interval, loaded_at,
zone, and `row`: what it gave, as a JSON object, to be mended and replayed (replay.py). A row stands there once, with
the first rule that it breaks. `row` is personal data: the files are their owner's alone, no log quotes it, and it is
dropped with the load after a while. A load that was refused keeps none: its file is to be mended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from controltower.data.contract import PERSONAL
from controltower.data.gate import Checked, Interval
from controltower.data.lake import Lake
from controltower.data.manifest import Load, Manifest, Part
from controltower.data.rules import moment
from controltower.data.sql import listed, literal, quoted
from controltower.data.staging import BadLine
from controltower.errors import BadSource

TABLE = "quarantine"
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "table", "key", "rule", "column", "value", "file")]
    + [("line", pa.int64()), ("interval", pa.string()), ("loaded_at", pa.timestamp("us", "UTC"))]
    + [("zone", pa.string()), ("row", pa.string())]
)
LINE = "_line"  # in `row`: the text of a line that is no row at all
_LONGEST = 200  # characters kept of a value
_BATCH = 50_000


def leave_known(
    lake: Lake, con: duckdb.DuckDBPyConnection, checked: Checked, interval: Interval, manifest: Manifest
) -> None:
    """Count a bad row as outside the interval that doesn't tell when it was known, and is set aside by another load.

    A file that holds all there is brings it each day, and on a quiet one it would be more than the limit.
    """
    parts = [part for part in manifest.parts(TABLE, without=interval.key) if part.rows]
    if interval.start is None or not parts or not checked.quarantined:
        return
    name, known = checked.table.name, quoted(checked.table.known)
    files = listed(lake.store.local(part.file for part in parts))
    seen = f'SELECT row FROM read_parquet({files}) WHERE "table" = {literal(name)} AND row IS NOT NULL'
    con.execute(f"UPDATE checked_{name} SET _rule = -1 WHERE _rule > 0 AND {known} IS NULL AND _row IN ({seen})")
    before = checked.quarantined
    counts = con.execute(f"SELECT _rule, count(*) FROM checked_{name} WHERE _rule > 0 GROUP BY _rule")
    checked.broken = dict(counts.fetchall())
    lines = [_told(bad) for group in checked.groups for bad in group.bad_lines]
    there = set(con.execute(f"{seen} AND row IN (SELECT unnest($1::VARCHAR[]))", [lines]).fetchall())
    for group in checked.groups:
        group.bad_lines = [bad for bad in group.bad_lines if (_told(bad),) not in there]
    checked.outside += before - checked.quarantined


def write(
    lake: Lake, con: duckdb.DuckDBPyConnection, checked: Mapping[str, Checked], interval: Interval, manifest: Manifest,
    *, keep_rows: bool,
) -> tuple[Part, ...]:  # fmt: skip
    """Write the bad rows of the tables that the gate has just checked on this connection, for `commit` to name.

    Those of the interval's other tables stay as they are in the manifest. `keep_rows`: also what each gave, to be
    replayed.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        parts = manifest.loads(TABLE).get(interval.key)
        before = _read(lake, parts.parts if parts else ())
        yield from before.filter(
            pc.invert(pc.is_in(before["table"], pa.array(list(checked), pa.string())))
        ).to_batches()
        for result in checked.values():
            yield from pa.Table.from_pylist(list(_lines(result, interval, keep_rows)), schema=SCHEMA).to_batches()
            for batch in _rows(con, result, interval, keep_rows).to_arrow_reader(_BATCH):
                yield from pa.table(batch).cast(SCHEMA).to_batches()

    return lake.write(TABLE, pa.RecordBatchReader.from_batches(SCHEMA, batches()))


def rows(con: duckdb.DuckDBPyConnection, checked: Checked, interval: Interval) -> pa.Table:
    """The bad rows of a table that the gate has just checked, without what they gave."""
    lines = pa.Table.from_pylist(list(_lines(checked, interval, keep_rows=False)), schema=SCHEMA)
    return pa.concat_tables([lines, _rows(con, checked, interval, keep_rows=False).to_arrow_table().cast(SCHEMA)])


def read(lake: Lake) -> pa.Table:
    """All quarantined rows of a home, oldest load first."""
    return _read(lake, lake.manifest().parts(TABLE))


def refusal(con: duckdb.DuckDBPyConnection, checked: Checked, limit: float) -> BadSource | None:
    """The error that says that more than `limit` (a share) of a table's rows are bad; None where they aren't."""
    considered = checked.read - checked.outside - checked.erased
    if not considered or checked.quarantined / considered <= limit:
        return None
    rule, column, file, line, rows = _worst(con, checked)
    of = f" of {column}" if column else ""
    return BadSource(
        f"{checked.quarantined:,} of {considered:,} rows of {checked.table.name} break the contract"
        f" ({checked.quarantined / considered:.0%}, more than {limit:.0%}), most often rule {rule!r}{of}:"
        f" {file} line {line} and {rows - 1:,} more. Nothing was loaded.",
        "Mend the file (`controltower quarantine list` shows the bad rows), or raise bad_rows_limit in the source's"
        " YAML.",
    )


def loaded_at(lake: Lake, load: Load) -> datetime | None:
    """When the rows of a load were set aside; None where it has none."""
    at: datetime | None = pc.max(_read(lake, load.parts)["loaded_at"]).as_py()
    return at


def _read(lake: Lake, parts: Iterable[Part]) -> pa.Table:
    tables = [pq.read_table(file, schema=SCHEMA) for file in lake.store.local(part.file for part in parts)]
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def _rows(
    con: duckdb.DuckDBPyConnection, checked: Checked, interval: Interval, keep_rows: bool
) -> duckdb.DuckDBPyRelation:
    name = checked.table.name
    personal = listed(sorted(PERSONAL - {"value"} if name != "identities" else PERSONAL))
    keys = ", ".join(_masked(f"CAST({quoted(k)} AS VARCHAR)", literal(k), personal) for k in checked.table.key)
    column = f"{listed([rule.column for rule in checked.rules])}[_rule]"
    file = f"{listed(checked.files)}[_file + 1]"
    identity = f"concat_ws('|', {literal(name)}, {literal(interval.key)}, {file}, _line, _row)"
    return con.sql(f"""
        SELECT md5({identity}) AS id, {literal(name)} AS "table", concat_ws(' ', {keys}) AS key,
               {listed([rule.name for rule in checked.rules])}[_rule] AS rule, {column} AS "column",
               {_masked(f"left(_value, {_LONGEST})", column, personal)} AS value,
               {file} AS file, CAST(_line AS BIGINT) AS line, {literal(interval.key)} AS interval,
               {moment(interval.now)} AS loaded_at, {literal(interval.zone)} AS zone,
               {"_row" if keep_rows else "CAST(NULL AS VARCHAR)"} AS row
        FROM checked_{name} WHERE _rule > 0 ORDER BY _file, _line""")


def _told(bad: BadLine) -> str:
    return json.dumps({LINE: bad.text}, ensure_ascii=False)


def _lines(checked: Checked, interval: Interval, keep_rows: bool) -> Iterator[dict[str, object]]:
    """Lines that are no rows."""
    name = checked.table.name
    for bad in (bad for group in checked.groups for bad in group.bad_lines):
        identity = "|".join([name, interval.key, bad.file, str(bad.line), bad.text])
        yield {
            "id": hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest(),
            "table": name, "rule": bad.rule, "value": bad.found, "file": bad.file, "line": bad.line,
            "interval": interval.key, "loaded_at": interval.now, "zone": interval.zone,
            "row": _told(bad) if keep_rows else None,
        }  # fmt: skip


def _worst(con: duckdb.DuckDBPyConnection, checked: Checked) -> tuple[str, str, str, int, int]:
    """The rule, column and file of most bad rows, the first one's line, and how many they are."""
    counted = con.execute(f"""
        SELECT _rule, _file, min(_line), count(*) FROM checked_{checked.table.name} WHERE _rule > 0
        GROUP BY _rule, _file ORDER BY _rule, _file""").fetchall()
    kinds = [
        (checked.rules[rule - 1].name, checked.rules[rule - 1].column, checked.files[file], line, rows)
        for rule, file, line, rows in counted
    ]
    lines: dict[tuple[str, str], list[int]] = {}
    for bad in (bad for group in checked.groups for bad in group.bad_lines):
        lines.setdefault((bad.rule, bad.file), []).append(bad.line)
    kinds += [(rule, "", file, min(at), len(at)) for (rule, file), at in lines.items()]
    return max(kinds, key=lambda kind: kind[-1])


def _masked(value: str, column: str, personal: str) -> str:
    """Letters become x and digits 9: enough to see what is wrong with the form, too little to tell whose it is."""
    masked = rf"regexp_replace(regexp_replace({value}, '\p{{L}}', 'x', 'g'), '\p{{N}}', '9', 'g')"
    return f"CASE WHEN list_contains({personal}, {column}) THEN {masked} ELSE {value} END"
