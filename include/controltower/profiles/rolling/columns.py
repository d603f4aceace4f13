"""Features as columns of numbers, one file each: what was counted is put in its place, so that nothing wide is sorted
or joined, and a million customers' need not lie in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data.lake import BATCH, Reading
from controltower.profiles.features import SOURCES, complete
from controltower.profiles.features.feature import Feature
from controltower.profiles.portable import DAY
from controltower.profiles.rolling.step import Step
from controltower.profiles.rolling.touched import Chosen

_WIDTH = np.dtype(np.float64).itemsize


class Columns:
    """`empty`: what a feature is for a customer without rows, where that is known (NaN: unknown)."""

    def __init__(self, folder: Path, chosen: Chosen, empty: Mapping[str, float], step: Step | None = None) -> None:
        self._folder, self._chosen, self._empty, self._step = folder, chosen, empty, step

    def put(self, features: Sequence[Feature], counted: Iterator[pa.RecordBatch]) -> None:
        """Features of one source: `counted` are those of the customers who are counted anew, by number."""
        fresh = {f.name: np.full(len(self._chosen.ids), np.nan) for f in features}
        for batch in counted:
            places = batch["customer_id"].to_numpy()
            for name, column in fresh.items():
                column[places] = batch[name].to_numpy(zero_copy_only=False)
        for feature in features:
            column = fresh.pop(feature.name)
            if self._step:
                column = self._with_earlier(feature, column, self._step)
            if feature.name in self._empty:
                column[np.isnan(column)] = self._empty[feature.name]
            column.tofile(self._folder / feature.name)

    def read(self, name: str, start: int = 0, count: int = -1) -> np.ndarray:
        return np.fromfile(self._folder / name, np.float64, count, offset=start * _WIDTH)

    def rows(self, reading: Reading, as_of: datetime) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """customer_id, as_of, all FEATURES and lifecycle of all members, ordered by customer_id."""
        names = [f.name for features in SOURCES.values() for f in features]
        counted = ibis.table({"customer_id": "string", **dict.fromkeys(names, "float64")}, name="_counted")
        expression = complete(counted, as_of)
        return expression.schema().to_pyarrow(), self._batches(reading, names, expression)

    def _batches(self, reading: Reading, names: Sequence[str], expression: ir.Table) -> Iterator[pa.RecordBatch]:
        query, chosen = reading.sql(expression), self._chosen
        for start in range(0, len(chosen.ids), BATCH):
            members = pa.array(chosen.members[start : start + BATCH])
            values = [pa.array(self.read(name, start, BATCH), from_pandas=True) for name in names]
            rows = pa.table([chosen.ids.slice(start, BATCH), *values], names=["customer_id", *names])
            yield from reading.run(query, {"_counted": rows.filter(members)}).to_batches()

    def _with_earlier(self, feature: Feature, fresh: np.ndarray, step: Step) -> np.ndarray:
        """What was counted anew, and of the others what it was before; ages grow with the step."""
        chosen = self._chosen
        touched = chosen.of(feature.source)
        if touched.all() and not feature.age:
            return fresh
        before = self._before(feature, step)
        if feature.source == "events" and feature.age:  # earlier events than the longest window's weren't counted again
            same = touched & ~chosen.moved
            both = np.fmin(fresh, before) if feature.age == "last" else np.fmax(fresh, before)
            fresh = np.where(same, both, fresh)
        return np.where(touched, fresh, before)

    def _before(self, feature: Feature, step: Step) -> np.ndarray:
        chosen = self._chosen
        found = np.full(len(chosen.ids), np.nan)
        had = chosen.rows >= 0
        column = pq.read_table(step.file, columns=[feature.name])[feature.name].to_numpy()
        found[had] = column[chosen.rows[had]]
        if feature.age:  # whole seconds again, so that it is the same number as if it were counted
            found = np.divide(np.rint(found * DAY) + step.days * DAY, DAY)
        return found
