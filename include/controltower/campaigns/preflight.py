"""What is too odd about a plan for it to be frozen: a function of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import NamedTuple

LAST = 7  # occurrences that an audience is compared with
FEWEST = 2  # known ones; with fewer nothing is called odd
FACTOR = 10


class Audience(NamedTuple):
    """How many an occurrence was for, and the most that it was allowed to be for."""

    size: int
    at_most: int | None = None


def anomalies(
    today: Audience,
    earlier: Sequence[Audience],
    made: Mapping[str, datetime],
    now: datetime,
    stale_after: timedelta,
) -> list[str]:
    """Why this plan should stop, in words with the figures; empty where nothing is odd.

    `earlier`: the last occurrences, `made`: as of when the scores and features are that chose the audience. An audience
    that its own limit cut short isn't small, and one that was cut shorter than today's may be says nothing of today.
    """
    known = [a.size for a in earlier if a.size and not _cut_shorter(a, today)][:LAST]
    return [*_odd_size(today, known), *_stale(made, now, stale_after)]


def _cut_shorter(earlier: Audience, today: Audience) -> bool:
    if earlier.at_most is None or earlier.size < earlier.at_most:
        return False
    return today.at_most is None or earlier.at_most < today.at_most


def _odd_size(today: Audience, known: Sequence[int]) -> list[str]:
    if not known:
        return []
    usual = median(known)
    compared = f"in the last {len(known)} occurrences it was {usual:,.0f} (median)"
    if not today.size:
        return [f"the audience is empty; {compared}"]
    if len(known) < FEWEST:
        return []
    if today.size > usual * FACTOR:
        return [f"the audience is {today.size:,}, more than {FACTOR} times the usual; {compared}"]
    expected = usual if today.at_most is None else min(usual, today.at_most)
    if today.size * FACTOR < expected:
        return [f"the audience is {today.size:,}, less than one in {FACTOR} of the usual; {compared}"]
    return []


def _stale(made: Mapping[str, datetime], now: datetime, stale_after: timedelta) -> list[str]:
    return [
        f"the {name} are {(now - at) / timedelta(hours=1):.0f} hours old ({at:%Y-%m-%d %H:%M} UTC), and may be "
        f"{stale_after / timedelta(hours=1):.0f} at most"
        for name, at in made.items()
        if now - at > stale_after
    ]
