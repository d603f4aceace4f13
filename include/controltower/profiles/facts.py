"""The facts that features count, each one row with its age: purchases, their lines, purchase days, events, messages.

Everything is in whole seconds and decimals here. Sums over those don't depend on the order of rows, so the same facts
give the same features byte for byte; floats appear only in a feature's last division.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import ibis
import ibis.expr.types as ir

from controltower.profiles.local_time import DAY, epoch, local_weekday, seconds, with_local_seconds
from controltower.shop import Shop

_WIDE = (
    "decimal(28,4)"  # a factor of this width makes the product wide enough: DuckDB multiplies two decimal(18) into one
)
_RATE = "decimal(28,8)"

Tables = Callable[[str], ir.Table]  # a contract table as of the date: Reading.table, or a dict's __getitem__


@dataclass(frozen=True)
class Facts:
    """One row a fact, of known customers only; `age` is in seconds before as_of and never negative.

    customers  customer_id, age (since sign-up, null where unknown): all customers known
    lines      customer_id, order_id, product_id, category, age, bought, returned (flags), quantity, amount, gross,
               discount (decimal, shop currency, null where there is no rate)
    orders     customer_id, order_id, age, amount, quantity: one row a purchase
    visits     customer_id, day_age, gap: one row a day with a purchase; gap in days to the purchase day before
    weekends   customer_id, weekend (0 or 1): one row a purchase of the last year, local time
    events     customer_id, event_name, session_id, age
    messages   customer_id, message_id, channel, age, clicked (flag): what was sent to the customer
    reactions  customer_id, message_id, event, second, age: what people did with it (opened, clicked, unsubscribed, ...)
    """

    customers: ir.Table
    lines: ir.Table
    orders: ir.Table
    visits: ir.Table
    weekends: ir.Table
    events: ir.Table
    messages: ir.Table
    reactions: ir.Table


def gather(tables: Tables, as_of: datetime, shop: Shop) -> Facts:
    """Facts as of a date from the contract's tables. A purchase is an order, not cancelled, with something paid for."""
    headers = _headers(tables("orders"), as_of)
    lines = _lines(tables, headers, shop)
    bought = lines.filter(lines.bought)
    orders = bought.group_by(["customer_id", "order_id", "second", "age"]).aggregate(
        amount=bought.amount.sum(), quantity=bought.quantity.sum()
    )
    raw = tables("events")
    raw = raw.filter(raw.customer_id.notnull(), raw.occurred_at <= as_of)
    events = raw.select("customer_id", "event_name", "session_id", age=_age(seconds(raw.occurred_at), as_of))
    customers = tables("customers")
    sent = tables("messages_history")
    sent = sent.filter(sent.sent_at <= as_of)
    answered = _reactions(sent, tables("message_events"), as_of)
    return Facts(
        customers=_customers(customers, headers, events, as_of),
        lines=lines,
        orders=orders,
        visits=_visits(orders),
        weekends=_weekends(orders, customers, as_of, shop),
        events=events,
        messages=_messages(sent, answered, as_of),
        reactions=answered,
    )


def _reactions(sent: ir.Table, answered: ir.Table, as_of: datetime) -> ir.Table:
    """What people did with messages; what a program opened or clicked (`"machine": true` in attributes) is left out."""
    told = answered.attributes.replace(" ", "").contains('"machine":true')
    by_people = answered.filter(answered.occurred_at <= as_of, ~told.fill_null(False))
    receivers = sent.select("customer_id", "message_id").distinct()
    joined = by_people.select("message_id", "event", second=seconds(by_people.occurred_at)).inner_join(
        receivers, "message_id"
    )
    return joined.select("customer_id", "message_id", "event", "second", age=_age(joined.second, as_of))


def uncounted_orders(facts: Facts) -> ir.IntegerScalar:
    """How many purchases lack a rate into the shop's currency; their money is in no feature."""
    return facts.orders.filter(facts.orders.amount.isnull()).count()


def _age(second: ir.IntegerValue, as_of: datetime) -> ir.IntegerValue:
    return ibis.literal(epoch(as_of), "int64") - second


def _headers(orders: ir.Table, as_of: datetime) -> ir.Table:
    """Orders of known customers: customer_id, order_id, ordered_at, second, age, status, currency."""
    known = orders.filter(orders.customer_id.notnull(), orders.ordered_at <= as_of)
    second = seconds(known.ordered_at)
    return known.select(
        "customer_id", "order_id", "ordered_at", "status", "currency", second=second, age=_age(second, as_of)
    )


