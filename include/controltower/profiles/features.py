"""What we know of a customer as of a date: one row a customer, each feature defined once, in FEATURES.

The expressions are Ibis, run on DuckDB here; only operations that mean the same on PostgreSQL and Spark are used
(division through `div`, times as whole seconds, no medians, no float sums). No feature reads a fact later than as_of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import ibis
import ibis.expr.types as ir

from controltower.profiles.facts import Facts, Tables, gather
from controltower.profiles.lifecycle import lifecycle
from controltower.profiles.local_time import DAY
from controltower.shop import Shop

Source = Literal["customers", "orders", "lines", "visits", "weekends", "events", "messages", "reactions", "features"]

# A click rate is told as if so many more messages had been sent and so many of them clicked: few messages say little.
MORE_MESSAGES, MORE_CLICKS = 30, 1


@dataclass(frozen=True)
class Feature:
    """`expression` aggregates the rows of one customer in `source` (see facts.Facts).

    With source "features" it is computed from the other features. `empty` is the value of a customer without rows
    there: 0 for counts and sums, None (unknown) for ages and shares.
    """

    name: str
    description: str
    source: Source
    expression: Callable[[ir.Table], ir.NumericValue]
    empty: float | None = None


def div(a: ir.NumericValue, b: ir.NumericValue) -> ir.FloatingValue:
    """a / b as float64, null where b is 0: the one division that means the same on every engine."""
    return a.cast("float64") / b.cast("float64").nullif(0.0)


def _days(age: ir.NumericValue) -> ir.FloatingValue:
    return div(age, ibis.literal(DAY))


def _orders_within(days: int) -> Feature:
    return Feature(
        f"orders_{days}d",
        f"purchases in the last {days} days",
        "orders",
        lambda t: t.count(where=t.age < days * DAY),
        0,
    )


def _revenue_within(days: int) -> Feature:
    return Feature(
        f"revenue_{days}d",
        f"money spent in the last {days} days, less returns and discounts, in the shop's currency",
        "lines",
        lambda t: t.amount.sum(where=t.age < days * DAY),
        0,
    )


def _events_within(name: str, event: str, days: int, description: str) -> Feature:
    return Feature(
        f"{name}_{days}d",
        f"{description} in the last {days} days",
        "events",
        lambda t: t.count(where=(t.event_name == event) & (t.age < days * DAY)),
        0,
    )


def _messages_within(name: str, channel: str | None, days: int, description: str) -> Feature:
    return Feature(
        f"{name}_{days}d",
        f"{description} sent in the last {days} days",
        "messages",
        lambda t: t.message_id.nunique(
            where=(t.age < days * DAY) & (t.channel == channel if channel else ibis.literal(True))
        ),
        0,
    )


def _reactions_within(name: str, event: str, days: int, description: str) -> Feature:
    return Feature(
        f"{name}_{days}d",
        f"{description} in the last {days} days, not counting what programs do",
        "reactions",
        lambda t: t.message_id.nunique(where=(t.event == event) & (t.age < days * DAY)),
        0,
    )


def _click_rate(t: ir.Table) -> ir.FloatingValue:
    recent = t.age < 90 * DAY
    sent = t.message_id.nunique(where=recent)
    clicked = t.message_id.nunique(where=recent & t.clicked)
    return div(clicked + MORE_CLICKS, ibis.ifelse(sent > 0, sent + MORE_MESSAGES, 0))  # none sent: unknown


def _gap_spread(t: ir.Table) -> ir.FloatingValue:
    """Sample standard deviation of the gaps; in whole days, so that the sums are exact and never negative."""
    n, total = t.gap.count(), t.gap.sum()
    squares = (t.gap * t.gap).sum()
    return div(n * squares - total * total, n * (n - 1)).sqrt()


def _open_cart(t: ir.Table) -> ir.IntegerValue:
    cart, order = t.days_since_last_cart, t.days_since_last_order
    is_open = (cart <= 7) & (order.isnull() | (order > cart))
    # without any event in the shop the answer is unknown, not "no"
    return ibis.ifelse(t.carts_7d.isnull(), ibis.null("int64"), is_open.fill_null(False).cast("int64"))


FEATURES: tuple[Feature, ...] = (
    Feature(
        "days_since_last_order",
        "days since the last purchase",
        "orders",
        lambda t: _days(t.age.min()),
    ),
    Feature("days_since_first_order", "days since the first purchase", "orders", lambda t: _days(t.age.max())),
    Feature("days_since_signup", "days since the customer signed up", "customers", lambda t: _days(t.age.max())),
    *(_orders_within(days) for days in (7, 14, 30, 60, 90, 180, 365)),
    Feature("orders_total", "purchases so far", "orders", lambda t: t.count(), 0),
    Feature(
        "purchase_days", "24-hour spans, counted back from the date, with a purchase", "visits", lambda t: t.count(), 0
    ),
    *(_revenue_within(days) for days in (30, 90, 365)),
    Feature(
        "revenue_total",
        "money spent so far, less returns and discounts, in the shop's currency",
        "lines",
        lambda t: t.amount.sum(),
        0,
    ),
    Feature(
        "average_order_value",
        "money per purchase, returns not deducted",
        "orders",
        lambda t: div(t.amount.sum(), t.amount.count()),
    ),
    Feature("largest_order_value", "money of the largest purchase", "orders", lambda t: t.amount.max()),
    Feature(
        "last_order_value",
        "money of the last purchase (the largest of them where several share the second)",
        "orders",
        lambda t: t.amount.max(where=t.latest),
    ),
    Feature("items_per_order", "pieces per purchase", "orders", lambda t: div(t.quantity.sum(), t.count())),
    Feature(
        "lines_per_order",
        "different lines per purchase",
        "lines",
        lambda t: div(t.count(where=t.bought), t.order_id.nunique(where=t.bought)),
    ),
    Feature(
        "distinct_products", "different products bought", "lines", lambda t: t.product_id.nunique(where=t.bought), 0
    ),
    Feature(
        "distinct_categories", "different categories bought", "lines", lambda t: t.category.nunique(where=t.bought), 0
    ),
    Feature("returned_lines", "order lines sent back", "lines", lambda t: t.count(where=t.returned), 0),
    Feature(
        "discount_share",
        "share of the list value that was discounted",
        "lines",
        lambda t: div(t.discount.sum(where=t.bought), t.gross.sum(where=t.bought)),
    ),
    Feature(
        "mean_gap_days",
        "mean days between purchase days",
        "visits",
        lambda t: div(t.day_age.max() - t.day_age.min(), t.count() - 1),
    ),
    Feature("gap_spread_days", "standard deviation of the days between purchase days", "visits", _gap_spread),
    Feature("longest_gap_days", "longest time between two purchase days", "visits", lambda t: t.gap.max()),
    Feature(
        "last_gap_days", "days between the last two purchase days", "visits", lambda t: t.gap.max(where=t.place == 0)
    ),
    Feature(
        "days_since_second_last",
        "days since the purchase day before the last",
        "visits",
        lambda t: t.day_age.max(where=t.place == 1),
    ),
    Feature(
        "days_since_third_last",
        "days since the third last purchase day",
        "visits",
        lambda t: t.day_age.max(where=t.place == 2),
    ),
    Feature(
        "weekend_share",
        "share of last year's purchases on a local Saturday or Sunday",
        "weekends",
        lambda t: div(t.weekend.sum(), t.count()),
    ),
    _events_within("views", "view_item", 7, "product views"),
    _events_within("views", "view_item", 30, "product views"),
    _events_within("carts", "add_to_cart", 7, "additions to the cart"),
    _events_within("carts", "add_to_cart", 30, "additions to the cart"),
    _events_within("searches", "search", 30, "searches"),
    Feature(
        "sessions_30d",
        "sessions in the last 30 days",
        "events",
        lambda t: t.session_id.nunique(where=t.age < 30 * DAY),
        0,
    ),
    Feature("days_since_last_event", "days since the last event of any kind", "events", lambda t: _days(t.age.min())),
    Feature(
        "days_since_last_cart",
        "days since something was last put into the cart",
        "events",
        lambda t: _days(t.age.min(where=t.event_name == "add_to_cart")),
    ),
    _messages_within("messages", None, 30, "messages"),
    _messages_within("messages", None, 90, "messages"),
    _messages_within("emails", "email", 30, "e-mails"),
    _messages_within("pushes", "push", 30, "pushes"),
    Feature("days_since_last_message", "days since the last message", "messages", lambda t: _days(t.age.min())),
    _reactions_within("opens", "opened", 30, "messages opened, as far as pixels tell,"),
    _reactions_within("clicks", "clicked", 30, "messages clicked"),
    _reactions_within("clicks", "clicked", 90, "messages clicked"),
    Feature(
        "click_rate",
        f"share of the last 90 days' messages that were clicked, as if {MORE_MESSAGES} more had brought {MORE_CLICKS}",
        "messages",
        _click_rate,
    ),
    Feature(
        "days_since_last_click",
        "days since the last click in a message",
        "reactions",
        lambda t: _days(t.age.min(where=t.event == "clicked")),
    ),
    _reactions_within("unsubscribed", "unsubscribed", 90, "messages unsubscribed from"),
    Feature(
        "open_cart",
        "1 if something was put into the cart within 7 days and no purchase followed",
        "features",
        _open_cart,
    ),
    Feature(
        "overdue_ratio",
        "days since the last purchase over the own mean gap: above 1 is later than usual",
        "features",
        lambda t: div(t.days_since_last_order, t.mean_gap_days),
    ),
    Feature(
        "order_trend",
        "purchases a month in the last 30 days over those in the last 90: above 1 is speeding up",
        "features",
        lambda t: div(t.orders_30d * 3, t.orders_90d),
    ),
    Feature(
        "order_rate",
        "purchase days per day since the first purchase (30 days at least)",
        "features",
        lambda t: div(t.purchase_days, ibis.greatest(t.days_since_first_order, ibis.literal(30.0))),
    ),
    Feature(
        "recency_share",
        "days since the last purchase over days since the first",
        "features",
        lambda t: div(t.days_since_last_order, t.days_since_first_order),
    ),
)

NAMES: tuple[str, ...] = tuple(f.name for f in FEATURES)


def features(tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, as_of, all FEATURES (float64) and lifecycle of every customer known, ordered by customer_id.

    `tables` gives a contract table as of the date (`Reading.table`). While the shop has no events, their features are
    null.
    """
    return assemble(gather(tables, as_of, shop), as_of)


