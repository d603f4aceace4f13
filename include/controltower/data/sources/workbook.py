"""An Excel workbook as Parquet of texts: all its sheets one below the other; each one's first row names the columns."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
from openpyxl.utils.exceptions import InvalidFileException

from controltower.errors import BadSource

_BATCH = 20_000  # rows


def stage_workbook(file: Path, to: Path) -> None:
    """Raises BadSource where it is no workbook, or its sheets have different columns."""
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    except (OSError, KeyError, zipfile.BadZipFile, InvalidFileException):
        raise BadSource(f"{file} is not readable as a workbook.", "Save it again as .xlsx, or as CSV.") from None
    names: list[str] = []
    writer: pq.ParquetWriter | None = None
    try:
        for sheet in book.worksheets:
            rows = sheet.iter_rows(values_only=True)
            header = [str(name).strip() for name in next(rows, ()) if name is not None]
            if not header:
                continue
            if names and header != names:
                raise BadSource(f"The sheets of {file} have different columns.", "Save each as a file of its own.")
            names = header
            schema = pa.schema([(name, pa.string()) for name in names])
            writer = writer or pq.ParquetWriter(to, schema, compression="lz4")
            for batch in _batches(rows):
                texts = [[_text(row[i]) if i < len(row) else None for row in batch] for i in range(len(names))]
                writer.write_table(pa.table(texts, schema=schema))
    finally:
        book.close()
        if writer:
            writer.close()
    if not writer:
        raise BadSource(f"{file} is empty.", "Leave the file out where there is no data.")


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _text(value: Any) -> str | None:
    """Numbers as people write them: a workbook holds 17850 as 17850.0."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat(sep=" ") if isinstance(value, datetime) else str(value)
