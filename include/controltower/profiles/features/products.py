"""What a customer buys, and sends back."""

from __future__ import annotations

from controltower.profiles.features.feature import Feature
from controltower.profiles.portable import days, div

FEATURES: tuple[Feature, ...] = (
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
    Feature("distinct_categories", "different categories bought", "bought_categories", lambda t: t.count(), 0),
    Feature(
        "repeat_share",
        "share of the lines bought whose product had been bought before",
        "lines",
        lambda t: div(t.count(where=t.bought) - t.product_id.nunique(where=t.bought), t.count(where=t.bought)),
    ),
    Feature(
        "top_category_bought_share",
        "share of the lines bought that are of the category bought most",
        "bought_categories",
        lambda t: div(t.lines.max(), t.lines.sum()),
    ),
    Feature("returned_lines", "order lines sent back", "lines", lambda t: t.count(where=t.returned), 0),
    Feature(
        "returned_share",
        "order lines sent back over lines bought",
        "lines",
        lambda t: div(t.count(where=t.returned), t.count(where=t.bought)),
    ),
    Feature(
        "days_since_last_return",
        "days since the order that was last sent back, or since the order that booked the return",
        "lines",
        lambda t: days(t.age.min(where=t.returned)),
        age="last",
    ),
)
