"""Features as columns of numbers, one file each: what was counted is put in its place, so that nothing wide is sorted
or joined, and a million customers' need not lie in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data.lake import BATCH, Reading
from controltower.profiles.features import SOURCES, complete
from controltower.profiles.portable import DAY
from controltower.profiles.rolling.step import Step
from controltower.profiles.rolling.touched import Chosen

_WIDTH = np.dtype(np.float64).itemsize
_NAMES = [f.name for features in SOURCES.values() for f in features]  # of what is counted


@cache
def _completing() -> tuple[pa.Schema, str]:
    """The columns of all features, and the SQL of those that are made of `_counted`: compiling takes long.

    What is there needn't pass through the engine.
    """
    counted = ibis.table({"customer_id": "string", **dict.fromkeys(_NAMES, "float64")}, name="_counted")
    whole = complete(counted, datetime.min.replace(tzinfo=UTC))
    made = whole.drop("customer_id", "as_of", *_NAMES)
    return whole.schema().to_pyarrow(), str(ibis.to_sql(made, dialect="duckdb"))


class Columns:
    """`empty`: what a feature is for a customer without rows, where that is known (NaN: unknown)."""

    def __init__(self, folder: Path, chosen: Chosen, empty: Mapping[str, float], step: Step | None = None) -> None:
        self._folder, self._chosen, self._empty, self._step = folder, chosen, empty, step

    def put(self, source: str, counted: Iterator[pa.RecordBatch]) -> None:
        """Features of one source: `counted` are those of the customers who are counted anew, by number."""
        columns = {f.name: np.full(len(self._chosen.ids), np.nan) for f in SOURCES[source]}
        for batch in counted:
            places = batch["customer_id"].to_numpy()
            for name, column in columns.items():
                column[places] = batch[name].to_numpy(zero_copy_only=False)
        if self._step:
            self._take_over(self._step, source, columns)
        for name, column in columns.items():
            if name in self._empty:
                column[np.isnan(column)] = self._empty[name]
            column.tofile(self._folder.joinpath(name))

    def rows(self, reading: Reading, as_of: datetime) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """customer_id, as_of, all FEATURES and lifecycle of all members, ordered by customer_id."""
        schema, query = _completing()
        return schema, self._batches(reading, schema, query, as_of)

    def _batches(self, reading: Reading, schema: pa.Schema, query: str, as_of: datetime) -> Iterator[pa.RecordBatch]:
        chosen = self._chosen
        for start in range(0, len(chosen.ids), BATCH):
            values = [pa.array(self._read(name, start), from_pandas=True) for name in _NAMES]
            rows = pa.table([chosen.ids.slice(start, BATCH), *values], names=["customer_id", *_NAMES])
            members = chosen.members[start : start + BATCH]
            if not members.all():
                rows = rows.take(pa.array(np.flatnonzero(members)))
            moment = pa.repeat(pa.scalar(as_of, schema.field("as_of").type), len(rows))
            rows = rows.append_column("as_of", moment)
            made = reading.run(query, {"_counted": rows})
            columns = [made[name] if name in made.column_names else rows[name] for name in schema.names]
            yield from pa.table(columns, schema=schema).to_batches()

    def _read(self, name: str, start: int) -> np.ndarray:
        return np.fromfile(self._folder.joinpath(name), np.float64, BATCH, offset=start * _WIDTH)

    def _take_over(self, step: Step, source: str, columns: dict[str, np.ndarray]) -> None:
        """Put in what the features were before of those whose facts weren't counted anew; ages grow with the step."""
        chosen, days = self._chosen, self._chosen.of(source)
        had = chosen.rows >= 0
        # of events only those of the longest window were counted again: the last or first may be an earlier one
        partly = had & (days > 0) & ~chosen.moved if source == "events" else np.zeros_like(had)
        looks = {name: chosen.looks[name].days for name in columns}
        anew = {window: ~had | (days >= window) for window in set(looks.values())}
        before = pq.read_table(step.file, columns=list(columns), use_threads=False, pre_buffer=False)
        for feature in SOURCES[source]:
            counted, held = columns[feature.name], before[feature.name].to_numpy()[chosen.rows]
            taken = anew[looks[feature.name]]
            if feature.age:  # whole seconds again, so that it is the same number as if it were counted
                held = np.divide(np.rint(held * DAY) + step.days * DAY, DAY)
                nearest = np.fmin if feature.age == "last" else np.fmax
                counted[partly] = nearest(counted[partly], held[partly])
                taken = taken | partly
            columns[feature.name] = np.where(taken, counted, held)
