"""Whether the features of a moment can be made from an earlier day's, and what changed since then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data.contract import CONTRACT
from controltower.data.lake import Reading
from controltower.data.sql import literal
from controltower.profiles.facts import Facts
from controltower.profiles.local_time import LOOK_BACK_DAYS
from controltower.profiles.rolling import basis

LONGEST = 7  # days: over more, most customers' facts cross the edge of a window

Changed = dict[str, set[tuple[str | None, ...]]]


@dataclass(frozen=True)
class Step:
    """From `before` to `as_of`, a whole number of days. `file` has the features of before, in the order of ids.

    `fresh`: the files by table that those didn't read. `changed`: rows of the basis (see basis.py) that came or went.
    `kept`: the earlier basis.
    """

    before: datetime
    as_of: datetime
    file: str
    kept: pa.Table
    fresh: dict[str, list[str]]
    changed: Changed

    @property
    def days(self) -> int:
        return (self.as_of - self.before).days

    def entered(self, table: str) -> tuple[str, str]:
        """SQL conditions, of versions of rows: known only since, or in a file that has come since. Each by itself, so
        that what no row of a file can fulfil is skipped."""
        files = ", ".join(map(literal, self.fresh[table])) or "''"
        return f"{CONTRACT[table].known} > {moment(self.before)}", f"filename IN ({files})"

    def crossed(self, column: str, edges: Sequence[int]) -> Iterator[str]:
        """SQL conditions: whose age in days was less than one of these, and isn't any more. 0: which lay ahead."""
        second = timedelta(seconds=1)  # ages are whole seconds
        for edge in edges:
            last = self.as_of - timedelta(days=edge)
            first = last - timedelta(days=self.days)
            yield f"{column} > {moment(first - second)} AND {column} <= {moment(last + second)}"


def moment(at: datetime) -> str:
    return f"TIMESTAMPTZ '{at.astimezone(UTC).isoformat()}'"


def step_to(reading: Reading, facts: Facts, now: pa.Table) -> Step | str:
    """The step from the newest features that allow one, or why there is none; `now` is the basis as of as_of."""
    as_of = facts.as_of
    made, bases = reading.loads("features"), reading.loads(basis.TABLE)
    day = timedelta(days=1)
    moments = sorted((datetime.fromisoformat(key) for key in made if key in bases), reverse=True)
    earlier = [at for at in moments if at < as_of]
    if not earlier:
        return "there are no features of an earlier day to go on from"
    whole = [at for at in earlier if not (as_of - at) % day and as_of - at <= LONGEST * day]
    if not whole:
        return f"the features before are of {earlier[0].isoformat()}, not of 1 to {LONGEST} times 24 hours earlier"
    before = whole[0]
    key = next(key for key in made if datetime.fromisoformat(key) == before)
    files, kept_files = reading.files(made[key]), reading.files(bases[key])
    if len(files) != 1 or len(kept_files) != 1:
        return "the features before are in several files"
    kept = pq.read_table(kept_files[0])
    loads = _fresh(reading, kept)
    if isinstance(loads, str):
        return loads
    changed = _changed(reading, kept, now)
    if why := _spoilt(changed, kept, now, as_of.astimezone(facts.shop.zone).date()):
        return why
    return Step(before, as_of, files[0], kept, loads, changed)


def _fresh(reading: Reading, kept: pa.Table) -> dict[str, list[str]] | str:
    """The files that have come by table, or which table lacks what was read before."""
    before: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for table, interval, value in basis.of(kept, basis.LOAD, "customer_id", "name", "value"):
        before[str(table)][str(interval)] = str(value).split()
    fresh: dict[str, list[str]] = {}
    for table in basis.READ:
        now, read = reading.loads(table), before[table]
        came = {interval: load for interval, load in now.items() if interval not in read}
        same = all(basis.load(now[interval]).split() == value for interval, value in read.items() if interval in now)
        # an interval that is gone was put together with others (Lake.merge), and its rows have come with them
        gone = sum(int(rows) for interval, (_, rows) in read.items() if interval not in now)
        if not same or gone > sum(part.rows for load in came.values() for part in load.parts):
            return f"what was read of {table} before was replaced"
        fresh[table] = [file for load in came.values() for file in reading.files(load)]
    return fresh


def _changed(reading: Reading, kept: pa.Table, now: pa.Table) -> Changed:
    given = {"_kept": kept, "_now": now}
    columns = ", ".join(basis.SCHEMA.names)
    compared = "about NOT IN ('load', 'holidays')"
    rows = reading.run(
        f"""SELECT * FROM ((SELECT {columns} FROM _kept WHERE {compared} EXCEPT ALL SELECT {columns} FROM _now)
        UNION ALL (SELECT {columns} FROM _now WHERE {compared} EXCEPT ALL SELECT {columns} FROM _kept))""",
        given,
    )
    changed: Changed = defaultdict(set)
    for row in zip(*(rows[name].to_pylist() for name in basis.SCHEMA.names), strict=True):
        changed[row[0]].add(row[1:])
    return changed


def _spoilt(changed: Changed, kept: pa.Table, now: pa.Table, today: date) -> str | None:
    """What changed for everybody, or nearly."""
    if changed.get(basis.DEFINITIONS):
        return "the features' definitions, or what shop.yaml says of money and time, changed"
    if changed.get(basis.COUNTED):
        return "a table that had no rows has some now, or the other way round"
    first, last = basis.day(today) - LOOK_BACK_DAYS, basis.day(today) + 1
    then, there = basis.holidays(kept), basis.holidays(now)
    for country in then.keys() & there.keys():
        if _between(then[country], first, last) != _between(there[country], first, last):
            return f"the holidays of {country} changed"
    return None


def _between(days: dict[int, str], first: int, last: int) -> dict[int, str]:
    return {day: flags for day, flags in days.items() if first <= day <= last}
