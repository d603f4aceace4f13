"""The time zone of customers who didn't tell theirs: their country's, where all of it has one time; else the shop's.

Whoever plans a message reads its hour on a clock, too. So these zones belong where both look (profiles/local_time).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from controltower.profiles.local_time import Zones, customer_zones
from controltower.shop import Shop


def zones_or_inferred(customers: ir.Table, shop: Shop) -> Zones:
    """customer_id, zone: what the customer told; the shop's where that is the customer's country or none is known."""
    told = customer_zones(customers, shop)
    named = customers.filter(customers.country.notnull()).select("country").distinct().to_pyarrow()
    inferred = {c: z for c in named["country"].to_pylist() if c != shop.country and (z := zone_of(c))}
    if not inferred:
        return told
    places = ibis.memtable(pa.table({"place": list(inferred), "place_zone": list(inferred.values())}))
    untold = customers.filter(~customers.timezone.isin(sorted(told.used)).fill_null(False))
    found = untold.select("customer_id", "country").inner_join(places, untold.country == places.place)
    found = found.select("customer_id", "place_zone")
    joined = told.table.left_join(found, "customer_id")
    table = joined.select("customer_id", zone=joined.place_zone.coalesce(joined.zone))
    return Zones(table, told.used | frozenset(inferred.values()))


def zone_of(country: str) -> str | None:
    """The IANA zone of a country (ISO 3166, two letters); None where its clocks differ, or it isn't known."""
    return _single().get(country.upper())


@cache
def _single() -> dict[str, str]:
    """Of the tz database's zone.tab (tabs between country, place, zone, comment)."""
    found: dict[str, list[str]] = {}
    for line in (files("tzdata") / "zoneinfo" / "zone.tab").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            country, _, zone, *_ = line.split("\t")
            found.setdefault(country, []).append(zone)
    return {country: zones[0] for country, zones in found.items() if len({_clock(zone) for zone in zones}) == 1}


def _clock(zone: str) -> tuple[timedelta | None, ...]:
    """How far from UTC, in winter and in summer: zones that differ only in their history are one."""
    return tuple(datetime(2026, month, 1, tzinfo=ZoneInfo(zone)).utcoffset() for month in (1, 7))
