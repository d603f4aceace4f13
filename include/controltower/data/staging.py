"""Reading a shop's files into groups of one shape, every value with its file and line.

What makes a file unreadable is found here, before DuckDB sees it: its own CSV reader takes an empty file for an empty
table, loses line numbers and lets an unclosed quote swallow the rest. CSV and JSON Lines are staged as all-text Parquet
in a scratch folder; Parquet is read where it lies.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data import csv_file
from controltower.data.contract import CONTRACT, Table
from controltower.data.csv_file import (
    LONGEST_TEXT,
    begins_with_mark,
    compressed,
    empty,
    not_encoded,
    read_header,
    stage_csv,
    too_long,
)
from controltower.data.expressions import Expression, parse
from controltower.data.fit import Fit, computed, fit, missing_columns
from controltower.data.sources.base import Input
from controltower.data.sources.mapping import TableMapping
from controltower.data.sql import listed, literal, quoted
from controltower.errors import BadSource

FORMATS = (".csv", ".jsonl", ".ndjson", ".parquet")
COMPRESSED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z")
_LINES_PER_BATCH = 50_000
_BYTES_PER_BATCH = 1 << 26


@dataclass(frozen=True)
class BadLine:
    """A line that is no row at all. `found` describes it without quoting it; its `text` may hold personal data."""

    file: str
    line: int
    rule: str
    found: str
    text: str


@dataclass
class Group:
    """Files of one shape, as something to select from.

    `raw`: for each contract column that they have, the SQL of its value and that value's DuckDB type. `extras`: SQL of
    a JSON object of the other columns, or NULL. `place`: SQL of a row's file (its index in `files`) and line.
    """

    files: list[Path]
    source: str
    raw: dict[str, tuple[str, str]]
    extras: str
    place: tuple[str, str]
    bad_lines: list[BadLine] = field(default_factory=list)
    blank_rows: bool = True  # rows without any value are blank lines, to be passed over
    left_out: int = 0  # rows that the mapping's `where` doesn't take


def stage(
    con: duckdb.DuckDBPyConnection, table: str, given: Input, folder: Path, encoding: str = "utf-8",
    delimiter: str = ",",
) -> list[Group]:  # fmt: skip
    """Make a table's files ready to select from; `folder` takes the staged files.

    Raises BadSource naming the file, what is wrong with it and the remedy.
    """
    mapping = given.mapping or TableMapping()
    groups = []
    for number, ((kind, names), alike) in enumerate(shapes(given.files, encoding, delimiter).items()):
        target = folder / f"{table}-{number}"
        target.mkdir()
        if kind == "parquet":
            groups.append(_parquet(con, CONTRACT[table], alike, mapping))
        elif kind == "csv":
            groups.append(_csv(con, CONTRACT[table], alike, list(names), mapping, target, encoding, delimiter))
        else:
            groups.append(_json_lines(con, CONTRACT[table], alike, mapping, target, encoding))
    return groups


def shapes(files: list[Path], encoding: str, delimiter: str = ",") -> dict[tuple[str, tuple[str, ...]], list[Path]]:
    """Files by kind and columns: those of one shape are read together."""
    found: dict[tuple[str, tuple[str, ...]], list[Path]] = defaultdict(list)
    for file in files:
        found[_shape(file, encoding, delimiter)].append(file)
    return found


def _shape(file: Path, encoding: str, delimiter: str) -> tuple[str, tuple[str, ...]]:
    """Files of the same shape are read together."""
    if file.suffix in COMPRESSED or file.suffix == ".xlsx":
        raise compressed(file)
    if file.suffix not in FORMATS:
        raise BadSource(f"{file} has no form that we read.", f"Its name must end in {', '.join(FORMATS)}.")
    if file.suffix == ".csv":
        return "csv", tuple(read_header(file, encoding, delimiter))
    if file.suffix == ".parquet":
        try:
            schema = pq.read_schema(file)
        except (OSError, pa.ArrowException):
            if not file.stat().st_size:
                raise empty(file) from None
            raise BadSource(f"{file} is not readable as Parquet.", "Write the file again.") from None
        return "parquet", tuple(f"{f.name} {f.type}" for f in schema)
    return "json", ()


def _fitted(table: Table, file: Path, theirs: list[str], mapping: TableMapping) -> Fit:
    fitted = fit(table, str(file), theirs, mapping)
    if fitted.problems:
        raise fitted.problems[0]
    return fitted


def _columnar(
    con: duckdb.DuckDBPyConnection, table: Table, files: list[Path], theirs: list[str], mapping: TableMapping,
    fitted: Fit, staged: list[Path], stored: list[tuple[str, str]], line: str,
) -> Group:  # fmt: skip
    """A group over Parquet files. `stored`: each column's name in them and its DuckDB type."""
    at = {name: (quoted(column), kind) for name, (column, kind) in zip(theirs, stored, strict=True)}
    extras = "NULL"
    if fitted.rest:
        pairs = ", ".join(f"{literal(name)}, {at[name][0]}" for name in fitted.rest)
        extras = f"nullif(json_merge_patch('{{}}', json_object({pairs}))::VARCHAR, '{{}}')"
    group = Group(
        files=files,
        source=f"read_parquet({listed([str(f) for f in staged])})",
        raw={ours: at[name] for ours, name in fitted.columns.items()},
        extras=extras,
        place=("file_index", line),
    )
    return _with_expressions(con, table, mapping, group, at, [sql for sql, _ in at.values()])


