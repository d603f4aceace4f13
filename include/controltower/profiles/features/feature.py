"""One feature: a number known of each customer as of a date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import ibis.expr.types as ir

from controltower.profiles.portable import DAY, div

Source = Literal[
    "customers", "orders", "lines", "visits", "local_orders", "bought_categories", "events", "sessions", "interests",
    "habits", "messages", "reactions", "devices", "coupons", "surroundings", "features",
]  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """`expression` aggregates the rows of one customer in `source` (see facts.Facts).

    With source "features" it is computed from the other features. `empty` is the value of a customer without rows
    there: 0 for counts and sums, None (unknown) for ages and shares. `description` is what docs/features.md says.
    `age`: the value is the days since the last or first row of a kind, in any window, and so grows by what as_of grows.
    """

    name: str
    description: str
    source: Source
    expression: Callable[[ir.Table], ir.NumericValue]
    empty: float | None = None
    age: Literal["last", "first"] | None = None


def within(t: ir.Table, days: int) -> ir.BooleanValue:
    """Whether a fact is younger than so many times 24 hours."""
    return t.age < days * DAY


def share(t: ir.Table, condition: ir.BooleanValue, of: ir.BooleanValue | None = None) -> ir.FloatingValue:
    """The share of rows that fit the condition, of all or of those that fit `of`; null where there are none."""
    if of is None:
        return div(t.count(where=condition), t.count())
    return div(t.count(where=condition & of), t.count(where=of))
