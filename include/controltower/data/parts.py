"""Writing parts: rows become immutable Parquet files, one per run of equal dates, which nobody sees yet."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from controltower.data.contract import CONTRACT, SCHEMA_VERSION
from controltower.data.manifest import Part
from controltower.data.stores import Store, private

_ENDING = ".parquet"
LATE_WINDOW = timedelta(days=7)  # events are unique by their id within an interval and this long around it


def begun(store: Store, table: str, *, instead_of: str | None = None) -> tuple[str, BinaryIO]:
    """A new part's name, and the file to write it to: its owner's alone.

    `instead_of`: the part of which it holds what an erasure left; its name tells (`first_name`).
    """
    stem = f"{table}/part" if instead_of is None else first_name(instead_of).removesuffix(_ENDING)
    name = f"{stem}-{uuid.uuid4().hex}{_ENDING}"
    private(store.folder, store.folder / table)
    return name, os.fdopen(os.open(store.folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")


def first_name(file: str) -> str:
    """The name that a part had before any erasure."""
    table, name = file.removesuffix(_ENDING).rsplit("/", 1)
    return f"{table}/{'-'.join(name.split('-')[:2])}{_ENDING}"


def finished(store: Store, name: str, sink: BinaryIO) -> None:
    """Hand the written part over to the store, safe from a loss of power."""
    sink.flush()
    os.fsync(sink.fileno())
    sink.close()
    store.add(name)


class PartWriter:
    """Writes pieces to one part per run of equal dates."""

    def __init__(self, store: Store, table: str, schema: pa.Schema) -> None:
        self._store, self._table, self._schema = store, table, schema
        self._open: pq.ParquetWriter | None = None
        self._file, self._rows = "", 0
        self._date: str | None = None
        self._parts: list[Part] = []

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(self._parts)

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._open is None and kind is None and not self._parts:
            self._start(None)  # an empty table still tells its columns
        self._finish()

    def write(self, date: str | None, piece: pa.Table) -> None:
        if self._open is None or date != self._date:
            self._finish()
            self._start(date)
        assert self._open is not None
        self._open.write_table(piece)
        self._rows += piece.num_rows

    def _start(self, date: str | None) -> None:
        self._file, self._sink = begun(self._store, self._table)
        self._date, self._rows = date, 0
        self._open = pq.ParquetWriter(self._sink, self._schema)

    def _finish(self) -> None:
        if self._open is not None:
            self._open.close()
            finished(self._store, self._file, self._sink)
            self._open = None
            self._parts.append(Part(self._file, self._date, self._rows))


def by_date(rows: pa.Table, happened: str | None) -> Iterator[tuple[str | None, pa.Table]]:
    """Runs of rows of one UTC date, in the order they come."""
    if happened is None or not rows.num_rows:
        if rows.num_rows:
            yield None, rows
        return
    dates = pc.run_end_encode(rows[happened].cast(pa.date32()).combine_chunks())
    start = 0
    for end, day in zip(dates.run_ends.to_pylist(), dates.values.to_pylist(), strict=True):
        yield day.isoformat() if day else None, rows.slice(start, end - start)
        start = end


def around(parts: Iterable[Part], first: date, last: date) -> list[Part]:
    """The parts that events of these dates may be in already."""
    low, high = (first - LATE_WINDOW).isoformat(), (last + LATE_WINDOW).isoformat()
    return [p for p in parts if p.date is None or low <= p.date <= high]


def schema_of(table: str, given: pa.Schema) -> pa.Schema:
    """The schema that a table's files have: the contract's, else as given; with table and schema version."""
    if table in CONTRACT:
        return CONTRACT[table].schema
    return given.with_metadata({"controltower.table": table, "controltower.schema": str(SCHEMA_VERSION)})