def assemble(facts: Facts, as_of: datetime) -> ir.Table:
    result = facts.customers.select("customer_id")
    for source in ("customers", "orders", "lines", "visits", "weekends", "events", "messages", "reactions"):
        rows = _ready(source, getattr(facts, source))
        wanted = [f for f in FEATURES if f.source == source]
        per_customer = rows.group_by("customer_id").aggregate(
            **{f.name: f.expression(rows).cast("float64") for f in wanted}
        )
        joined = result.left_join(per_customer, "customer_id").drop("customer_id_right")
        absent = source == "events" and not _any(rows)
        filled = {
            f.name: joined[f.name].fill_null(float(f.empty)) for f in wanted if f.empty is not None and not absent
        }
        result = joined.mutate(**filled) if filled else joined
    for f in FEATURES:
        if f.source == "features":
            result = result.mutate(**{f.name: f.expression(result).cast("float64")})
    moment = ibis.literal(as_of, type="timestamp('UTC', 6)")
    return result.select("customer_id", *NAMES, as_of=moment, lifecycle=lifecycle(result)).order_by("customer_id")[
        ["customer_id", "as_of", *NAMES, "lifecycle"]
    ]


def _ready(source: str, rows: ir.Table) -> ir.Table:
    """Rows with what their features ask for beside the facts: which is the latest, and its place from the end."""
    if source == "orders":
        newest = rows.age.min().over(group_by="customer_id")
        return rows.mutate(latest=rows.age == newest)
    if source == "visits":
        return rows.mutate(place=ibis.row_number().over(group_by="customer_id", order_by="day_age"))
    return rows


def _any(rows: ir.Table) -> bool:
    return bool(rows.limit(1).count().to_pyarrow().as_py())
