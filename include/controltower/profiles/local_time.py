"""Local hours, weekdays and dates of facts, in the customer's time zone, else the shop's.

All in whole seconds since 1970: integer arithmetic means the same on every engine, and needs no time-zone functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
    """customer_id, zone (IANA): the customer's own where it is a real one, else the shop's; `used` are all of them."""

    table: ir.Table
    used: frozenset[str]


def customer_zones(customers: ir.Table, shop: Shop) -> Zones:
    named = customers.filter(customers.timezone.notnull()).select("timezone").distinct().to_pyarrow()
    known = sorted(zone for zone in named["timezone"].to_pylist() if _zone(zone))
    own = customers.timezone.isin(known) if known else ibis.literal(False)
    table = customers.select("customer_id", zone=ibis.ifelse(own, customers.timezone, shop.timezone))
    return Zones(table, frozenset({*known, shop.timezone}))


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


def local_hour(local_second: ir.IntegerValue) -> ir.IntegerValue:
    """0-23."""
    return whole(local_second % DAY, ibis.literal(3600))


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
