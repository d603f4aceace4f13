"""How often, how lately and how regularly a customer buys."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from controltower.profiles.features.feature import Feature, within
from controltower.profiles.portable import days, div


def _orders_within(span: int) -> Feature:
    return Feature(
        f"orders_{span}d",
        f"purchases in the last {span} days",
        "orders",
        lambda t: t.count(where=within(t, span)),
        0,
    )


def _gap_spread(t: ir.Table) -> ir.FloatingValue:
    """Sample standard deviation of the gaps; in whole days, so that the sums are exact and never negative."""
    n, total = t.gap.count(), t.gap.sum()
    squares = (t.gap * t.gap).sum()
    return div(n * squares - total * total, n * (n - 1)).sqrt()


FEATURES: tuple[Feature, ...] = (
    Feature(
        "days_since_last_order",
        "days since the last purchase",
        "orders",
        lambda t: days(t.age.min()),
        age="last",
    ),
    Feature(
        "days_since_first_order",
        "days since the first purchase",
        "orders",
        lambda t: days(t.age.max()),
        age="first",
    ),
    *(_orders_within(span) for span in (7, 14, 30, 60, 90, 180, 365)),
    Feature("orders_total", "purchases so far", "orders", lambda t: t.count(), 0),
    Feature(
        "purchase_days", "24-hour spans, counted back from the date, with a purchase", "visits", lambda t: t.count(), 0
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
        age="last",
    ),
    Feature(
        "days_since_third_last",
        "days since the third last purchase day",
        "visits",
        lambda t: t.day_age.max(where=t.place == 2),
        age="last",
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
        "order_trend_180d",
        "purchases a month in the last 90 days over those in the last 180: above 1 is speeding up",
        "features",
        lambda t: div(t.orders_90d * 2, t.orders_180d),
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
