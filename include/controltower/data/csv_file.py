"""CSV files: checked as bytes, then staged as all-text Parquet with the line on which each row begins."""

from __future__ import annotations

import codecs
import csv
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from controltower.errors import BadSource

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LONGEST_ROW = 1 << 24  # bytes; files are read in blocks of this size

_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")


LONGEST_TEXT = 10_000  # characters kept of a line that is no row


class _OddRecord(NamedTuple):
    """A record with too many or few fields: its number in the file, the line breaks inside it, what was found."""

    number: int
    breaks: int
    found: str
    text: str


class OddLine(NamedTuple):
    """A line with too many or few fields: on which it begins, what was found, and the line (it may be personal)."""

    line: int
    found: str
    text: str


def empty(file: Path) -> BadSource:
    return BadSource(f"{file} is empty.", "Leave the file out where there is no data.")


def compressed(file: Path) -> BadSource:
    return BadSource(
        f"{file} is compressed, or a spreadsheet.",
        "Unpack it or export it as CSV: only plain files and Parquet are read.",
    )


def not_encoded(file: Path, line: int, encoding: str) -> BadSource:
    return BadSource(
        f"{file} is not {encoding.upper()}: line {line} can't be read.",
        "Save it as UTF-8, or name its encoding in the source's YAML (source.yaml), as in `encoding: cp949`.",
    )


def too_long(file: Path, line: int) -> BadSource:
    return BadSource(
        f"{file} has a row of over {LONGEST_ROW / 2**20:g} MB, about line {line}.",
        "Look whether a line break or a closing quote is missing there, and write the file again.",
    )


def read_header(file: Path, encoding: str, delimiter: str = ",") -> list[str]:
    """The column names of a CSV file. Raises BadSource where it is empty, badly encoded, or has no good header."""
    names = [name.strip() for name in _header(file, encoding, delimiter)]
    if not any(names):
        raise empty(file)
    if len(names) == 1:
        _check_delimiter(file, encoding, delimiter)
    for name in names:
        if not name or names.count(name) > 1:
            what = f"the column {name!r} twice" if name else "a column without a name"
            raise BadSource(f"{file} has {what} in its first line.", "The first line names the columns, each once.")
    return names


def _header(file: Path, encoding: str, delimiter: str) -> list[str]:
    """The first row, as it stands."""
    try:
        with file.open("rb") as start:
            head = start.read(LONGEST_ROW + 1)
        if head.startswith(_COMPRESSED):
            raise compressed(file)
        text = codecs.getincrementaldecoder(_decoding(file, encoding))().decode(head, len(head) <= LONGEST_ROW)
        if len(head) > LONGEST_ROW and "\n" not in text:
            raise too_long(file, 1)
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error):
        _check_bytes(file, encoding, delimiter)  # knows the line
        raise not_encoded(file, 1, encoding) from None
    except LookupError:
        raise BadSource(
            f"The source's YAML names an unknown encoding, {encoding!r}.", "Write utf-8, cp949 or cp1252."
        ) from None
    except OSError as e:
        raise BadSource(f"{file} can't be read: {e.strerror}.", "Check that it is there and readable.") from None


def _check_delimiter(file: Path, encoding: str, delimiter: str) -> None:
    """One column may be all there is, or the file is parted by something else."""
    counts = {other: len(_header(file, encoding, other)) for other in DELIMITERS}
    best = max(counts, key=lambda other: counts[other])
    if counts[best] > 1:
        raise BadSource(
            f"{file} has one column if parted by {DELIMITERS[delimiter]}, but {counts[best]} by {DELIMITERS[best]}.",
            f"Say so in the source's YAML: `delimiter: {json.dumps(best)}`.",
        )


