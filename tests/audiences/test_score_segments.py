"""AI segments: fixed sizes, and what came of them beside recency alone."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from controltower.audiences.score_segments import REST, closed, conversions, cut, names, table
from controltower.errors import BadSpec
from support.shop_tables import T


def people(count: int) -> np.ndarray:
    return np.array([f"c{n:05}" for n in range(count)])


def test_segments_have_their_names_and_sizes() -> None:
    assert names() == ["top_1", "top_1_to_5", "top_5_to_10", "top_10_to_25", "top_25_to_50", "rest"]
    scores = np.random.default_rng(1).random(1000)
    segment = cut(people(1000), scores)
    assert np.bincount(segment).tolist() == [10, 40, 50, 150, 250, 500]
    assert scores[segment == 0].min() > scores[segment == 1].max()
    assert names((0.005, 0.1)) == ["top_0.5", "top_0.5_to_10", REST]


@pytest.mark.parametrize("edges", [(), (0.1, 0.1), (0.2, 0.1), (0.0, 0.1), (0.5, 1.0)])
def test_edges_rise(edges: tuple[float, ...]) -> None:
    with pytest.raises(BadSpec, match="Segments can't end at"):
        names(edges)


def test_equal_scores_are_cut_by_id_and_unknown_ones_come_last() -> None:
    scores = np.array([0.5, 0.5, np.nan, 0.5, -np.inf])
    ids = np.array(["d", "a", "b", "c", "e"])
    assert cut(ids, scores, (0.2, 0.4, 0.8)).tolist() == [2, 0, 3, 1, 2]
    turned = cut(ids[::-1], scores[::-1], (0.2, 0.4, 0.8))[::-1]
    assert turned.tolist() == [2, 0, 3, 1, 2], "the rows' order doesn't matter"


def test_what_came_of_them() -> None:
    """Wilson's interval: of 10 customers none came: 0 to 27.8 %."""
    segment = np.repeat([0, 1, 3], [10, 20, 70])
    came = np.zeros(100)
    came[10:20], came[30:33] = 1, 1
    first, second, empty, fourth = conversions(segment, came, (0.1, 0.3, 0.31))
    assert first is not None and second is not None and fourth is not None and empty is None
    assert (first.rate, first.low, first.high) == pytest.approx((0, 0, 0.2775), abs=1e-4)
    assert (second.converted, second.rate, second.lift) == (10, 0.5, pytest.approx(0.5 / 0.13))
    assert second.low < 0.5 < second.high and fourth.high < 0.13


def test_the_table_has_recency_alone_beside_it() -> None:
    rng = np.random.default_rng(2)
    n = 40_000
    chance = rng.beta(0.4, 20, n)
    days = rng.exponential(60, n) * (1.2 - np.minimum(chance * 4, 1))
    days[:100] = np.nan  # never ordered
    rows = table(people(n), chance, days, (rng.random(n) < chance).astype(int))
    assert [row["segment"] for row in rows] == names()
    rates = [row["rate"] for row in rows]
    assert rates == sorted(rates, reverse=True) and rates[0] > 2 * rows[0]["recency_rate"]
    assert rows[0]["low"] > rows[0]["recency_high"], "better than recency, beyond chance"
    assert sum(row["customers"] for row in rows) == n
    assert sum(row["converted"] for row in rows) == sum(row["recency_converted"] for row in rows)
    assert json.loads(json.dumps(rows)) == rows


def test_few_customers_and_nobody() -> None:
    three = table(people(3), np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0]), np.array([0, 0, 0]))
    assert [row["customers"] for row in three] == [0, 0, 0, 1, 1, 1] and three[0]["rate"] is None
    assert all(row["lift"] is None for row in three)
    assert [row["customers"] for row in table(*(np.zeros(0),) * 4)] == [0] * 6


def test_it_can_be_told_once_the_days_are_over() -> None:
    assert closed(T, 7, T + timedelta(days=7)) and not closed(T, 7, T + timedelta(days=6)) and not closed(T, 7, None)
