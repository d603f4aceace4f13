"""Whether the features of a moment can be made from an earlier day's, and what changed since then."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data.contract import CONTRACT
from controltower.data.lake import Reading
from controltower.data.sql import literal
from controltower.profiles.facts import Facts
from controltower.profiles.facts.calendar import BEHIND_DAYS
from controltower.profiles.rolling import basis

LONGEST = 7  # days: over more, most customers' facts cross the edge of a window

Row = tuple[str | None, ...]
Changed = dict[str, set[Row]]


@dataclass(frozen=True)
class Step:
    """From `before` to `as_of`, a whole number of days. `file` has the features of before, in the order of ids.

    `fresh`: the files by table that those didn't read. `came`, `went`: rows of the basis (see basis.py) by what they
    are about.
    """

    before: datetime
    as_of: datetime
    file: str
    fresh: dict[str, list[str]]
    came: Changed
    went: Changed

    @property
    def days(self) -> int:
        return (self.as_of - self.before).days

    def entered(self, table: str) -> tuple[str, str]:
        """SQL conditions, of versions of rows: known only since, or in a file that has come since. Each by itself, so
        that what no row of a file can fulfil is skipped."""
        files = ", ".join(map(literal, self.fresh[table])) or "''"
        return f"{CONTRACT[table].known} > {moment(self.before)}", f"filename IN ({files})"

    def crossed(self, column: str, edge: int) -> str:
        """SQL condition: whose age in days was less than this, and isn't any more. 0: which lay ahead."""
        second = timedelta(seconds=1)  # ages are whole seconds
        last = self.as_of - timedelta(days=edge)
        first = last - timedelta(days=self.days)
        return f"{column} > {moment(first - second)} AND {column} <= {moment(last + second)}"

    def changed(self, about: str) -> set[Row]:
        """The rows that came or went."""
        return self.came[about] | self.went[about]

    def moved(self) -> set[str]:
        """Customers with other ids, or who lost a visitor's events: what was counted may not be theirs now."""
        persons = {str(id) for customer, _, person in self.changed("person") for id in (customer, person)}
        persons |= {str(person) for person, _, _ in self.changed("ids")}
        return persons | {str(customer) for customer, _, _ in self.went["visitor"]}

    def visiting(self) -> list[tuple[str, str]]:
        """Customers and visitors whose earlier events became theirs, of who lost none."""
        moved = self.moved()
        return [(str(row[0]), str(row[1])) for row in self.came["visitor"] if row[0] not in moved]


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
    came, went = _unlike(reading, now, kept), _unlike(reading, kept, now)
    if why := _spoilt({*came, *went}, kept, now, as_of.astimezone(facts.shop.zone).date()):
        return why
    loads = _fresh(reading, kept)
    if isinstance(loads, str):
        return loads
    return Step(before, as_of, files[0], loads, came, went)


def _fresh(reading: Reading, kept: pa.Table) -> dict[str, list[str]] | str:
    """The files that have come by table, or which table lacks what was read before."""
    before: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
    for table, interval, value in basis.of(kept, basis.LOAD, "customer_id", "name", "value"):
        digest, rows = str(value).split()
        before[str(table)][str(interval)] = digest, int(rows)
    oldest = {str(table): str(date) for table, date in basis.of(kept, basis.OLDEST, "customer_id", "value")}
    fresh: dict[str, list[str]] = {}
    for table in basis.READ:
        now, read = reading.loads(table), before[table]
        came = {interval: load for interval, load in now.items() if interval not in read}
        files = {interval: basis.load(load).split()[0] for interval, load in now.items()}
        same = all(files[interval] == digest for interval, (digest, _) in read.items() if interval in now)
        # an interval that is gone was put together with others (Lake.merge), and its rows have come with them
        gone = sum(rows for interval, (_, rows) in read.items() if interval not in now)
        fewer = gone > sum(part.rows for load in came.values() for part in load.parts)
        if not same or fewer or basis.oldest(reading, table) > oldest[table]:
            return f"what was read of {table} before was replaced"
        fresh[table] = [file for load in came.values() for file in reading.files(load)]
    return fresh


def _unlike(reading: Reading, some: pa.Table, others: pa.Table) -> Changed:
    """The rows of one basis that another hasn't, by what they are about."""
    columns = ", ".join(basis.SCHEMA.names)
    compared = f"SELECT {columns} FROM {{}} WHERE about NOT IN ('load', 'oldest', 'holidays')"
    query = f"{compared.format('_some')} EXCEPT ALL {compared.format('_others')}"
    rows = reading.run(query, {"_some": some, "_others": others})
    found: Changed = defaultdict(set)
    for row in zip(*(rows[name].to_pylist() for name in basis.SCHEMA.names), strict=True):
        found[row[0]].add(row[1:])
    return found


def _spoilt(changed: set[str], kept: pa.Table, now: pa.Table, today: date) -> str | None:
    """What changed for everybody, or nearly; `changed`: what rows that came or went are about."""
    if basis.DEFINITIONS in changed:
        return "the features' definitions, or what shop.yaml says of money and time, changed"
    if basis.COUNTED in changed:
        return "a table that had no rows has some now, or the other way round"
    first, last = basis.day(today) - BEHIND_DAYS, basis.day(today) + 1
    then, there = basis.holidays(kept), basis.holidays(now)
    for country in then.keys() & there.keys():
        if _between(then[country], first, last) != _between(there[country], first, last):
            return f"the holidays of {country} changed"
    return None


def _between(days: dict[int, str], first: int, last: int) -> dict[int, str]:
    return {day: flags for day, flags in days.items() if first <= day <= last}
