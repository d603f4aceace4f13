"""The few operations that engines understand differently, each spelled the one way that means the same on all of them.

`tests/profiles/test_portable.py` forbids the plain spellings everywhere else in profiles/ and audiences/.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

DAY = 86_400  # seconds

# One factor of 19 digits and one of 18 multiply exactly on every engine: Spark rounds what needs more than 38 digits,
# DuckDB multiplies two of 18 into one of 18.
MONEY = "decimal(18,4)"
QUANTITY = "decimal(19,4)"
RATE = "decimal(19,8)"


def div(a: ir.NumericValue, b: ir.NumericValue) -> ir.FloatingValue:
    """a / b as float64, null where b is 0. (PostgreSQL divides whole numbers into whole numbers.)"""
    return a.cast("float64") / b.cast("float64").nullif(0.0)


def whole(a: ir.NumericValue, b: ir.NumericValue) -> ir.IntegerValue:
    """a / b rounded down to int64, null where b is 0. (Engines round or cut when they cast a fraction.)"""
    return div(a, b).floor().cast("int64")


def units(money: ir.DecimalValue) -> ir.IntegerValue:
    """Money as whole ten-thousandths, exactly: whole numbers add up faster than decimals."""
    return (money.cast(QUANTITY) * 10_000).cast("int64")


def days(age: ir.NumericValue) -> ir.FloatingValue:
    """Seconds as days."""
    return div(age, ibis.literal(DAY))


def seconds(time: ir.TimestampValue) -> ir.IntegerValue:
    """Whole seconds since 1970 of a UTC time. (Without `truncate` some engines round to the nearest second.)"""
    return time.truncate("s").epoch_seconds().cast("int64")


def one_if(condition: ir.BooleanValue) -> ir.IntegerValue:
    """1 where the condition holds, 0 where it doesn't or is unknown."""
    return ibis.ifelse(condition.fill_null(False), 1, 0).cast("int64")
