"""Reading a shop's files into groups of one shape, every value with its file and line.

What makes a file unreadable is found here, before DuckDB sees it: its own CSV reader takes an empty file for an empty
table, loses line numbers and lets an unclosed quote swallow the rest. CSV and JSON Lines are staged as all-text Parquet
in a scratch folder; Parquet is read where it lies.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data.contract import CONTRACT, Table
from controltower.data.csv_file import empty, not_encoded, read_header, stage_csv
from controltower.data.sql import listed, literal, quoted
from controltower.errors import BadSource

FORMATS = (".csv", ".jsonl", ".ndjson", ".parquet")
_LINES_PER_BATCH = 50_000


@dataclass(frozen=True)
class BadLine:
    """A line that is no row at all. `found` describes it without quoting it: it may hold personal data."""

    file: str
    line: int
    rule: str
    found: str


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


def stage(
    con: duckdb.DuckDBPyConnection,
    table: str,
    files: Iterable[Path],
    columns: Mapping[str, str],
    folder: Path,
    encoding: str = "utf-8",
) -> list[Group]:
    """Make a table's files ready to select from. `columns` names theirs -> ours; `folder` takes the staged files.

    Raises BadSource naming the file, what is wrong with it and the remedy.
    """
    shapes: dict[tuple[str, tuple[str, ...]], list[Path]] = defaultdict(list)
    for file in files:
        shapes[_shape(file, encoding)].append(file)
    groups = []
    for number, ((kind, names), alike) in enumerate(shapes.items()):
        target = folder / f"{table}-{number}"
        target.mkdir()
        if kind == "parquet":
            groups.append(_parquet(con, CONTRACT[table], alike, columns))
        elif kind == "csv":
            groups.append(_csv(CONTRACT[table], alike, list(names), columns, target, encoding))
        else:
            groups.append(_json_lines(con, CONTRACT[table], alike, columns, target, encoding))
    return groups


def _shape(file: Path, encoding: str) -> tuple[str, tuple[str, ...]]:
    """Files of the same shape are read together."""
    if file.suffix == ".csv":
        return "csv", tuple(read_header(file, encoding))
    if file.suffix == ".parquet":
        try:
            schema = pq.read_schema(file)
        except (OSError, pa.ArrowException):
            if not file.stat().st_size:
                raise empty(file) from None
            raise BadSource(f"{file} is not readable as Parquet.", "Write the file again.") from None
        return "parquet", tuple(f"{f.name} {f.type}" for f in schema)
    return "json", ()


def _ours(table: Table, file: Path, theirs: list[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Contract column -> position in the file, after mapping; BadSource where that is not possible."""
    absent = [name for name in columns if name not in theirs]
    if absent:
        raise BadSource(
            f"source.yaml maps the column {absent[0]!r} of {table.name}, but {file.name} has no such column.",
            f"It has: {', '.join(theirs)}.",
        )
    ours = [columns.get(name, name) for name in theirs]
    known = {c.name for c in table.columns}
    twice = [name for name in ours if name in known and ours.count(name) > 1]
    if twice:
        raise BadSource(f"Two columns of {file.name} are {table.name}.{twice[0]}.", "Map or rename one of them.")
    missing = [name for name in table.required if name not in ours]
    if missing:
        raise missing_columns(table, file, missing, theirs)
    return {name: i for i, name in enumerate(ours) if name in known}


def missing_columns(table: Table, file: Path, missing: list[str], theirs: list[str]) -> BadSource:
    return BadSource(
        f"{file} lacks what {table.name} must have: {', '.join(missing)}. Its columns are: {', '.join(theirs)}.",
        f"Add it, or map another column to it under `tables: {table.name}: columns:` in source.yaml.",
    )


def _columnar(
    table: Table, files: list[Path], theirs: list[str], columns: Mapping[str, str],
    staged: list[Path], stored: list[tuple[str, str]], line: str,
) -> Group:  # fmt: skip
    """A group over Parquet files. `stored`: each column's name in them and its DuckDB type."""
    ours = _ours(table, files[0], theirs, columns)
    rest = [i for i in range(len(theirs)) if i not in ours.values()]
    extras = "NULL"
    if rest:
        pairs = ", ".join(f"{literal(theirs[i])}, {quoted(stored[i][0])}" for i in rest)
        extras = f"nullif(json_merge_patch('{{}}', json_object({pairs}))::VARCHAR, '{{}}')"
    return Group(
        files=files,
        source=f"read_parquet({listed([str(f) for f in staged])})",
        raw={name: (quoted(stored[i][0]), stored[i][1]) for name, i in ours.items()},
        extras=extras,
        place=("file_index", line),
    )


