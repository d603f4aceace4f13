"""Rows that broke a rule: kept in the lake's table `quarantine`, per load, published together with the good ones.

Columns: table, key, rule, column, value (masked where it tells who a person is), file, line, interval. A row stands
there once, with the first rule that it breaks.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data import manifest as manifests
from controltower.data.contract import PERSONAL
from controltower.data.gate import Checked
from controltower.data.lake import Lake
from controltower.data.sql import listed, literal, quoted
from controltower.errors import BadSource

TABLE = "quarantine"
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("table", "key", "rule", "column", "value", "file")]
    + [("line", pa.int64()), ("interval", pa.string())]
)
_LONGEST = 200  # characters kept of a value


def rows(con: duckdb.DuckDBPyConnection, checked: Checked, interval: str) -> pa.Table:
    """The bad rows of a table that the gate has just checked on this connection."""
    name = checked.table.name
    personal = listed(sorted(PERSONAL - {"value"} if name != "identities" else PERSONAL))
    keys = ", ".join(_masked(f"CAST({quoted(k)} AS VARCHAR)", literal(k), personal) for k in checked.table.key)
    column = f"{listed([rule.column for rule in checked.rules])}[_rule]"
    broken = con.sql(f"""
        SELECT {literal(name)} AS "table", concat_ws(' ', {keys}) AS key,
               {listed([rule.name for rule in checked.rules])}[_rule] AS rule, {column} AS "column",
               {_masked(f"left(_value, {_LONGEST})", column, personal)} AS value,
               {listed(checked.files)}[_file + 1] AS file, CAST(_line AS BIGINT) AS line,
               {literal(interval)} AS interval
        FROM checked_{name} WHERE _rule > 0 ORDER BY _file, _line""")
    lines = [
        {"table": name, "rule": bad.rule, "value": bad.found, "file": bad.file, "line": bad.line, "interval": interval}
        for group in checked.groups
        for bad in group.bad_lines
    ]
    return pa.concat_tables([pa.Table.from_pylist(lines, schema=SCHEMA), broken.to_arrow_table().cast(SCHEMA)])


def read(lake: Lake) -> pa.Table:
    """All quarantined rows of a home."""
    parts = manifests.read(lake.root).parts(TABLE)
    tables = [pq.read_table(lake.root / part.file, schema=SCHEMA) for part in parts]
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def check_limit(checked: Checked, bad: pa.Table, limit: float) -> None:
    """Raise BadSource where more than `limit` (a share) of a table's rows are bad."""
    considered = checked.read - checked.outside
    if not considered or checked.quarantined / considered <= limit:
        return
    kinds = bad.group_by(["rule", "column", "file"]).aggregate([("line", "min"), ("line", "count")]).to_pylist()
    worst = max(kinds, key=lambda kind: kind["line_count"])
    column = f" of {worst['column']}" if worst["column"] else ""
    raise BadSource(
        f"{checked.quarantined:,} of {considered:,} rows of {checked.table.name} break the contract"
        f" ({checked.quarantined / considered:.0%}, more than {limit:.0%}), most often rule {worst['rule']!r}{column}:"
        f" {worst['file']} line {worst['line_min']} and {worst['line_count'] - 1:,} more. Nothing was loaded.",
        f"Mend the file (all bad rows are in the home's lake/{TABLE}), or raise bad_rows_limit in the source's YAML.",
    )


def _masked(value: str, column: str, personal: str) -> str:
    """Letters become x and digits 9: enough to see what is wrong with the form, too little to tell whose it is."""
    masked = rf"regexp_replace(regexp_replace({value}, '\p{{L}}', 'x', 'g'), '\p{{N}}', '9', 'g')"
    return f"CASE WHEN list_contains({personal}, {column}) THEN {masked} ELSE {value} END"