def _lines(tables: Tables, headers: ir.Table, shop: Shop) -> ir.Table:
    products = tables("products").select("product_id", "category")
    rates = tables("exchange_rates")
    rates = rates.filter(rates.to == shop.currency).select(
        rate_date=rates.date, rate_from=rates["from"], rate=rates.rate.cast(_RATE)
    )
    lines = tables("order_lines").select("order_id", "product_id", "quantity", "unit_price", "discount")
    joined = lines.inner_join(headers, "order_id").left_join(products, "product_id").drop("product_id_right")
    joined = joined.left_join(
        rates, [joined.currency == rates.rate_from, joined.ordered_at.date() == rates.rate_date]
    ).drop("rate_from", "rate_date")
    rate = ibis.ifelse(joined.currency == shop.currency, ibis.literal(1).cast(_RATE), joined.rate)
    undone = joined.status.fill_null("placed") == "returned"
    back = (joined.quantity < 0) | undone
    cancelled = joined.status.fill_null("placed") == "cancelled"
    quantity = joined.quantity.cast(_WIDE)
    gross = (quantity * joined.unit_price).cast("decimal(18,4)")
    # a returned line gives back what was paid: its discount counts the other way
    discount = joined.discount.fill_null(0).cast("decimal(18,4)")
    discount = ibis.ifelse(joined.quantity < 0, -discount, discount)
    # an order returned as a whole comes to nothing, with or without lines that say so; a return booked as an order of
    # its own, without anything sold in it, gives back money
    sold = (joined.quantity > 0).any().over(group_by="order_id")
    kept = ibis.ifelse(undone & sold, ibis.literal(0).cast("decimal(18,4)"), gross - discount)
    in_shop_money = (kept.cast(_WIDE) * rate).cast("decimal(18,4)")
    return joined.filter((joined.quantity < 0) | ~cancelled).select(
        "customer_id",
        "order_id",
        "product_id",
        "category",
        "second",
        "age",
        bought=(joined.quantity > 0) & (joined.unit_price > 0),
        returned=back,
        quantity=quantity,
        amount=in_shop_money,
        gross=(gross.cast(_WIDE) * rate).cast("decimal(18,4)"),
        discount=(discount.cast(_WIDE) * rate).cast("decimal(18,4)"),
    )


def _customers(customers: ir.Table, headers: ir.Table, events: ir.Table, as_of: datetime) -> ir.Table:
    """All customers known: those of the table, and those seen only in orders or events."""
    known = customers.filter(customers.signed_up_at.isnull() | (customers.signed_up_at <= as_of))
    signed_up = known.select("customer_id", age=_age(seconds(known.signed_up_at), as_of))
    seen = ibis.union(headers.select("customer_id"), events.select("customer_id"), distinct=True)
    everyone = ibis.union(signed_up.select("customer_id"), seen, distinct=True)
    return everyone.left_join(signed_up, "customer_id").drop("customer_id_right")


def _messages(sent: ir.Table, answered: ir.Table, as_of: datetime) -> ir.Table:
    clicked = answered.filter(answered.event == "clicked").select(clicked_id="message_id").distinct()
    messages = sent.select("customer_id", "message_id", "channel", age=_age(seconds(sent.sent_at), as_of))
    joined = messages.left_join(clicked, messages.message_id == clicked.clicked_id)
    return joined.mutate(clicked=joined.clicked_id.notnull()).drop("clicked_id")


def _visits(orders: ir.Table) -> ir.Table:
    """Days are counted back from as_of, so that all purchases within the same 24 hours are one visit."""
    days = orders.select("customer_id", day_age=(orders.age - orders.age % DAY) // DAY).distinct()
    earlier = days.day_age.lead().over(group_by="customer_id", order_by="day_age")
    return days.mutate(gap=(earlier - days.day_age).cast("int64"))


def _weekends(orders: ir.Table, customers: ir.Table, as_of: datetime, shop: Shop) -> ir.Table:
    local = with_local_seconds(orders.select("customer_id", "second"), customers, as_of, shop)
    return local.select("customer_id", weekend=(local_weekday(local.local_second) >= 5).cast("int64"))
