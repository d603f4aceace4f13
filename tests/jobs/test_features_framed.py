"""Features become a frame that holds nothing of what they came in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from controltower.jobs.predictions.past import framed
from controltower.profiles.features import NAMES

ROWS = 5_000  # a batch


def test_features_are_framed_in_their_order_and_their_batches_are_let_go() -> None:
    before = pa.total_allocated_bytes()
    # as an engine hands them over: of a batch from elsewhere, a column that is kept keeps all of them
    frame = framed(pa.RecordBatchReader.from_stream(_batches(2)), 2 * ROWS)
    kept = pa.total_allocated_bytes() - before
    assert frame.index.tolist() == [f"c{i:05}" for i in range(2 * ROWS)]
    assert frame.columns.tolist() == list(NAMES) and set(map(str, frame.dtypes)) == {"float64"}
    assert frame[NAMES[0]].tolist() == list(range(2 * ROWS))
    assert np.isnan(frame[NAMES[1]][0::2]).all() and (frame[NAMES[1]][1::2] == 0.5).all()
    assert kept < 0.1 * frame.to_numpy().nbytes
    assert framed([], 0).shape == (0, len(NAMES))


def _batches(count: int) -> pa.RecordBatchReader:
    """A count, a number that every other customer lacks, and nothing known."""
    types = {"customer_id": pa.string(), **dict.fromkeys(NAMES, pa.float64()), NAMES[0]: pa.int64()}
    schema = pa.schema(list(types.items()))

    def made(first: int) -> pa.RecordBatch:
        n = np.arange(first, first + ROWS)
        known = {
            "customer_id": pa.array([f"c{i:05}" for i in n.tolist()]),
            NAMES[0]: pa.array(n),
            NAMES[1]: pa.array(np.full(ROWS, 0.5), mask=n % 2 == 0),
        }
        columns = [known.get(name, pa.nulls(ROWS, type_)) for name, type_ in types.items()]
        return pa.record_batch(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, (made(i * ROWS) for i in range(count)))
