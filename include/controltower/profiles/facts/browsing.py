"""What customers did in the shop: events, sessions, and the products and categories they looked at."""

from __future__ import annotations

from datetime import datetime

import ibis
import ibis.expr.types as ir

from controltower.profiles.facts.tables import age
from controltower.profiles.local_time import Zones, local_weekday, with_local_seconds
from controltower.profiles.portable import DAY, one_if, seconds, units, whole
from controltower.shop import Shop

RECENT = 90 * DAY  # sessions, views and habits are those of so long


def priced_products(products: ir.Table) -> ir.Table:
    """product_id, category, price and usual_price (see portable.units); usual is the mean of the category's products
    in that currency. Both are null where the product has no category."""
    price = ibis.ifelse(products.category.notnull(), units(products.price), ibis.null("int64"))
    named = products.select("product_id", "category", "currency", price=price)
    kin = ibis.window(group_by=["category", "currency"])
    usual = whole(named.price.sum().over(kin), named.price.count().over(kin))
    return named.select("product_id", "category", "price", usual_price=usual)


def events_of(events: ir.Table, as_of: datetime) -> ir.Table:
    known = events.filter(events.customer_id.notnull(), events.occurred_at <= as_of)
    second = seconds(known.occurred_at)
    return known.select(
        "customer_id",
        "event_name",
        "session_id",
        "product_id",
        "query",
        "results_count",
        "channel",
        second=second,
        age=age(second, as_of),
    )


def sessions_of(events: ir.Table) -> ir.Table:
    recent = events.filter(events.session_id.notnull(), events.age < RECENT)

    def had(event: str) -> ir.IntegerValue:
        return one_if(recent.event_name == event).max()

    return recent.group_by(["customer_id", "session_id"]).aggregate(
        age=recent.age.min(),
        length=recent.age.max() - recent.age.min(),
        events=recent.count(),
        viewed=had("view_item"),
        searched=had("search"),
        carted=had("add_to_cart"),
        checked_out=had("begin_checkout"),
        purchased=had("purchase"),
    )


def interests_of(events: ir.Table, products: ir.Table) -> ir.Table:
    """Views of the last 90 days by category (null: of no known category)."""
    views = events.filter(events.event_name == "view_item", events.age < RECENT, events.product_id.notnull())
    viewed = views.group_by(["customer_id", "product_id"]).aggregate(views=views.count())
    named = viewed.left_join(products, "product_id").drop("product_id_right")
    return named.group_by(["customer_id", "category"]).aggregate(
        views=named.views.sum(),
        products=named.count(),
        price=(named.views * named.price).sum(),
        usual_price=(named.views * named.usual_price).sum(),
    )


def habits_of(events: ir.Table, zones: Zones, as_of: datetime, shop: Shop) -> ir.Table:
    """Events of the last 90 days: clock (seconds since local midnight) and weekend (0 or 1)."""
    recent = events.filter(events.age < RECENT).select("customer_id", "second")
    local = with_local_seconds(recent, zones, as_of, shop)
    return local.select(
        "customer_id", clock=local.local_second % DAY, weekend=one_if(local_weekday(local.local_second) >= 5)
    )
