"""The first rows of a file, as a file of the same kind: enough to judge a source by before all of it is read."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data.csv_file import read_header


def heads(files: list[Path], folder: Path, rows: int, encoding: str) -> tuple[list[Path], bool]:
    """Files with the first rows of the newest files, about `rows` in all, and whether that is less than all there is.

    A row keeps its line number, a file its name and time.
    """
    taken: list[Path] = []
    left, whole = rows, True
    for number, file in enumerate(sorted(files, key=lambda f: f.stat().st_mtime, reverse=True)):
        if left <= 0:
            return taken, False
        target = folder / str(number) / file.name
        target.parent.mkdir(parents=True)
        given = _parquet(file, target, left) if file.suffix == ".parquet" else _lines(file, target, left, encoding)
        whole = whole and given <= left
        left -= given
        os.utime(target, (file.stat().st_mtime, file.stat().st_mtime))
        taken.append(target)
    return taken, whole


def their_columns(file: Path, encoding: str, delimiter: str = ",") -> list[str]:
    """The names of a file's columns; of JSON Lines the keys of the first thousand."""
    if file.suffix == ".csv":
        return read_header(file, encoding, delimiter)
    if file.suffix == ".parquet":
        return list(pq.read_schema(file).names)
    names: dict[str, None] = {}
    with file.open(encoding=encoding, errors="replace") as lines:
        for line in islice(lines, 1000):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            names |= dict.fromkeys(found if isinstance(found, dict) else ())
    return list(names)


def _parquet(file: Path, target: Path, rows: int) -> int:
    """Returns how many rows were written, one more where there are more."""
    try:
        source = pq.ParquetFile(file)
        with source, pq.ParquetWriter(target, source.schema_arrow) as writer:
            done = 0
            for batch in source.iter_batches(batch_size=min(rows, 50_000)):
                writer.write_batch(batch.slice(0, rows - done))
                done += min(batch.num_rows, rows - done)
                if done == rows:
                    return rows + (source.metadata.num_rows > rows)
            return done
    except (OSError, pa.ArrowException):  # whoever reads it says what is wrong
        target.write_bytes(file.read_bytes())
        return 0


def _lines(file: Path, target: Path, rows: int, encoding: str) -> int:
    """The same of text, decoded as whoever reads it later does; what can't be decoded is left to it."""
    kept: list[bytes] = []
    with file.open("rb") as lines:

        def text() -> Iterator[str]:
            for line in lines:
                kept.append(line)
                yield line.decode(encoding, errors="replace")

        done = 0
        if file.suffix == ".csv":
            try:
                done = sum(1 for _ in islice(csv.reader(text()), rows + 1)) - 1
            except csv.Error:
                kept += lines
        else:
            done = sum(1 for _ in islice(text(), rows))
        target.write_bytes(b"".join(kept))
        return done + (done >= rows and any(line.strip() for line in lines))