def stage_csv(file: Path, to: Path, encoding: str, delimiter: str = ",") -> list[OddLine]:
    """Write the file's rows as text columns c0, c1, ... and `_line`. Returns lines with too many or few fields.

    Raises BadSource for a wrong encoding, NUL bytes or a quote that never closes.
    """
    quotes = _check_bytes(file, encoding, delimiter)
    odd: list[_OddRecord] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        found = f"{row.actual_columns} fields, {row.expected_columns} expected"
        text = row.text or ""
        odd.append(_OddRecord(row.number, text.count("\n"), found, text[:LONGEST_TEXT]))
        return "skip"

    header = _header(file, encoding, delimiter)
    try:
        reader = pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=LONGEST_ROW, encoding=_plain(file, encoding)),
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=quotes > 0, ignore_empty_lines=False, invalid_row_handler=skip
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
        return _write(reader, to, len(header), odd, quotes > 0)
    except pa.ArrowInvalid:  # its text may quote a row, and with it personal data
        raise BadSource(
            f"{file} can't be read as CSV: it may have an open quote, or a row of over {LONGEST_ROW / 2**20:g} MB.",
            "Export it again as CSV.",
        ) from None


def _write(
    reader: pa.csv.CSVStreamingReader, to: Path, width: int, odd: list[_OddRecord], quotes: bool
) -> list[OddLine]:
    """Write batches with line numbers: a row's record number, moved down by the line breaks inside earlier values."""
    schema = pa.schema([*((f"c{i}", pa.string()) for i in range(width)), ("_line", pa.int64())])
    record, breaks, done = 2, 0, 0
    lines: list[OddLine] = []
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
            lines += [OddLine(n, o.found, o.text) for n, o in zip(at[is_odd].tolist(), odd[done:last], strict=True)]
            writer.write_table(pa.table([*batch.columns, at[~is_odd]], schema=schema))
            record, breaks, done = record + len(is_odd), breaks + int(within.sum()), last
    for o in odd[done:]:  # after the last good row
        lines.append(OddLine(o.number + breaks, o.found, o.text))
        breaks += o.breaks
    return lines


def _breaks(column: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.count_substring(column, "\n"), 0).to_numpy(zero_copy_only=False)


def _check_bytes(file: Path, encoding: str, delimiter: str) -> int:
    """Read the file once as bytes. Returns how many quotes it has."""
    decoder = codecs.getincrementaldecoder(_decoding(file, encoding))()
    quotes, lines, length = 0, 1, 0
    with file.open("rb") as blocks:
        for block in iter(lambda: blocks.read(LONGEST_ROW), b""):
            quotes += block.count(b'"')
            if b"\0" in block:
                raise BadSource(f"{file} holds NUL bytes; it may be UTF-16 or no text at all.", "Save it as UTF-8.")
            try:
                decoder.decode(block)
            except UnicodeDecodeError as e:
                raise not_encoded(file, lines + block[: e.start].count(b"\n"), encoding) from None
            first = block.find(b"\n")
            length += len(block) if first < 0 else first
            if length > LONGEST_ROW:
                raise too_long(file, lines)
            if first >= 0:
                length = len(block) - 1 - block.rfind(b"\n")
                lines += block.count(b"\n")
    if quotes % 2:
        _check_closed(file, encoding, delimiter)
    return quotes


def _check_closed(file: Path, encoding: str, delimiter: str) -> None:
    """An odd number of quotes: legal where one stands inside a plain value (5" pipe), else the rest is swallowed."""
    with file.open(encoding=_decoding(file, encoding), newline="") as text:
        rows = csv.reader(text, strict=True, delimiter=delimiter)
        began = 1
        try:
            for _ in rows:
                began = rows.line_num + 1
        except csv.Error:
            raise BadSource(
                f"{file} has a quoted value that never ends properly, in the row of line {began}.",
                'Close it, and write a quote inside a value as "".',
            ) from None


def begins_with_mark(file: Path) -> bool:
    """Whether a file begins with UTF-8's byte order mark: then it is UTF-8, whatever the source says of the others."""
    with file.open("rb") as start:
        return start.read(3) == codecs.BOM_UTF8


def _decoding(file: Path, encoding: str) -> str:
    """The codec to read with: a byte order mark before UTF-8 is no part of the first name."""
    return "utf-8-sig" if _plain(file, encoding) == "utf8" else encoding


def _plain(file: Path, encoding: str) -> str:
    """pyarrow reads UTF-8 itself under this name, and anything else through Python's codec."""
    known = encoding.lower() in ("utf-8", "utf8", "utf_8")
    return "utf8" if known or begins_with_mark(file) else encoding
