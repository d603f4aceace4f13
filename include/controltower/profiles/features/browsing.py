"""What a customer does in the shop: events, sessions, and the way from a view to a purchase."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from controltower.profiles.features.feature import Feature, share, within
from controltower.profiles.portable import DAY, days, div, one_if, whole


def _events_within(name: str, event: str, span: int, description: str) -> Feature:
    return Feature(
        f"{name}_{span}d",
        f"{description} in the last {span} days",
        "events",
        lambda t: t.count(where=(t.event_name == event) & within(t, span)),
        0,
    )


def _open_cart(t: ir.Table) -> ir.IntegerValue:
    cart, order = t.days_since_last_cart, t.days_since_last_order
    is_open = (cart <= 7) & (order.isnull() | (order > cart))
    # without any event in the shop the answer is unknown, not "no"
    return ibis.ifelse(t.carts_7d.isnull(), ibis.null("int64"), one_if(is_open))


def _step(name: str, description: str, reached: str, before: str) -> Feature:
    return Feature(name, description, "sessions", lambda t: share(t, t[reached] == 1, of=t[before] == 1))


FEATURES: tuple[Feature, ...] = (
    *(_events_within("views", "view_item", span, "product views") for span in (7, 30, 90)),
    *(_events_within("carts", "add_to_cart", span, "additions to the cart") for span in (7, 30, 90)),
    _events_within("cart_removals", "remove_from_cart", 30, "removals from the cart"),
    _events_within("checkouts", "begin_checkout", 30, "checkouts begun"),
    Feature(
        "sessions_30d",
        "sessions in the last 30 days",
        "sessions",
        lambda t: t.count(where=within(t, 30)),
        0,
    ),
    Feature("sessions_90d", "sessions in the last 90 days", "sessions", lambda t: t.count(), 0),
    Feature(
        "session_days_90d",
        "24-hour spans of the last 90 days, counted back from the date, in which a session ended",
        "sessions",
        lambda t: whole(t.age, ibis.literal(DAY)).nunique(),
        0,
    ),
    Feature(
        "events_per_session_90d",
        "events per session of the last 90 days",
        "sessions",
        lambda t: div(t.events.sum(), t.count()),
    ),
    Feature(
        "minutes_per_session_90d",
        "minutes from the first to the last event of a session, mean of the last 90 days",
        "sessions",
        lambda t: div(t.length.sum(), t.count() * 60),
    ),
    Feature(
        "single_event_share_90d",
        "share of the last 90 days' sessions with one event only",
        "sessions",
        lambda t: share(t, t.events == 1),
    ),
    Feature(
        "days_since_last_event",
        "days since the last event of any kind",
        "events",
        lambda t: days(t.age.min()),
        age="last",
    ),
    Feature(
        "days_since_last_cart",
        "days since something was last put into the cart",
        "events",
        lambda t: days(t.age.min(where=t.event_name == "add_to_cart")),
        age="last",
    ),
    _step(
        "view_to_cart_90d",
        "share of the last 90 days' sessions with a product view in which something was put into the cart",
        "carted",
        "viewed",
    ),
    _step(
        "cart_to_checkout_90d",
        "share of the last 90 days' sessions with something put into the cart in which a checkout was begun",
        "checked_out",
        "carted",
    ),
    _step(
        "checkout_to_purchase_90d",
        "share of the last 90 days' sessions with a checkout in which a `purchase` event followed",
        "purchased",
        "checked_out",
    ),
    Feature(
        "cart_abandonment_90d",
        "share of the last 90 days' sessions with something put into the cart that had no `purchase` event",
        "sessions",
        lambda t: share(t, t.purchased == 0, of=t.carted == 1),
    ),
    Feature(
        "open_cart",
        "1 if something was put into the cart within 7 days and no purchase followed",
        "features",
        _open_cart,
    ),
    Feature(
        "view_trend",
        "product views a month in the last 30 days over those in the last 90: above 1 is looking more",
        "features",
        lambda t: div(t.views_30d * 3, t.views_90d),
    ),
    Feature(
        "session_trend",
        "sessions a month in the last 30 days over those in the last 90: above 1 is coming more often",
        "features",
        lambda t: div(t.sessions_30d * 3, t.sessions_90d),
    ),
)
