"""How long a customer has been with the shop, and in what standing."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from controltower.profiles.features.feature import Feature
from controltower.profiles.portable import days


def _known_for(t: ir.Table) -> ir.FloatingValue:
    first = [t.days_since_signup, t.days_since_first_order, t.days_since_first_event]
    known = ibis.greatest(*(age.fill_null(-1.0) for age in first))  # engines disagree on greatest of nulls
    return ibis.ifelse(known < 0, ibis.null("float64"), known)


FEATURES: tuple[Feature, ...] = (
    Feature(
        "days_since_signup",
        "days since the customer signed up",
        "customers",
        lambda t: days(t.age.max()),
        age="first",
    ),
    Feature(
        "days_since_first_event",
        "days since the first event of any kind",
        "events",
        lambda t: days(t.age.max()),
        age="first",
    ),
    Feature(
        "days_known",
        "days since the first that is known: sign-up, purchase or event",
        "features",
        _known_for,
    ),
    Feature("points", "loyalty points", "customers", lambda t: t.points.max()),
)
