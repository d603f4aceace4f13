"""Segments: living rules over what is known and expected of customers."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import ibis

from controltower.audiences.rules import Rule
from controltower.errors import BadSpec


def select(customers: ibis.Table, rules: Sequence[Rule]) -> ibis.Table:
    """The rows that fit every rule. `customers` has one row a customer: features and scores."""
    for rule in rules:
        if rule.column not in customers.columns:
            known = ", ".join(sorted(customers.columns))
            raise BadSpec(
                f"The audience rule on {rule.column!r} names no feature, score or profile.", f"Choose one of: {known}."
            )
        customers = customers.filter(_fits(customers[rule.column], rule))
    return customers


def ranked(audience: ibis.Table, by: str, at_most: int | None) -> ibis.Table:
    """The highest first, the unknown last, equal ones by customer id; the first `at_most` of them, if it is given."""
    ordered = audience.order_by(audience[by].desc(nulls_first=False), audience.customer_id)
    return ordered.limit(at_most) if at_most else ordered


def _fits(column: ibis.Value, rule: Rule) -> ibis.Value:
    conditions = []
    if rule.is_in is not None:
        conditions.append(column.isin(_values(column, rule)))
    if rule.at_least is not None:
        conditions.append(column >= rule.at_least)
    if rule.at_most is not None:
        conditions.append(column <= rule.at_most)
    fits = functools.reduce(operator.and_, conditions)
    return fits | column.isnull() if rule.or_unknown else fits


def _values(column: ibis.Value, rule: Rule) -> list[str] | list[float]:
    """The values as the column has them: engines write the same number differently as text."""
    values = rule.is_in or []
    if not column.type().is_numeric():
        return values
    try:
        return [float(value) for value in values]
    except ValueError:
        raise BadSpec(
            f"The audience rule on {rule.column!r} has a value in `is_in` that is no number.",
            "The column holds numbers: write numbers, or at_least and at_most.",
        ) from None
