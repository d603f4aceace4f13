"""Local hours, weekdays and dates of facts, by the customer's clock.

A customer's zone is the one told; else that of their country, where all of it has one time; else the shop's, which is
also taken for who lives in the shop's country. Whoever plans a message reads the same clock (contacts.py).

All in whole seconds since 1970: integer arithmetic means the same on every engine, and needs no time-zone functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from controltower.profiles.portable import DAY, whole
from controltower.shop import Shop

LOOK_BACK_DAYS = 366  # local times are known for facts this old at most


def epoch(moment: datetime) -> int:
    return int(moment.timestamp())


@dataclass(frozen=True)
class Zones:
    """customer_id, zone (IANA); `used` are all of them."""

    table: ir.Table
    used: frozenset[str]


def customer_zones(customers: ir.Table, shop: Shop) -> Zones:
    """Everybody's zone, as `zone_of` says it of one customer."""
    named = customers.filter(customers.timezone.notnull()).select("timezone").distinct().to_pyarrow()
    told = sorted(zone for zone in named["timezone"].to_pylist() if _zone(zone))
    places = customers.filter(customers.country.notnull()).select("country").distinct().to_pyarrow()
    by_country = {c: z for c in sorted(places["country"].to_pylist()) if (z := _foreign(c, shop))}
    zone = ibis.literal(shop.timezone)
    if by_country:
        zone = customers.country.cases(*by_country.items(), else_=zone)
    if told:
        zone = ibis.ifelse(customers.timezone.isin(told), customers.timezone, zone)
    return Zones(customers.select("customer_id", zone=zone), frozenset({*told, *by_country.values(), shop.timezone}))


def zone_of(timezone: str | None, country: str | None, shop: Shop) -> ZoneInfo:
    """The zone of a customer who told these; one that this machine doesn't know counts as none."""
    told = _zone(timezone) if timezone else None
    return told or ZoneInfo((_foreign(country, shop) if country else None) or shop.timezone)


def zone_of_country(country: str) -> str | None:
    """The IANA zone of a country (ISO 3166, two letters); None where its clocks differ, or it isn't known."""
    return _single().get(country.upper())


def _foreign(country: str, shop: Shop) -> str | None:
    return None if country.upper() == shop.country else zone_of_country(country)


def with_local_seconds(facts: ir.Table, zones: Zones, as_of: datetime, shop: Shop) -> ir.Table:
    """Facts (customer_id, second) with `local_second` and `zone` added; those older than LOOK_BACK_DAYS left out."""
    since = as_of - timedelta(days=LOOK_BACK_DAYS)
    offsets = utc_offsets(set(zones.used), since, as_of)
    recent = facts.filter(facts.second >= epoch(since))
    if len(zones.used) == 1:  # one zone: a constant or two, and no join
        changes = [
            (recent.second < row["offset_until"], ibis.literal(row["offset"], "int64")) for row in offsets.to_pylist()
        ]
        return recent.mutate(local_second=recent.second + ibis.cases(*changes), zone=ibis.literal(shop.timezone))
    zoned = recent.left_join(zones.table, "customer_id").drop("customer_id_right")
    zoned = zoned.mutate(zone=zoned.zone.coalesce(shop.timezone))
    changing = ibis.memtable(offsets)
    local = zoned.join(
        changing,
        [
            zoned.zone == changing.offset_zone,
            zoned.second >= changing.offset_from,
            zoned.second < changing.offset_until,
        ],
    )
    return local.select(*recent.columns, "zone", local_second=local.second + local.offset)


def local_day(local_second: ir.IntegerValue) -> ir.IntegerValue:
    """Whole days since 1970."""
    return whole(local_second, ibis.literal(DAY))


def local_weekday(local_second: ir.IntegerValue) -> ir.IntegerValue:
    """0 = Monday ... 6 = Sunday (1970-01-01 was a Thursday)."""
    return (local_day(local_second) + 3) % 7


def utc_offsets(zones: set[str], since: datetime, until: datetime) -> pa.Table:
    """offset_zone, offset_from, offset_until (epoch seconds, until excluded), offset (seconds east of UTC)."""
    rows: list[tuple[str, int, int, int]] = []
    for name in sorted(zones):
        zone = ZoneInfo(name)
        start, last = epoch(since), epoch(until) + 1
        moment, offset = start, _offset(zone, start)
        while moment < last:
            following = min(moment + DAY, last)
            if _offset(zone, following) != offset:
                change = _change(zone, moment, following)
                rows.append((name, start, change, offset))
                start, moment, offset = change, change, _offset(zone, change)
            else:
                moment = following
        rows.append((name, start, last, offset))
    columns = list(zip(*rows, strict=True))
    integers = [pa.array(c, pa.int64()) for c in columns[1:]]
    return pa.table(
        [pa.array(columns[0], pa.string()), *integers], names=["offset_zone", "offset_from", "offset_until", "offset"]
    )


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


@cache
def _single() -> dict[str, str]:
    """Of the tz database's zone.tab (tabs between country, place, zone, comment)."""
    found: dict[str, list[str]] = {}
    for line in files("tzdata").joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            country, _, zone, *_ = line.split("\t")
            found.setdefault(country, []).append(zone)
    return {country: zones[0] for country, zones in found.items() if len({_clock(zone) for zone in zones}) == 1}


def _clock(zone: str) -> tuple[timedelta | None, ...]:
    """How far from UTC, in winter and in summer: zones that differ only in their history are one."""
    return tuple(datetime(2026, month, 1, tzinfo=ZoneInfo(zone)).utcoffset() for month in (1, 7))


def _offset(zone: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, UTC).astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def _change(zone: ZoneInfo, low: int, high: int) -> int:
    """The first second after `low` with another offset than `low`'s; there is one not later than `high`."""
    before = _offset(zone, low)
    while high - low > 1:
        middle = (low + high) >> 1
        low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
    return high
