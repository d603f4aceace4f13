"""How much a customer spends, in the shop's currency."""

from __future__ import annotations

from controltower.profiles.features.feature import Feature, within
from controltower.profiles.portable import div


def _revenue_within(span: int) -> Feature:
    return Feature(
        f"revenue_{span}d",
        f"money spent in the last {span} days, less returns and discounts, in the shop's currency",
        "lines",
        lambda t: t.amount.sum(where=within(t, span)),
        0,
    )


FEATURES: tuple[Feature, ...] = (
    *(_revenue_within(span) for span in (30, 90, 180, 365)),
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
    Feature(
        "revenue_trend",
        "money a month in the last 30 days over that in the last 90: above 1 is spending more",
        "features",
        lambda t: div(t.revenue_30d * 3, t.revenue_90d),
    ),
    Feature(
        "last_value_ratio",
        "money of the last purchase over that of the average one",
        "features",
        lambda t: div(t.last_order_value, t.average_order_value),
    ),
)