def _with_expressions(
    con: duckdb.DuckDBPyConnection, table: Table, mapping: TableMapping, group: Group,
    at: dict[str, tuple[str, str]], blanks: list[str],
) -> Group:  # fmt: skip
    if mapping.expressions or mapping.where:
        source, raw, place, left_out = computed(con, table, mapping, group.source, group.place, at, blanks)
        group.source, group.raw, group.place, group.left_out = source, group.raw | raw, place, left_out
    return group


def _parquet(con: duckdb.DuckDBPyConnection, table: Table, files: list[Path], mapping: TableMapping) -> Group:
    theirs = pq.read_schema(files[0]).names
    described = con.execute(f"DESCRIBE SELECT * FROM read_parquet({listed([str(files[0])])})").fetchall()
    stored = [(str(row[0]), str(row[1])) for row in described]  # by position: DuckDB renames columns alike but for case
    fitted = _fitted(table, files[0], theirs, mapping)
    return _columnar(con, table, files, theirs, mapping, fitted, files, stored, "file_row_number + 1")


def _csv(
    con: duckdb.DuckDBPyConnection, table: Table, files: list[Path], header: list[str], mapping: TableMapping,
    target: Path, encoding: str, delimiter: str,
) -> Group:  # fmt: skip
    fitted = _fitted(table, files[0], header, mapping)  # before much is read
    stored = [(f"c{i}", "VARCHAR") for i in range(len(header))]
    staged = [target / f"{i}.parquet" for i in range(len(files))]
    bad_lines = [
        BadLine(file.name, odd.line, "columns", odd.found, odd.text)
        for file, to in zip(files, staged, strict=True)
        for odd in stage_csv(file, to, encoding, delimiter)
    ]
    group = _columnar(con, table, files, header, mapping, fitted, staged, stored, "_line")
    group.bad_lines = bad_lines
    return group


