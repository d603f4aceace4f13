from __future__ import annotations

import pyarrow as pa
import pytest
from controltower.jobs.gathering import _hours


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64()])
def test_no_best_hour_is_the_usual_one(kind: pa.DataType) -> None:
    assert _hours(pa.chunked_array([[9, None, 20]], kind)).to_pylist() == [9, 10, 20]


def test_no_number_is_no_best_hour() -> None:
    assert _hours(pa.chunked_array([[9.0, float("nan"), float("inf")]])).to_pylist() == [9, 10, 10]
