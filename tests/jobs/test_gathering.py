from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from controltower.campaigns.specs import Recommend
from controltower.errors import BadSettings
from controltower.jobs.gathering import _hours, _picks


def best(tables: Any, channels: int) -> list[list[int]]:
    """The best hour of the week of each channel's table."""
    return [np.reshape(row, (channels, 168)).argmax(axis=1).tolist() for row in tables.to_pylist()]


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64()])
def test_no_best_hour_is_the_usual_one(kind: pa.DataType) -> None:
    scores = pa.table({"send_hour": pa.chunked_array([[9, None, 20]], kind)})
    assert best(_hours(scores, ["email"]), 1) == [[9], [10], [20]]


def test_no_number_is_no_best_hour() -> None:
    scores = pa.table({"send_hour": [9.0, float("nan"), float("inf")]})
    assert best(_hours(scores, ["push", "email"]), 2) == [[9, 9], [10, 10], [10, 10]]


@pytest.mark.parametrize("size", [168, -1])
def test_each_channel_has_its_own_table_where_there_is_one(size: int) -> None:
    """As scores have them, and as the lake gives them back."""
    week = {hour: np.eye(168, dtype=np.uint8)[hour].tolist() for hour in (30, 40, 50)}
    kind = pa.list_(pa.uint8(), size)
    scores = pa.table({
        "send_hour": [9, 9, None],
        "send_hours_push": pa.array([week[30], None, None], kind),
        "send_hours": pa.array([week[40], week[50], None], kind),
    })  # fmt: skip
    assert best(_hours(scores, ["push", "email", "in_app"]), 3) == [[30, 9, 40], [9, 9, 50], [10, 10, 10]]


@pytest.mark.parametrize(
    ("placement", "told"), [("offer", "again: the placement offer shows collections"), ("for_yuo", "no placement")]
)
def test_a_message_shows_products(placement: str, told: str) -> None:
    spec = SimpleNamespace(name="again", recommend=Recommend(placement=placement))
    with pytest.raises(BadSettings, match=told):
        _picks(cast(Any, None), cast(Any, spec), pa.chunked_array([["c1"]]))
