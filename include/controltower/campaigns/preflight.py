"""What is too odd about a plan for it to be frozen: a function of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil
from statistics import median
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from controltower import clock
from controltower.content import words

LAST = 7  # occurrences that an audience is compared with
FEWEST = 2  # known ones; with fewer nothing is called odd
FACTOR = 10


Odd = Mapping[str, Any]


class Audience(NamedTuple):
    """How many an occurrence was for, and the most that it was allowed to be for."""

    size: int
    at_most: int | None = None


def anomalies(
    today: Audience,
    earlier: Sequence[Audience],
    made: Mapping[str, datetime | None],
    now: datetime,
    stale_after: timedelta,
) -> list[Odd]:
    """Why this plan should stop: codes with the figures, JSON-able (`tell` words them); empty where nothing is odd.

    `earlier`: the last occurrences, `made`: as of when the scores and features are that chose the audience (none: there
    are no rows of them). An audience that its own limit cut short isn't small. One that was cut shorter than today's
    may be says nothing of today; where hardly another is known, the largest of all must do. An empty audience is odd
    also at the first occurrence: it sends nothing, and nobody would learn of it. After empty ones it isn't: somebody
    let them through.
    """
    if not today.size and not earlier:
        odd: list[Odd] = [{"code": "empty_first"}]
    else:
        odd = _odd_size(today, [a for a in earlier if a.size][:LAST])
    return [*odd, *stale(made, now, stale_after)]


def _cut_shorter(earlier: Audience, today: Audience) -> bool:
    if earlier.at_most is None or earlier.size < earlier.at_most:
        return False
    return today.at_most is None or earlier.at_most < today.at_most


def _odd_size(today: Audience, earlier: Sequence[Audience]) -> list[Odd]:
    if not earlier:
        return []
    alike = [a.size for a in earlier if not _cut_shorter(a, today)]
    known = alike or [a.size for a in earlier]
    usual = median(known)
    compared = {"occurrences": len(known), "usual": round(usual)}
    if not today.size:
        return [{"code": "empty", **compared}]
    if len(alike) < FEWEST:
        return _unlike_any(today, [a.size for a in earlier])
    if today.size > usual * FACTOR:
        return [{"code": "large", "size": today.size, "factor": FACTOR, **compared}]
    expected = usual if today.at_most is None else min(usual, today.at_most)
    if today.size * FACTOR < expected:
        return [{"code": "small", "size": today.size, "factor": FACTOR, **compared}]
    return []


def _unlike_any(today: Audience, sizes: Sequence[int]) -> list[Odd]:
    if len(sizes) < FEWEST or today.size <= max(sizes) * FACTOR:
        return []
    compared = {"occurrences": len(sizes), "largest": max(sizes)}
    return [{"code": "unlike_any", "size": today.size, "factor": FACTOR, **compared}]


def stale(made: Mapping[str, datetime | None], now: datetime, stale_after: timedelta) -> list[Odd]:
    """Of tables and as of when they are, those that are too old, or that have no rows (none)."""
    most = round(stale_after / timedelta(hours=1))
    return [
        {
            "code": "stale",
            "table": name,
            "hours": ceil((now - at) / timedelta(hours=1)),  # never as many as it may be
            "at": at.isoformat(),
            "most": most,
        }
        if at
        else {"code": "no_rows", "table": name}
        for name, at in made.items()
        if at is None or now - at > stale_after
    ]


def tell(odd: Odd, zone: ZoneInfo, language: str) -> str:
    """An anomaly in words."""
    t = words.translator(language)
    values = {name: f"{value:,}" if isinstance(value, int) else value for name, value in odd.items()}
    if "table" in odd:
        values["table"] = words.word(t, "table", odd["table"])
    if "at" in odd:
        values["at"] = clock.show(datetime.fromisoformat(odd["at"]), zone)
    return t(f"anomaly.{values.pop('code')}", **values)