def _json_lines(
    con: duckdb.DuckDBPyConnection, table: Table, files: list[Path], mapping: TableMapping, target: Path,
    encoding: str,
) -> Group:  # fmt: skip
    staged = [target / f"{i}.parquet" for i in range(len(files))]
    bad_lines: list[BadLine] = []
    for file, to in zip(files, staged, strict=True):
        stage_lines(file, to, encoding)
        bad_lines += [BadLine(file.name, n, "json", "not a JSON object", text) for n, text in _drop_bad_json(con, to)]
    rows = f"read_parquet({listed([str(f) for f in staged])})"
    # any line may have any key: only what the contract and the mapping name is looked for
    theirs_of = {ours: theirs for theirs, ours in mapping.columns.items()}
    keys = [theirs_of.get(c.name, c.name) for c in table.columns]
    made = [name for e in [*mapping.parsed().values(), *_where(mapping)] for name in e.columns]
    keys = list(dict.fromkeys([*keys, *made, *mapping.leave_out]))
    fitted = fit(table, str(files[0]), keys, mapping, all_known=False)
    position = {name: i for i, name in enumerate(keys, start=1)}
    paths = listed([f"$.{json.dumps(name, ensure_ascii=False)}" for name in keys])
    used = [name for name in keys if name not in fitted.rest]
    nothing = literal(json.dumps(dict.fromkeys(used), ensure_ascii=False))
    at = {name: (f"v[{i}]", "VARCHAR") for name, i in position.items()}
    group = Group(
        files=files,
        source=f"(SELECT json_extract_string(text, {paths}) AS v, text, line, file_index AS file FROM {rows})",
        raw={ours: at[name] for ours, name in fitted.columns.items()},
        extras=f"nullif(json_merge_patch(text, {nothing})::VARCHAR, '{{}}')",
        place=("file", "line"),
        bad_lines=bad_lines,
        blank_rows=False,
    )
    group = _with_expressions(con, table, mapping, group, at, [])
    counts = ", ".join(f"count({group.raw.get(name, ('NULL',))[0]})" for name in table.required)
    found = con.execute(f"SELECT count(*), {counts} FROM {group.source}").fetchall()[0]
    missing = [name for name, count in zip(table.required, found[1:], strict=True) if not count]
    if found[0] and missing:
        raise missing_columns(table, str(files[0]), missing, json_keys(con, group.source))
    return group


def _where(mapping: TableMapping) -> list[Expression]:
    return [parse(mapping.where)] if mapping.where else []


def json_keys(con: duckdb.DuckDBPyConnection, rows: str) -> list[str]:
    """The keys that staged JSON Lines have, in order."""
    keys = con.execute(f"SELECT DISTINCT unnest(json_keys(text)) AS key FROM {rows} ORDER BY key").fetchall()
    return [str(key) for (key,) in keys]


def _drop_bad_json(con: duckdb.DuckDBPyConnection, staged: Path) -> list[tuple[int, str]]:
    """Rewrite a staged file without the lines that are no JSON objects, if it has any. Returns them, with numbers."""
    is_row = "CASE WHEN json_valid(text) THEN json_type(text) = 'OBJECT' ELSE false END"
    rows = f"FROM read_parquet({literal(str(staged))}) WHERE"
    bad: list[tuple[int, str]] = con.execute(
        f"SELECT line, left(text, {LONGEST_TEXT}) {rows} NOT {is_row} ORDER BY line"
    ).fetchall()
    if bad:
        good = staged.with_suffix(".good")
        con.execute(f"COPY (SELECT * {rows} {is_row}) TO {literal(str(good))} (FORMAT parquet)")
        good.replace(staged)
    return bad


def stage_lines(file: Path, to: Path, encoding: str) -> None:
    """Write each line that isn't blank, with its number."""
    schema = pa.schema([("text", pa.string()), ("line", pa.int64())])
    texts: list[str] = []
    numbers: list[int] = []
    seen, size = False, 0
    known = "utf-8-sig" if begins_with_mark(file) else encoding
    with pq.ParquetWriter(to, schema, use_dictionary=False) as writer, file.open("rb") as lines:
        for number, raw in enumerate(iter(lambda: lines.readline(csv_file.LONGEST_ROW + 1), b""), start=1):
            if len(raw) > csv_file.LONGEST_ROW and not raw.endswith(b"\n"):
                raise too_long(file, number)
            try:
                text = raw.decode(known).strip()
            except UnicodeDecodeError:
                raise not_encoded(file, number, encoding) from None
            if text:
                texts.append(text)
                numbers.append(number)
                size += len(raw)
            if len(texts) == _LINES_PER_BATCH or size > _BYTES_PER_BATCH:
                writer.write_table(pa.table([texts, numbers], schema=schema))
                seen, size, texts, numbers = True, 0, [], []
        writer.write_table(pa.table([texts, numbers], schema=schema))
    if not (seen or texts):
        raise empty(file)
