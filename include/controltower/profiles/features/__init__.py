"""What we know of a customer as of a date: one row a customer, each feature defined once, in a file by subject.

The expressions are Ibis, run on DuckDB here; only operations that mean the same on PostgreSQL and Spark are used (see
portable.py). No feature reads a fact later than as_of.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache

import ibis
import ibis.expr.types as ir
from ibis.expr.schema import Schema

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
SOURCES: dict[str, tuple[Feature, ...]] = {
    source: tuple(f for f in FEATURES if f.source == source)
    for source in dict.fromkeys(f.source for f in FEATURES if f.source != "features")
}

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
    known = counted(facts)
    everyone = facts.customers.select("customer_id")
    # one chain of joins and one selection: Ibis takes seconds to simplify nested ones of so many columns
    joined: ir.Table = everyone
    for source in SOURCES:
        rows = per_customer(source, getattr(facts, source), key=f"{source}_of")
        joined = joined.left_join(rows, everyone.customer_id == rows[f"{source}_of"])
    filled = {
        f.name: joined[f.name].fill_null(known[f.name]) if f.name in known else joined[f.name]
        for theirs in SOURCES.values()
        for f in theirs
    }
    return complete(joined.select("customer_id", **filled), facts.as_of).order_by("customer_id")


def per_customer(source: str, facts: ir.Table, key: str = "customer_id") -> ir.Table:
    """The customer's id and the features of a source, of its facts: one row a customer with rows there."""
    rows = _ready(source, facts)
    return rows.group_by(**{key: rows.customer_id}).aggregate(
        **{f.name: f.expression(rows).cast("float64") for f in SOURCES[source]}
    )


@cache
def counting(source: str, facts: Schema) -> str:
    """The SQL of `per_customer` for DuckDB, over a table `<source>_facts`: compiling takes long."""
    rows = ibis.table(facts, name=f"{source}_facts")
    return str(ibis.to_sql(per_customer(source, rows), dialect="duckdb"))


def counted(facts: Facts) -> dict[str, float]:
    """What a feature is for a customer without rows, where that is known."""
    absent = {table for table in set(_COUNTED_IN.values()) if not _any(getattr(facts, table))}
    return {f.name: float(f.empty) for f in FEATURES if f.empty is not None and _COUNTED_IN.get(f.source) not in absent}


def complete(rows: ir.Table, as_of: datetime) -> ir.Table:
    """Rows of the features that are counted in facts, with as_of, those computed from other features, and lifecycle."""
    rows = rows.mutate(**{f.name: f.expression(rows).cast("float64") for f in FEATURES if f.source == "features"})
    moment = ibis.literal(as_of, type="timestamp('UTC', 6)")
    return rows.select("customer_id", *NAMES, as_of=moment, lifecycle=lifecycle(rows))[
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
