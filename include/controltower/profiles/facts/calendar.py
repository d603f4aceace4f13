"""Holidays and weather: from the shop's `external` table where it tells them, else holidays from a library.

These are small tables, one row a country and day, made here and joined to customers and their purchases. The library
(https://holidays.readthedocs.io) knows a country's public holidays, lunar ones as 설날 and 추석 too; its calendar is
that of the version in the lock, whatever as_of is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from controltower.profiles.local_time import LOOK_BACK_DAYS
from controltower.shop import Shop

GIFT_DAYS: Final = 14  # people buy presents so long before a festival
AHEAD_DAYS: Final = 400  # each holiday comes again within so many days
BEHIND_DAYS: Final = LOOK_BACK_DAYS + 2  # the local dates of a moment are up to 26 hours apart
WEATHER: Final = ("weather", "temperature", "precipitation")  # the names of `external` that are features
# The holiday that a country gives presents on, as the library or the shop calls it; elsewhere it is Christmas.
FESTIVALS: Final[dict[str, frozenset[str]]] = {
    "KR": frozenset({"Korean New Year", "Chuseok", "Seollal", "설날", "설", "추석"}),
}
_ELSEWHERE: Final = frozenset({"Christmas Day", "Christmas"})
_NO: Final = frozenset({"", "0", "false", "no"})
_EPOCH: Final = date(1970, 1, 1)

Calendar = dict[str, dict[date, str]]  # by country


def holidays_of(external: ir.Table, countries: Iterable[str], as_of: datetime, shop: Shop) -> Calendar:
    """The names of the holidays around as_of by country: those that the shop tells, else the library's."""
    today = as_of.astimezone(shop.zone).date()
    first, last = today - timedelta(days=BEHIND_DAYS), today + timedelta(days=AHEAD_DAYS)
    told: Calendar = {}
    rows = external.filter(external.name == "holiday", external.date >= first, external.date <= last)
    for row in rows.select("date", "region", "value").to_pyarrow().to_pylist():
        if row["value"].strip().lower() not in _NO:
            told.setdefault(row["region"].strip().upper(), {})[row["date"]] = row["value"].strip()
    return {country: told.get(country) or _from_library(country, first, last) for country in sorted(set(countries))}


def holiday_days(calendar: Calendar) -> ir.Table:
    """holiday_country, holiday_day (days since 1970), holiday, gift_time: 0 or 1; only days with one of them."""
    rows = [(country, *day) for country, days in flags_of(calendar).items() for day in days]
    return _table(rows, ["holiday_country", "holiday_day", "holiday", "gift_time"], [pa.string(), *[pa.int64()] * 3])


def flags_of(calendar: Calendar) -> dict[str, list[tuple[int, int, int]]]:
    """By country, its days (since 1970) that are holidays (0 or 1) or a time of presents (0 or 1)."""
    found = {}
    for country, names in sorted(calendar.items()):
        gifts = {
            day - timedelta(days=before)
            for day, name in names.items()
            if _is_festival(country, name)
            for before in range(GIFT_DAYS + 1)
        }
        found[country] = [
            ((day - _EPOCH).days, int(day in names), int(day in gifts)) for day in sorted({*names, *gifts})
        ]
    return found


def days_ahead(calendar: Calendar, as_of: datetime, shop: Shop) -> ir.Table:
    """day_country, days_to_holiday, days_to_festival: from the shop's date of as_of, 0 on the day; null if none."""
    today = as_of.astimezone(shop.zone).date()
    values: dict[tuple[str, str], float] = {}
    for country, names in sorted(calendar.items()):
        for day in sorted(day for day in names if day >= today):
            values.setdefault((country, "days_to_holiday"), float((day - today).days))
            if _is_festival(country, names[day]):
                values.setdefault((country, "days_to_festival"), float((day - today).days))
    return _wide(values, "day_country", ("days_to_holiday", "days_to_festival"))


def weather_of(external: ir.Table, as_of: datetime, shop: Shop) -> ir.Table:
    """region and a number for each of WEATHER on the shop's date of as_of; what is no number is null."""
    today = as_of.astimezone(shop.zone).date()
    rows = external.filter(external.name.isin(WEATHER), external.date == today)
    values: dict[tuple[str, str], float] = {}
    for row in rows.select("region", "name", "value").to_pyarrow().to_pylist():
        if (number := _number(row["value"])) is not None:
            values[row["region"], row["name"]] = number
    return _wide(values, "region", WEATHER)


def _from_library(country: str, first: date, last: date) -> dict[date, str]:
    import holidays

    try:
        known = holidays.country_holidays(country, years=range(first.year, last.year + 1), language="en_US")
    except NotImplementedError:  # a country that the library doesn't know
        return {}
    return {day: name for day, name in known.items() if first <= day <= last}


def _is_festival(country: str, names: str) -> bool:
    """Whether one of the names is the country's festival: `A; B` where two holidays share a day."""
    return bool({name.strip() for name in names.split(";")} & FESTIVALS.get(country, _ELSEWHERE))


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < 1e15 else None  # neither infinite nor NaN


def _wide(values: dict[tuple[str, str], float], key: str, names: Sequence[str]) -> ir.Table:
    """One row a place, one column a name. (No null goes in: through pandas, Spark would make it NaN.)"""
    rows = [(place, name, value) for (place, name), value in sorted(values.items())]
    long = _table(rows, [key, "name", "value"], [pa.string(), pa.string(), pa.float64()])
    return long.group_by(key).aggregate(**{name: long["value"].max(where=long["name"] == name) for name in names})


def _table(rows: Iterable[tuple[object, ...]], names: list[str], types: list[pa.DataType]) -> ir.Table:
    body = list(rows)
    columns = [pa.array([row[n] for row in body], kind) for n, kind in enumerate(types)]
    return ibis.memtable(pa.table(columns, names=names))
