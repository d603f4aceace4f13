"""How a customer minds prices: discounts, coupons, and dear or cheap products within their category."""

from __future__ import annotations

from controltower.profiles.features.feature import Feature, share, within
from controltower.profiles.portable import div

FEATURES: tuple[Feature, ...] = (
    Feature(
        "discount_share",
        "share of the list value that was discounted",
        "lines",
        lambda t: div(t.discount.sum(where=t.bought), t.gross.sum(where=t.bought)),
    ),
    Feature(
        "discounted_line_share",
        "share of the lines bought that had a discount",
        "lines",
        lambda t: share(t, t.discount > 0, of=t.bought),
    ),
    Feature(
        "discounted_order_share",
        "share of the purchases with a discount on some line",
        "orders",
        lambda t: div(t.discounted.sum(), t.count()),
    ),
    Feature(
        "coupon_order_share",
        "share of the purchases that used a coupon",
        "orders",
        lambda t: div(t.coupon.sum(), t.count()),
    ),
    Feature(
        "coupon_orders_365d",
        "purchases with a coupon in the last 365 days",
        "orders",
        lambda t: t.coupon.sum(where=within(t, 365)),
        0,
    ),
    Feature(
        "coupons_open",
        "coupons issued to the customer, neither used nor expired",
        "coupons",
        lambda t: t.open.sum(),
        0,
    ),
    Feature(
        "coupon_use_share",
        "share of the coupons issued to the customer that were used",
        "coupons",
        lambda t: div(t.used.sum(), t.count()),
    ),
    Feature(
        "coupon_failures_90d",
        "coupons that the shop refused in the last 90 days",
        "events",
        lambda t: t.count(where=(t.event_name == "coupon_failed") & within(t, 90)),
        0,
    ),
    Feature(
        "bought_price_level",
        "today's price of the products bought over the mean price of their categories: above 1 is dearer",
        "lines",
        lambda t: div(t.price.sum(where=t.bought), t.usual_price.sum(where=t.bought)),
    ),
    Feature(
        "viewed_price_level_90d",
        "price of the products viewed in the last 90 days over the mean price of their categories: above 1 is dearer",
        "interests",
        lambda t: div(t.price.sum(), t.usual_price.sum()),
    ),
    Feature(
        "price_reach",
        "price level of what is viewed over that of what is bought: above 1 is looking at dearer things than buying",
        "features",
        lambda t: div(t.viewed_price_level_90d, t.bought_price_level),
    ),
)
