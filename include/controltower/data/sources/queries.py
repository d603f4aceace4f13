"""Tables that must be derived: a SELECT in DuckDB's words over a folder's files, such as orders from sale lines.

The query sees the source's `files` by their names and nothing else: its connection can't reach another file, the
network or the settings. Columns of CSV and of workbooks (.xlsx: all sheets, the first row names the columns) are text;
of .txt and .jsonl it sees `text` and `line`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import duckdb

from controltower import settings
from controltower.data.csv_file import OddLine, read_header, stage_csv
from controltower.data.scratch import bounded, bounds
from controltower.data.sources.base import Input, Wanted
from controltower.data.sources.mapping import TableMapping
from controltower.data.sources.workbook import stage_workbook
from controltower.data.sql import listed, literal, quoted
from controltower.data.staging import stage_lines
from controltower.errors import BadSource


def run(
    asked: dict[str, TableMapping], named: dict[str, list[Path]], wanted: Wanted, encoding: str, delimiter: str
) -> dict[str, Input]:
    """Write each table's answer as Parquet into the scratch folder; it is as old as the newest file."""
    folder = wanted.folder / "queries"
    folder.mkdir()
    newest = max((file.stat().st_mtime for files in named.values() for file in files), default=0.0)
    views = {name: _view(name, files, folder, encoding, delimiter) for name, files in named.items()}
    read = sorted({str(file) for files in named.values() for file in files})
    found = {}
    with duckdb.connect(config=bounds(settings.load(), folder)) as con, bounded():
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"SET allowed_paths = {listed(read)}")
        con.execute(f"SET allowed_directories = {listed([str(folder)])}")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
        for view in views.values():
            con.execute(view)
        for table, mapping in asked.items():
            target = folder / f"{table}.parquet"
            _write(con, table, str(mapping.query), target, named)
            os.utime(target, (newest, newest))
            found[table] = Input([target], mapping)
    return found


def _write(con: duckdb.DuckDBPyConnection, table: str, query: str, target: Path, named: dict[str, list[Path]]) -> None:
    remedy = f"It may read {', '.join(named) or 'nothing: name files under `files:`'}; columns of CSV are text."
    try:
        if [s.type for s in con.extract_statements(query)] != [duckdb.StatementType.SELECT]:
            raise BadSource(f"The query of {table} is not one SELECT.", remedy)
        con.sql(query).write_parquet(str(target))
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.ConversionException, duckdb.InvalidInputException) as e:  # their texts quote the value
        if isinstance(e, duckdb.InvalidInputException) and "Could not parse" not in str(e):
            raise BadSource(f"The query of {table} can't run: {type(e).__name__} in DuckDB.", remedy) from None
        raise BadSource(
            f"The query of {table} meets a value that it can't convert{_place(con, str(e), named, target.parent)}.",
            "Mend the value, or convert with try_cast or try_strptime: it is empty then, and where a column needs one"
            " its row is in quarantine.",
        ) from None
    except (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException, duckdb.PermissionException) as e:
        raise BadSource(f"The query of {table} can't run: {str(e).splitlines()[0]}", remedy) from None
    except duckdb.Error as e:  # others' texts quote values, too
        raise BadSource(f"The query of {table} can't run: {type(e).__name__} in DuckDB.", remedy) from None


def _place(con: duckdb.DuckDBPyConnection, error: str, named: dict[str, list[Path]], folder: Path) -> str:
    """Where the value that an error quotes stands first in a CSV file; of other files lines aren't known."""
    quoted_value = re.search(r"(?:string|format:|range:) (['\"])(.*?)\1(?=,| to | when | according|$)", error)
    for name, number, file in ((name, n, file) for name, files in named.items() for n, file in enumerate(files)):
        if quoted_value and file.suffix == ".csv":
            found = con.execute(
                f"SELECT min(_line) FROM read_parquet({literal(_staged(folder, name, number))})"
                " WHERE list_contains([*COLUMNS('^c[0-9]+$')], $1)",
                [quoted_value[2]],
            ).fetchall()
            if found[0][0]:
                return f": {file} line {found[0][0]}"
    return ""


def _staged(folder: Path, name: str, number: int) -> str:
    return str(folder / f"{name}-{number}.parquet")


def _view(name: str, files: list[Path], folder: Path, encoding: str, delimiter: str) -> str:
    """SQL of a view of these files, whatever their order of columns."""
    selects = []
    for number, file in enumerate(files):
        staged = Path(_staged(folder, name, number))
        columns = "*"
        match file.suffix:
            case ".parquet":
                staged = file
            case ".csv":
                names = read_header(file, encoding, delimiter)
                _whole(file, stage_csv(file, staged, encoding, delimiter))
                columns = ", ".join(f"c{i} AS {quoted(column)}" for i, column in enumerate(names))
            case ".txt" | ".jsonl" | ".ndjson":
                stage_lines(file, staged, encoding)
            case ".xlsx":
                stage_workbook(file, staged)
            case _:
                raise BadSource(f"{file} can't be read by a query.", "Let `files:` name .csv, .parquet, .txt or .xlsx.")
        selects.append(f"SELECT {columns} FROM read_parquet({literal(str(staged))})")
    return f"CREATE VIEW {quoted(name)} AS {' UNION ALL BY NAME '.join(selects)}"


def _whole(file: Path, odd: list[OddLine]) -> None:
    if odd:
        raise BadSource(
            f"{file} line {odd[0].line} has {odd[0].found}, and {len(odd) - 1:,} more such lines.",
            "Mend it, or take it out: a query that lacks lines would make wrong rows of the others.",
        )
