from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from controltower.campaigns.specs import Recommend
from controltower.errors import BadSettings
from controltower.jobs.gathering import _hours, _picks


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64()])
def test_no_best_hour_is_the_usual_one(kind: pa.DataType) -> None:
    assert _hours(pa.chunked_array([[9, None, 20]], kind)).to_pylist() == [9, 10, 20]


def test_no_number_is_no_best_hour() -> None:
    assert _hours(pa.chunked_array([[9.0, float("nan"), float("inf")]])).to_pylist() == [9, 10, 10]


@pytest.mark.parametrize(
    ("placement", "told"), [("offer", "again: the placement offer shows collections"), ("for_yuo", "no placement")]
)
def test_a_message_shows_products(placement: str, told: str) -> None:
    spec = SimpleNamespace(name="again", recommend=Recommend(placement=placement))
    with pytest.raises(BadSettings, match=told):
        _picks(cast(Any, None), cast(Any, spec), pa.chunked_array([["c1"]]))
