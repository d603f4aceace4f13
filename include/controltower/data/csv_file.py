"""CSV files: checked as bytes, then staged as all-text Parquet with the line on which each row begins."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from controltower.errors import BadSource

_BLOCK = 1 << 24  # bytes; also the longest row that can be read


class _OddRecord(NamedTuple):
    """A record with too many or few fields: its number in the file, the line breaks inside it, what was found."""

    number: int
    breaks: int
    found: str


def empty(file: Path) -> BadSource:
    return BadSource(f"{file} is empty.", "Leave the file out where there is no data.")


def not_encoded(file: Path, line: int, encoding: str) -> BadSource:
    return BadSource(
        f"{file} is not {encoding.upper()}: line {line} can't be read.",
        "Save it as UTF-8, or name its encoding in the source's YAML (source.yaml), as in `encoding: cp949`.",
    )


def read_header(file: Path, encoding: str) -> list[str]:
    """The column names of a CSV file. Raises BadSource where it is empty, badly encoded, or has no good header."""
    try:
        with file.open(encoding=_decoding(encoding), newline="") as text:
            header = next(csv.reader(text), [])
    except (UnicodeDecodeError, csv.Error):
        _check_bytes(file, encoding)  # knows the line
        raise not_encoded(file, 1, encoding) from None
    except LookupError:
        raise BadSource(
            f"The source's YAML names an unknown encoding, {encoding!r}.", "Write utf-8, cp949 or cp1252."
        ) from None
    except OSError as e:
        raise BadSource(f"{file} can't be read: {e.strerror}.", "Check that it is there and readable.") from None
    names = [name.strip() for name in header]
    if not any(names):
        raise empty(file)
    for name in names:
        if not name or names.count(name) > 1:
            what = f"the column {name!r} twice" if name else "a column without a name"
            raise BadSource(f"{file} has {what} in its first line.", "The first line names the columns, each once.")
    return names


def stage_csv(file: Path, to: Path, encoding: str) -> list[tuple[int, str]]:
    """Write the file's rows as text columns c0, c1, ... and `_line`. Returns lines with too many or few fields.

    Raises BadSource for a wrong encoding, NUL bytes or a quote that never closes.
    """
    quotes = _check_bytes(file, encoding)
    odd: list[_OddRecord] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        found = f"{row.actual_columns} fields, {row.expected_columns} expected"
        odd.append(_OddRecord(row.number, (row.text or "").count("\n"), found))
        return "skip"

    with file.open(encoding=_decoding(encoding), newline="") as text:
        header = next(csv.reader(text))  # as it stands, with its spaces
    try:
        reader = pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK, encoding=_plain(encoding)),
            parse_options=pa.csv.ParseOptions(
                newlines_in_values=quotes > 0, ignore_empty_lines=False, invalid_row_handler=skip
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
        return _write(reader, to, len(header), odd, quotes > 0)
    except pa.ArrowInvalid:  # its text may quote a row, and with it personal data
        raise BadSource(
            f"{file} can't be read as CSV: it may have an open quote, or a row of over {_BLOCK >> 20} MB.",
            "Export it again as CSV.",
        ) from None


def _write(
    reader: pa.csv.CSVStreamingReader, to: Path, width: int, odd: list[_OddRecord], quotes: bool
) -> list[tuple[int, str]]:
    """Write batches with line numbers: a row's record number, moved down by the line breaks inside earlier values."""
    schema = pa.schema([*((f"c{i}", pa.string()) for i in range(width)), ("_line", pa.int64())])
    record, breaks, done = 2, 0, 0
    lines: list[tuple[int, str]] = []
    # no statistics: by them DuckDB 2.0.0 answers IS NULL wrong where all other values of a plain column are the same
    with pq.ParquetWriter(to, schema, use_dictionary=False, compression="lz4", write_statistics=False) as writer:
        for batch in reader:
            last = done
            while last < len(odd) and odd[last].number < record + batch.num_rows + last - done:
                last += 1
            is_odd = np.zeros(batch.num_rows + last - done, dtype=bool)
            is_odd[[o.number - record for o in odd[done:last]]] = True
            within = np.zeros(len(is_odd), dtype=np.int64)
            within[is_odd] = [o.breaks for o in odd[done:last]]
            if quotes:
                within[~is_odd] = sum(_breaks(column) for column in batch.columns)
            at = np.arange(record, record + len(is_odd)) + breaks + np.cumsum(within) - within
            lines += zip(at[is_odd].tolist(), (o.found for o in odd[done:last]), strict=True)
            writer.write_table(pa.table([*batch.columns, at[~is_odd]], schema=schema))
            record, breaks, done = record + len(is_odd), breaks + int(within.sum()), last
    for o in odd[done:]:  # after the last good row
        lines.append((o.number + breaks, o.found))
        breaks += o.breaks
    return lines


def _breaks(column: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.count_substring(column, "\n"), 0).to_numpy(zero_copy_only=False)


def _check_bytes(file: Path, encoding: str) -> int:
    """Read the file once as bytes. Returns how many quotes it has."""
    decoder = codecs.getincrementaldecoder(_decoding(encoding))()
    quotes, lines = 0, 1
    with file.open("rb") as blocks:
        for block in iter(lambda: blocks.read(_BLOCK), b""):
            quotes += block.count(b'"')
            if b"\0" in block:
                raise BadSource(f"{file} holds NUL bytes; it may be UTF-16 or no text at all.", "Save it as UTF-8.")
            try:
                decoder.decode(block)
            except UnicodeDecodeError as e:
                raise not_encoded(file, lines + block[: e.start].count(b"\n"), encoding) from None
            lines += block.count(b"\n")
    if quotes % 2:
        _check_closed(file, encoding)
    return quotes


def _check_closed(file: Path, encoding: str) -> None:
    """An odd number of quotes: legal where one stands inside a plain value (5" pipe), else the rest is swallowed."""
    with file.open(encoding=_decoding(encoding), newline="") as text:
        rows = csv.reader(text, strict=True)
        began = 1
        try:
            for _ in rows:
                began = rows.line_num + 1
        except csv.Error:
            raise BadSource(
                f"{file} has a quoted value that never ends properly, in the row of line {began}.",
                'Close it, and write a quote inside a value as "".',
            ) from None


def _decoding(encoding: str) -> str:
    """The codec to read with: a byte order mark before UTF-8 is no part of the first name."""
    return "utf-8-sig" if _plain(encoding) == "utf8" else encoding


def _plain(encoding: str) -> str:
    """pyarrow reads UTF-8 itself under this name, and anything else through Python's codec."""
    return "utf8" if encoding.lower() in ("utf-8", "utf8", "utf_8") else encoding
