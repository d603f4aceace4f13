"""What we know of a customer as of a date: one row a customer, each feature defined once, in a file by subject.

The expressions are Ibis, run on DuckDB here; only operations that mean the same on PostgreSQL and Spark are used (see
portable.py). No feature reads a fact later than as_of.
"""

from __future__ import annotations

from datetime import datetime

import ibis
import ibis.expr.types as ir

from controltower.profiles.facts import Facts, gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.features import (
    browsing,
    channels,
    habits,
    interests,
    messages,
    money,
    orders,
    prices,
    products,
    surroundings,
    tenure,
)
from controltower.profiles.features.feature import Feature
from controltower.profiles.lifecycle import lifecycle
from controltower.shop import Shop

SUBJECTS = (
    orders, money, products, prices, browsing, interests, channels, habits, messages, tenure, surroundings,
)  # fmt: skip
FEATURES: tuple[Feature, ...] = tuple(f for subject in SUBJECTS for f in subject.FEATURES)
NAMES: tuple[str, ...] = tuple(f.name for f in FEATURES)

# Where the shop has no row at all in the table, what is counted in it is unknown, not 0.
_COUNTED_IN = {
    "events": "events", "sessions": "events", "interests": "events", "habits": "events", "devices": "devices",
    "coupons": "coupons",
}  # fmt: skip


def features(tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, as_of, all FEATURES (float64) and lifecycle of every customer known, ordered by customer_id.

    `tables` gives a contract table as of the date (`Reading.table`). While the shop has no events, devices or coupons,
    their features are null.
    """
    return assemble(gather(tables, as_of, shop))


def assemble(facts: Facts) -> ir.Table:
    absent = {table for table in set(_COUNTED_IN.values()) if not _any(getattr(facts, table))}
    everyone = facts.customers.select("customer_id")
    # one chain of joins and one selection: Ibis takes seconds to simplify nested ones of so many columns
    joined: ir.Table = everyone
    counted: dict[str, float] = {}
    for source in dict.fromkeys(f.source for f in FEATURES if f.source != "features"):
        rows = _ready(source, getattr(facts, source))
        wanted = [f for f in FEATURES if f.source == source]
        per_customer = rows.group_by(**{f"{source}_of": rows.customer_id}).aggregate(
            **{f.name: f.expression(rows).cast("float64") for f in wanted}
        )
        joined = joined.left_join(per_customer, everyone.customer_id == per_customer[f"{source}_of"])
        known = _COUNTED_IN.get(source) not in absent
        counted |= {f.name: f.empty for f in wanted if f.empty is not None and known}
    filled = {
        f.name: joined[f.name].fill_null(float(counted[f.name])) if f.name in counted else joined[f.name]
        for f in FEATURES
        if f.source != "features"
    }
    result = joined.select("customer_id", **filled)
    result = result.mutate(**{f.name: f.expression(result).cast("float64") for f in FEATURES if f.source == "features"})
    moment = ibis.literal(facts.as_of, type="timestamp('UTC', 6)")
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
