"""What stops a plan, and what doesn't."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from controltower.campaigns.preflight import Audience, anomalies

NOW = datetime(2026, 6, 15, 7, tzinfo=UTC)
USUAL = [1000, 900, 1100]


def odd(size: int, earlier: list[int], at_most: int | None = None, old: float = 7) -> list[str]:
    made = {"features": NOW - timedelta(hours=old)}
    return anomalies(Audience(size, at_most), [Audience(n) for n in earlier], made, NOW, timedelta(hours=36))


@pytest.mark.parametrize(
    ("size", "earlier", "says"),
    [
        (0, [1000], "the audience is empty; in the last 1 occurrences it was 1,000 (median)"),
        (0, [0, 0, 5], "is empty"),
        (10_001, USUAL, "10,001, more than 10 times the usual"),
        (99, USUAL, "99, less than one in 10 of the usual; in the last 3 occurrences it was 1,000 (median)"),
        (101, [10, 10, *[1000] * 5, *[1] * 20], None),  # of the last seven only
        (10_000, USUAL, None),
        (100, USUAL, None),
        (0, [], None),
        (0, [0, 0], None),
        (50_000, [], None),
        (50_000, [1000], None),  # one occurrence is not a habit
        (5, [0, 1000], None),
    ],
)
def test_the_size_of_an_audience(size: int, earlier: list[int], says: str | None) -> None:
    found = odd(size, earlier)
    assert (says is None and not found) or (len(found) == 1 and says is not None and says in found[0])


def test_a_limit_that_cut_an_audience_short_is_no_anomaly() -> None:
    assert odd(5, USUAL, at_most=5) == []
    assert "less than one in 10" in odd(0, USUAL, at_most=5)[0] or "empty" in odd(0, USUAL, at_most=5)[0]
    tests = [Audience(5, 5)] * 3
    assert anomalies(Audience(1000), tests, {}, NOW, timedelta(hours=36)) == [], "they say nothing of a full audience"
    full = [Audience(1000, 1000)] * 3
    assert anomalies(Audience(1000, 1000), full, {}, NOW, timedelta(hours=36)) == []
    assert len(anomalies(Audience(80, 1000), full, {}, NOW, timedelta(hours=36))) == 1


def test_stale_data() -> None:
    assert odd(1000, USUAL, old=36) == []
    (found,) = odd(1000, USUAL, old=40)
    assert found == "the features are 40 hours old (2026-06-13 15:00 UTC), and may be 36 at most"
    assert len(odd(0, USUAL, old=40)) == 2
