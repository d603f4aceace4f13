"""What stops a plan, and what doesn't."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from controltower.campaigns.preflight import Audience, Odd, anomalies, tell

NOW = datetime(2026, 6, 15, 7, tzinfo=UTC)
USUAL = [1000, 900, 1100]


def odd(size: int, earlier: list[int], at_most: int | None = None, old: float = 7) -> list[str]:
    made = {"features": NOW - timedelta(hours=old)}
    return said(anomalies(Audience(size, at_most), [Audience(n) for n in earlier], made, NOW, timedelta(hours=36)))


def said(found: list[Odd], language: str = "en") -> list[str]:
    return [tell(odd, ZoneInfo("Asia/Seoul"), language) for odd in found]


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
        (0, [], "the audience is empty at the campaign's first occurrence"),
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
    tests = [Audience(500, 500)] * 3
    assert anomalies(Audience(5000), tests, {}, NOW, timedelta(hours=36)) == [], "they say little of a full audience"
    full = [Audience(1000, 1000)] * 3
    assert anomalies(Audience(1000, 1000), full, {}, NOW, timedelta(hours=36)) == []
    assert len(anomalies(Audience(80, 1000), full, {}, NOW, timedelta(hours=36))) == 1


@pytest.mark.parametrize("at_most", [None, 50_000])
@pytest.mark.parametrize("earlier", [[Audience(100, 100)] * 7, [Audience(90), Audience(100, 100)]])
def test_a_limit_that_was_raised_or_removed_doesnt_blind_it(at_most: int | None, earlier: list[Audience]) -> None:
    def odd_sizes(size: int) -> list[str]:
        return said(anomalies(Audience(size, at_most), earlier, {}, NOW, timedelta(hours=36)))

    (found,) = odd_sizes(50_000)
    assert found.startswith("the audience is 50,000, more than 10 times the largest of the last")
    assert odd_sizes(1000) == []
    assert "is empty" in odd_sizes(0)[0]
    assert anomalies(Audience(50_000), earlier[:1], {}, NOW, timedelta(hours=36)) == [], "one is not a habit"


def test_stale_data() -> None:
    assert odd(1000, USUAL, old=36) == []
    (found,) = odd(1000, USUAL, old=40)
    assert found == "the features are 40 hours old, of 2026-06-14 00:00 KST (Asia/Seoul), and may be 36 at most"
    assert len(odd(0, USUAL, old=40)) == 2
    assert odd(1000, USUAL, old=36.2)[0].startswith("the features are 37 hours old")


def test_features_or_scores_that_are_not_there_are_stale() -> None:
    made = {"features": NOW, "scores": None}
    found = anomalies(Audience(1000), [], made, NOW, timedelta(hours=36))
    assert said(found) == ["there are no scores"] and said(found, "ko") == ["점수 자료가 없습니다"]