def _parquet(con: duckdb.DuckDBPyConnection, table: Table, files: list[Path], columns: Mapping[str, str]) -> Group:
    theirs = pq.read_schema(files[0]).names
    described = con.execute(f"DESCRIBE SELECT * FROM read_parquet({listed([str(files[0])])})").fetchall()
    stored = [(str(row[0]), str(row[1])) for row in described]  # by position: DuckDB renames columns alike but for case
    return _columnar(table, files, theirs, columns, files, stored, "file_row_number + 1")


def _csv(
    table: Table, files: list[Path], header: list[str], columns: Mapping[str, str], target: Path, encoding: str
) -> Group:
    stored = [(f"c{i}", "VARCHAR") for i in range(len(header))]
    staged = [target / f"{i}.parquet" for i in range(len(files))]
    group = _columnar(table, files, header, columns, staged, stored, "_line")
    for file, to in zip(files, staged, strict=True):
        for line, found in stage_csv(file, to, encoding):
            group.bad_lines.append(BadLine(file.name, line, "columns", found))
    return group


def _json_lines(
    con: duckdb.DuckDBPyConnection, table: Table, files: list[Path], columns: Mapping[str, str], target: Path,
    encoding: str,
) -> Group:  # fmt: skip
    staged = [target / f"{i}.parquet" for i in range(len(files))]
    bad_lines: list[BadLine] = []
    for file, to in zip(files, staged, strict=True):
        _stage_lines(file, to, encoding)
        bad_lines += [BadLine(file.name, line, "json", "not a JSON object") for line in _drop_bad_json(con, to)]
    rows = f"read_parquet({listed([str(f) for f in staged])})"
    theirs_of = {ours: theirs for theirs, ours in columns.items()}
    names = [c.name for c in table.columns]
    theirs = [theirs_of.get(name, name) for name in names]
    paths = listed([f"$.{json.dumps(name, ensure_ascii=False)}" for name in theirs])
    nothing = literal(json.dumps(dict.fromkeys(theirs), ensure_ascii=False))
    group = Group(
        files=files,
        source=f"(SELECT json_extract_string(text, {paths}) AS v, text, line, file_index AS file FROM {rows})",
        raw={name: (f"v[{i}]", "VARCHAR") for i, name in enumerate(names, start=1)},
        extras=f"nullif(json_merge_patch(text, {nothing})::VARCHAR, '{{}}')",
        place=("file", "line"),
        bad_lines=bad_lines,
        blank_rows=False,
    )
    counts = ", ".join(f"count({group.raw[name][0]})" for name in table.required)
    found = con.execute(f"SELECT count(*), {counts} FROM {group.source}").fetchall()[0]
    missing = [name for name, count in zip(table.required, found[1:], strict=True) if not count]
    if found[0] and missing:
        keys = con.execute(
            f"SELECT DISTINCT unnest(json_keys(text)) AS key FROM {group.source} ORDER BY key"
        ).fetchall()
        raise missing_columns(table, files[0], missing, [str(key) for (key,) in keys])
    return group


def _drop_bad_json(con: duckdb.DuckDBPyConnection, staged: Path) -> list[int]:
    """Rewrite a staged file without the lines that are no JSON objects, if it has any. Returns their numbers."""
    is_row = "CASE WHEN json_valid(text) THEN json_type(text) = 'OBJECT' ELSE false END"
    rows = f"FROM read_parquet({literal(str(staged))}) WHERE"
    bad = [line for (line,) in con.execute(f"SELECT line {rows} NOT {is_row} ORDER BY line").fetchall()]
    if bad:
        good = staged.with_suffix(".good")
        con.execute(f"COPY (SELECT * {rows} {is_row}) TO {literal(str(good))} (FORMAT parquet)")
        good.replace(staged)
    return bad


def _stage_lines(file: Path, to: Path, encoding: str) -> None:
    """Write each line that isn't blank, with its number."""
    schema = pa.schema([("text", pa.string()), ("line", pa.int64())])
    texts: list[str] = []
    numbers: list[int] = []
    seen = False
    with pq.ParquetWriter(to, schema, use_dictionary=False) as writer, file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 and encoding == "utf-8" else encoding).strip()
            except UnicodeDecodeError:
                raise not_encoded(file, number, encoding) from None
            if text:
                texts.append(text)
                numbers.append(number)
            if len(texts) == _LINES_PER_BATCH:
                writer.write_table(pa.table([texts, numbers], schema=schema))
                seen, texts, numbers = True, [], []
        writer.write_table(pa.table([texts, numbers], schema=schema))
    if not (seen or texts):
        raise empty(file)
