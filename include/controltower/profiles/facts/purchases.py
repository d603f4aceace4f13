"""Orders, their lines and the days between them. A purchase is an order, not cancelled, with something paid for."""

from __future__ import annotations

from datetime import datetime

import ibis
import ibis.expr.types as ir

from controltower.profiles.facts.tables import Tables, age
from controltower.profiles.local_time import Zones, local_day, local_weekday, with_local_seconds
from controltower.profiles.portable import DAY, MONEY, QUANTITY, RATE, one_if, seconds, whole
from controltower.shop import Shop


def headers_of(orders: ir.Table, as_of: datetime) -> ir.Table:
    """Orders of known customers: customer_id, order_id, ordered_at, second, age, status, currency, channel, coupon."""
    known = orders.filter(orders.customer_id.notnull(), orders.ordered_at <= as_of)
    second = seconds(known.ordered_at)
    return known.select(
        "customer_id",
        "order_id",
        "ordered_at",
        "status",
        "currency",
        "channel",
        coupon=one_if(known.coupon_code.notnull()),
        second=second,
        age=age(second, as_of),
    )


def lines_of(tables: Tables, headers: ir.Table, products: ir.Table, shop: Shop) -> ir.Table:
    """Lines with their money in the shop's currency; `products` gives category, price and usual price."""
    rates = tables("exchange_rates")
    rates = rates.filter(rates.to == shop.currency).select(
        rate_date=rates.date, rate_from=rates["from"], rate=rates.rate.cast(RATE)
    )
    lines = tables("order_lines").select("order_id", "product_id", "quantity", "unit_price", "discount")
    joined = lines.inner_join(headers, "order_id").left_join(products, "product_id").drop("product_id_right")
    joined = joined.left_join(rates, [joined.currency == rates.rate_from, joined.ordered_at.date() == rates.rate_date])
    rate = ibis.ifelse(joined.currency == shop.currency, ibis.literal(1).cast(RATE), joined.rate)
    undone = joined.status.fill_null("placed") == "returned"
    back = (joined.quantity < 0) | undone
    cancelled = joined.status.fill_null("placed") == "cancelled"
    quantity = joined.quantity.cast(QUANTITY)
    gross = (quantity * joined.unit_price).cast(MONEY)
    # a returned line gives back what was paid: its discount counts the other way
    discount = joined.discount.fill_null(0).cast(MONEY)
    discount = ibis.ifelse(joined.quantity < 0, -discount, discount)
    # an order returned as a whole comes to nothing, with or without lines that say so; a return booked as an order of
    # its own, without anything sold in it, gives back money
    sold = (joined.quantity > 0).any().over(group_by="order_id")
    kept = ibis.ifelse(undone & sold, ibis.literal(0).cast(MONEY), gross - discount)
    return joined.filter((joined.quantity < 0) | ~cancelled).select(
        "customer_id",
        "order_id",
        "product_id",
        "category",
        "channel",
        "coupon",
        "second",
        "age",
        "price",
        "usual_price",
        bought=(joined.quantity > 0) & (joined.unit_price > 0),
        returned=back,
        quantity=quantity,
        amount=(kept * rate).cast(MONEY),
        gross=(gross * rate).cast(MONEY),
        discount=(discount * rate).cast(MONEY),
    )


def orders_of(lines: ir.Table) -> ir.Table:
    bought = lines.filter(lines.bought)
    return bought.group_by(["customer_id", "order_id", "second", "age", "channel", "coupon"]).aggregate(
        amount=bought.amount.sum(), quantity=bought.quantity.sum(), discounted=one_if(bought.discount > 0).max()
    )


def bought_categories_of(lines: ir.Table) -> ir.Table:
    known = lines.filter(lines.bought, lines.category.notnull())
    return known.group_by(["customer_id", "category"]).aggregate(lines=known.count())


def visits_of(orders: ir.Table) -> ir.Table:
    """Days are counted back from as_of, so that all purchases within the same 24 hours are one visit."""
    days = orders.select("customer_id", day_age=whole(orders.age, ibis.literal(DAY))).distinct()
    earlier = days.day_age.lead().over(group_by="customer_id", order_by="day_age")
    return days.mutate(gap=earlier - days.day_age)


def local_orders_of(
    orders: ir.Table, customers: ir.Table, holidays: ir.Table, zones: Zones, as_of: datetime, shop: Shop
) -> ir.Table:
    """Purchases of the last year by the customer's calendar; `holidays` by country (see calendar.py)."""
    countries = customers.select("customer_id", "country")
    local = with_local_seconds(orders.select("customer_id", "second"), zones, as_of, shop)
    local = local.left_join(countries, "customer_id").drop("customer_id_right")
    local = local.mutate(country=local.country.coalesce(shop.country), day=local_day(local.local_second))
    dated = local.left_join(holidays, [local.country == holidays.holiday_country, local.day == holidays.holiday_day])
    return dated.select(
        "customer_id",
        weekend=one_if(local_weekday(dated.local_second) >= 5),
        holiday=dated.holiday.fill_null(0),
        gift_time=dated.gift_time.fill_null(0),
    )
