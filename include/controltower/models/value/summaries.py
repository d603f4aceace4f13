"""What customers bought so far, a row each, and what they bought within a window: read from the lake, net.

A purchase is a day with something bought that wasn't all taken back the same day. Days are counted back from as_of in
24 hours each, as for features. Amounts are in the shop's currency, less discounts, returns and what was cancelled:
a return counts on the day it came, so a window's amount can be below 0.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from controltower.profiles.facts import gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.portable import DAY, one_if, whole
from controltower.shop import Shop


def read_summaries(tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, purchases, first, last (whole days before as_of), amount (float): a row a customer who bought."""
    days = _days(tables, as_of, shop)
    bought = days.group_by("customer_id").aggregate(
        purchases=days.purchase.sum(),
        first=ibis.ifelse(days.purchase == 1, days.day, ibis.null("int64")).max(),
        last=ibis.ifelse(days.purchase == 1, days.day, ibis.null("int64")).min(),
        amount=days.amount.sum().cast("float64").fill_null(0.0),
    )
    return bought.filter(bought.purchases > 0).order_by("customer_id")


def read_window(tables: Tables, start: datetime, days: int, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, purchases, amount (float) of the `days` after `start`, as known as of `as_of`, not before its end.

    `start` is whole days before as_of. Raises ValueError where it isn't, or where the window was still open.
    """
    before = as_of - start
    if before % timedelta(days=1) or before.days < days:
        raise ValueError(f"{start} isn't whole days before {as_of}, or less than {days} days")
    within = _days(tables, as_of, shop)
    within = within.filter(within.day < before.days, within.day >= before.days - days)
    return (
        within.group_by("customer_id")
        .aggregate(purchases=within.purchase.sum(), amount=within.amount.sum().cast("float64").fill_null(0.0))
        .order_by("customer_id")
    )


def _days(tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, day, amount (decimal, null where a currency has no rate), purchase (0 or 1)."""
    lines = gather(tables, as_of, shop).lines
    dated = lines.select("customer_id", "amount", bought=one_if(lines.bought), day=whole(lines.age, ibis.literal(DAY)))
    daily = dated.group_by("customer_id", "day").aggregate(amount=dated.amount.sum(), bought=dated.bought.max())
    kept = (daily.bought == 1) & (daily.amount.isnull() | (daily.amount > 0))
    return daily.select("customer_id", "day", "amount", purchase=one_if(kept))
