"""What is too odd about a load for campaigns to go on with it: functions of figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any

LAST = 7  # like loads that a load is compared with
FEWEST = 2  # known ones; with fewer nothing is called odd
FACTOR = 10
FEWEST_ROWS = 10  # of fewer, as usual, nothing is concluded
FULL = 0.9  # a load that holds so much of the most keys ever is a dump of the whole table
SHRUNK = 0.5
_SHORTEST = timedelta(hours=20)  # of a part of a day, how much comes is the hour's matter
SURE = 20  # values that were to be expected where there is none

Odd = dict[str, Any]


@dataclass(frozen=True)
class Load:
    """What a load brought of a table. `rows`: good ones, also those that were there already; `keys`: different keys
    among all that the source gave, of tables of versions; `filled`: how many of the rows have a value, by column;
    `newest`: its newest fact. `start` none: all of history until `end`. `accepted`: somebody said that it is right."""

    start: datetime | None
    end: datetime
    rows: int
    keys: int | None = None
    filled: Mapping[str, int] = field(default_factory=dict)
    newest: datetime | None = None
    odd: Sequence[Odd] = ()
    accepted: bool = False

    @property
    def counts(self) -> bool:
        """Whether it may tell what is usual."""
        return self.accepted or not self.odd


def anomalies(today: Load, earlier: Sequence[Load], weekday: Callable[[], float | None] = lambda: None) -> list[Odd]:
    """What is odd about a table's load: codes with the figures, JSON-able.

    `earlier`: the loads of this source that end no later, the last first. Like loads are of intervals of about the same
    length, or of all history. A load that was odd isn't compared with, unless it was accepted: then one as odd is fine.
    `weekday`: how many rows are usual on this weekday, where that is known; asked only if there are few.
    """
    usual = [load for load in earlier if load.counts]
    like = [load for load in usual if _alike(today, load)][:LAST]
    return [*(_size(today, like, weekday)), *_gone(today, usual)]


def _alike(one: Load, other: Load) -> bool:
    if one.start is None or other.start is None:
        return one.start is other.start
    length, its = one.end - one.start, other.end - other.start
    return length > _SHORTEST and 0.75 < its / length < 1.25  # clocks change


def _size(today: Load, like: Sequence[Load], weekday: Callable[[], float | None]) -> list[Odd]:
    if len(like) < FEWEST:
        return []
    most = max((load.keys or 0 for load in like), default=0)
    dumps = most >= FEWEST_ROWS and all((x.keys or 0) >= FULL * most for x in like[:FEWEST])
    if dumps and today.keys is not None:
        return _shrunk(today.keys, like)
    usual = median(load.rows for load in like)
    compared = {"rows": today.rows, "usual": round(usual), "loads": len(like)}
    if today.rows > max(usual, FEWEST_ROWS) * FACTOR and not _accepted(today.rows, like, larger=True):
        return [{"code": "many_rows", "factor": FACTOR, **compared}]
    if usual >= FEWEST_ROWS and today.rows * FACTOR < usual and not _accepted(today.rows, like, larger=False):
        on_it = None if dumps else weekday()  # a dump comes on every day
        if on_it is None or (on_it >= FEWEST_ROWS and today.rows * FACTOR < on_it):
            return [{"code": "few_rows" if today.rows else "zero_rows", "factor": FACTOR, **compared}]
    return []


def _accepted(rows: int, like: Sequence[Load], *, larger: bool) -> bool:
    found = [load.rows for load in like if load.accepted and load.odd]
    return any(n >= rows if larger else n <= rows for n in found)


def _shrunk(keys: int, like: Sequence[Load]) -> list[Odd]:
    last = like[0].keys or 0
    return [{"code": "shrunk", "rows": keys, "usual": last}] if keys <= SHRUNK * last else []


def _gone(today: Load, usual: Sequence[Load]) -> list[Odd]:
    """Columns that are empty of a sudden: renamed, as a rule."""
    last = next((load for load in usual if load.rows >= FEWEST_ROWS and load.filled), None)
    if last is None:
        return []
    return [
        {"code": "empty_column", "column": column, "usual": round(100 * n / last.rows)}
        for column, n in last.filled.items()
        if not today.filled.get(column) and n / last.rows * today.rows >= SURE
    ]
