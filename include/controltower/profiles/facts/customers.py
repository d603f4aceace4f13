"""Who is known, on which devices, with which coupons, and what surrounds them today."""

from __future__ import annotations

from datetime import datetime

import ibis
import ibis.expr.types as ir

from controltower.profiles.facts.tables import age
from controltower.profiles.portable import one_if, seconds


def signed_up_of(customers: ir.Table, as_of: datetime) -> ir.Table:
    known = customers.filter(customers.signed_up_at.isnull() | (customers.signed_up_at <= as_of))
    return known.select("customer_id", "points", age=age(seconds(known.signed_up_at), as_of))


def with_seen(signed_up: ir.Table, headers: ir.Table, events: ir.Table) -> ir.Table:
    """All customers known: those of the table, and those seen only in orders or events."""
    seen = ibis.union(headers.select("customer_id"), events.select("customer_id"), distinct=True)
    everyone = ibis.union(signed_up.select("customer_id"), seen, distinct=True)
    return everyone.left_join(signed_up, "customer_id").drop("customer_id_right")


def devices_of(devices: ir.Table) -> ir.Table:
    known = devices.filter(devices.customer_id.notnull())
    return known.select("customer_id", "platform", push=known.push_token.notnull())


def coupons_of(coupons: ir.Table, as_of: datetime) -> ir.Table:
    issued = coupons.filter(coupons.issued_to.notnull())
    used = issued.redeemed_order_id.notnull()
    lasts = issued.expires_at.isnull() | (issued.expires_at > as_of)
    return issued.select(customer_id=issued.issued_to, used=one_if(used), open=one_if(~used & lasts))


def surroundings_of(
    everyone: ir.Table, customers: ir.Table, days: ir.Table, weather: ir.Table, country: str
) -> ir.Table:
    """Each customer's calendar and weather on the day of as_of (see calendar.py); `country` is the shop's."""
    places = customers.select("customer_id", "country", "home_store")
    placed = everyone.select("customer_id").left_join(places, "customer_id").drop("customer_id_right")
    placed = placed.mutate(country=placed.country.coalesce(country))
    named = placed.left_join(days, placed.country == days.day_country)
    near = weather.rename({f"near_{name}": name for name in weather.columns})
    local = named.left_join(weather, named.country == weather.region)
    local = local.left_join(near, local.home_store == near.near_region)
    values = {name: local[f"near_{name}"].coalesce(local[name]) for name in weather.columns if name != "region"}
    return local.select("customer_id", "days_to_holiday", "days_to_festival", **values)
