"""Shares of variants: what clicks teach, and the rules they keep."""

from __future__ import annotations

import pytest
from controltower.campaigns.allocation import FEWEST, FLOOR, shares
from hypothesis import given
from hypothesis import strategies as st

NAMES = [f"v{n}" for n in range(14)]
RESULT = st.integers(0, 5000).flatmap(lambda sent: st.tuples(st.just(sent), st.integers(0, sent)))
WEIGHTS = st.dictionaries(st.sampled_from(NAMES), st.floats(0.01, 100), min_size=1)
RESULTS = st.dictionaries(st.sampled_from(NAMES), RESULT)


@given(RESULTS, WEIGHTS)
def test_shares_sum_to_one_and_everyone_keeps_the_floor(
    results: dict[str, tuple[int, int]], weights: dict[str, float]
) -> None:
    found = shares(results, weights)
    assert list(found) == list(weights)
    assert sum(found.values()) == pytest.approx(1)
    assert min(found.values()) >= min(FLOOR, 1 / len(weights)) - 1e-12
    assert shares(results, weights) == found


def test_weights_hold_until_each_variant_has_enough_messages() -> None:
    weights = {"a": 3.0, "b": 1.0}
    assert shares({}, weights) == {"a": 0.75, "b": 0.25}
    assert shares({"a": (5000, 500), "b": (FEWEST - 1, 0)}, weights) == {"a": 0.75, "b": 0.25}
    assert shares({"a": (5000, 500), "b": (FEWEST, 0)}, weights) == pytest.approx({"a": 0.9, "b": 0.1})
    assert shares({"a": (0, 0)}, {"a": 9.0}) == {"a": 1.0}
    assert shares({}, {"a": 99.0, "b": 1.0}) == pytest.approx({"a": 0.9, "b": 0.1}), "enough of each to learn from"


def test_the_better_variant_gets_more_as_evidence_grows() -> None:
    weights = {"a": 1.0, "b": 1.0}
    few, more, many = (shares({"a": (n, n // 20), "b": (n, n // 33)}, weights)["a"] for n in (200, 600, 5000))
    assert 0.5 < few < more < many == pytest.approx(0.9)
    even = shares({"a": (2000, 60), "b": (2000, 60)}, weights)
    assert even["a"] == pytest.approx(0.5, abs=0.02)


def test_what_is_gone_counts_no_more() -> None:
    results = {"a": (1000, 10), "b": (1000, 50), "gone": (1000, 900)}
    assert shares(results, {"a": 1.0, "b": 1.0}) == pytest.approx({"a": 0.1, "b": 0.9})
