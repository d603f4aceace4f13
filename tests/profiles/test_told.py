"""What customers told of themselves, in the many ways shops write it."""

from __future__ import annotations

from datetime import date

import ibis
import pyarrow as pa
import pytest
from controltower.profiles.told import told


@pytest.mark.parametrize(
    ("given", "means"),
    [("F", "female"), (" 여성", "female"), ("man", "male"), ("non-binary", "non-binary"), ("U", None), ("미상", None),
     ("Prefer not to say", None), (" ", None), (None, None)],
)  # fmt: skip
def test_a_gender(given: str | None, means: str | None) -> None:
    rows = pa.table(
        {
            "customer_id": ["c"],
            "gender": pa.array([given], pa.string()),
            "birth_date": pa.array([date(1990, 6, 16)], pa.date32()),
        }
    )
    found = told(ibis.memtable(rows), date(2026, 6, 15)).to_pyarrow().to_pylist()
    assert found == [{"customer_id": "c", "told_gender": means, "told_age": 35}]
