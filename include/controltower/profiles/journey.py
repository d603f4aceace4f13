"""Where a customer is on the way to a purchase, as of any minute.

browsing_now       did something in the shop, online, within the last VISIT minutes
left_with_cart     else, and put something into the cart at the last visit that was neither removed nor bought since
bought             else, and bought at the last visit or since
left_without_cart  else

A visit is a run of events with less than VISIT minutes between them. Who did nothing within the last LATELY days has no
area: so much of the events is read, not the whole history, at each planning.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from controltower.profiles.facts.tables import Tables, age
from controltower.profiles.portable import one_if, seconds, whole

VISIT = 30  # minutes
LATELY = 30  # days
AREAS = ("browsing_now", "left_with_cart", "bought", "left_without_cart")
COLUMNS = ("journey", "journey_minutes")


def journeys(tables: Tables, as_of: datetime) -> ir.Table:
    """customer_id, journey (one of AREAS), journey_minutes (whole ones since the last event or purchase)."""
    first = as_of - timedelta(days=LATELY)
    events = tables("events")
    events = events.filter(events.customer_id.notnull(), events.occurred_at.between(first, as_of)).select(
        "customer_id",
        "event_name",
        "product_id",
        "order_id",
        "channel",
        "occurred_at",
        second=seconds(events.occurred_at),
    )
    purchases = _purchases(events, tables("orders"), first, as_of)
    visits = _last_visits(events.filter(events.channel.fill_null("web") != "store"))
    carts = _open_carts(events, visits, purchases)
    seen = ibis.union(visits.select("customer_id"), purchases.select("customer_id"), distinct=True)
    found = seen.left_join(visits, "customer_id").drop("customer_id_right")
    found = found.left_join(purchases, "customer_id").drop("customer_id_right")
    found = found.left_join(carts, "customer_id").drop("customer_id_right")
    last = ibis.greatest(found.last.fill_null(found.bought), found.bought.fill_null(found.last))
    area = ibis.cases(
        (found.last.notnull() & (age(seconds(found.last), as_of) < VISIT * 60), "browsing_now"),
        (found.carted.notnull(), "left_with_cart"),
        (found.bought.notnull() & (found.begun.isnull() | (found.bought >= found.begun)), "bought"),
        else_="left_without_cart",
    )
    return found.select("customer_id", journey=area, journey_minutes=whole(age(seconds(last), as_of), ibis.literal(60)))


def _purchases(events: ir.Table, orders: ir.Table, first: datetime, as_of: datetime) -> ir.Table:
    """customer_id, bought: the last purchase, by orders and `purchase` events, that was not cancelled."""
    known = orders.filter(orders.customer_id.notnull(), orders.ordered_at.between(first, as_of))
    gone = known.status.fill_null("placed") == "cancelled"
    cancelled = known.filter(gone).select(gone_id=known.order_id).distinct()
    told = events.filter(events.event_name == "purchase")
    told = told.anti_join(cancelled, told.order_id == cancelled.gone_id)
    every = ibis.union(
        known.filter(~gone).select("customer_id", at=known.ordered_at), told.select("customer_id", at=told.occurred_at)
    )
    return every.group_by("customer_id").aggregate(bought=every["at"].max())


def _last_visits(events: ir.Table) -> ir.Table:
    """customer_id, begun and last: the first and the last event of the last visit."""
    before = events.second.lag().over(group_by="customer_id", order_by="second")
    marked = events.mutate(begins=one_if(before.isnull() | (events.second - before >= VISIT * 60)))
    return marked.group_by("customer_id").aggregate(
        begun=marked.occurred_at.max(where=marked.begins == 1), last=marked.occurred_at.max()
    )


def _open_carts(events: ir.Table, visits: ir.Table, purchases: ir.Table) -> ir.Table:
    """customer_id, carted: when the last of what still lies in the cart was put there at the last visit."""
    changes = events.filter(events.event_name.isin(["add_to_cart", "remove_from_cart"]))
    changes = changes.inner_join(visits, "customer_id")
    changes = changes.filter(changes.occurred_at >= changes.begun)
    added = changes.event_name == "add_to_cart"
    lying = changes.group_by("customer_id", "product_id").aggregate(
        added=changes.occurred_at.max(where=added), removed=changes.occurred_at.max(where=~added)
    )
    lying = lying.left_join(purchases, "customer_id").drop("customer_id_right")
    lying = lying.filter(
        lying.added.notnull(),
        lying.removed.isnull() | (lying.added > lying.removed),
        lying.bought.isnull() | (lying.added > lying.bought),
    )
    return lying.group_by("customer_id").aggregate(carted=lying.added.max())
