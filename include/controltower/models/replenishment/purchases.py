"""Who bought when: series of purchase days, of a customer or of a customer with a product or category, and what they
tell as of a day.

A purchase day is 24 hours, counted back from as_of, with an order of something paid for. Returned lines don't count as
bought; days are whole numbers before as_of, so a past date is a day, too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from controltower.profiles.facts import gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.portable import DAY, whole
from controltower.shop import Shop

WINDOWS = (28, 91, 182)  # days in which purchases are counted


def read_orders(tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, day (before as_of), amount (float): a row a purchase day of a customer."""
    orders = gather(tables, as_of, shop).orders
    dated = orders.select("customer_id", "amount", day=whole(orders.age, ibis.literal(DAY)))
    return (
        dated.group_by("customer_id", "day")
        .aggregate(amount=dated.amount.sum().cast("float64").fill_null(0.0))
        .order_by("customer_id", "day")
    )


def read_product_orders(tables: Tables, as_of: datetime, shop: Shop, by: str = "product_id") -> ir.Table:
    """customer_id, `by` (product_id or category), day, amount (float; how many): of what was bought on 2 days or more.

    A row a purchase day of a customer and product (category).
    """
    lines = gather(tables, as_of, shop).lines
    bought = lines.filter(lines.bought, ~lines.returned, lines[by].notnull())
    dated = bought.select("customer_id", by, "quantity", day=whole(bought.age, ibis.literal(DAY)))
    daily = dated.group_by("customer_id", by, "day").aggregate(amount=dated.quantity.sum().cast("float64"))
    again = daily.mutate(days=daily.count().over(group_by=["customer_id", by]))
    return again.filter(again.days >= 2).select("customer_id", by, "day", "amount").order_by("customer_id", by, "day")


@dataclass(frozen=True)
class Series:
    """Purchase days by series, a series' oldest first: days[starts[i] : starts[i + 1]] are those of series i.

    `customer` and `item` are positions of each series in customer_ids and item_ids (sorted); without items, `item` is
    -1. Days are before as_of, amounts what was paid (or how many were bought).
    """

    customer_ids: np.ndarray
    item_ids: np.ndarray
    customer: np.ndarray
    item: np.ndarray
    starts: np.ndarray
    days: np.ndarray
    amounts: np.ndarray

    def __len__(self) -> int:
        return len(self.customer)


def series(rows: pd.DataFrame, by: str | None = None) -> Series:
    """From the rows of `read_orders`, or of `read_product_orders` with `by`."""
    customer, customer_ids = pd.factorize(rows["customer_id"], sort=True)
    if by:
        item, item_ids = pd.factorize(rows[by], sort=True)
    else:
        item, item_ids = np.full(len(rows), -1), pd.Index([])
    days, amounts = rows["day"].to_numpy(int), rows["amount"].to_numpy(float)
    order = np.lexsort((-days, item, customer))
    customer, item, days, amounts = customer[order], item[order], days[order], amounts[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (customer[1:] != customer[:-1]) | (item[1:] != item[:-1])
    starts = np.flatnonzero(new)
    return Series(
        np.array(customer_ids, dtype=np.str_), np.array(item_ids, dtype=np.str_), customer[starts], item[starts],
        np.r_[starts, len(order)], days, amounts,
    )  # fmt: skip


@dataclass(frozen=True)
class States:
    """What series tell as of a day, a row each of those that had `fewest` purchase days by then.

    `rows` are their positions; `since` days since the last purchase, `gap` the median days between purchases (NaN for
    one purchase), `last_gap` the newest of them, `spread` the standard deviation of the gaps' logarithms, `number` of
    purchase days, `age` days since the first, `counts` (rows x WINDOWS), `amount` of the last purchase beside the mean.
    """

    rows: np.ndarray
    since: np.ndarray
    gap: np.ndarray
    last_gap: np.ndarray
    spread: np.ndarray
    number: np.ndarray
    age: np.ndarray
    counts: np.ndarray
    amount: np.ndarray

    def take(self, at: np.ndarray | slice) -> States:
        """Some of the rows, by their positions here."""
        return States(*(getattr(self, f.name)[at] for f in fields(self)))


def states(some: Series, day: int, fewest: int = 1) -> States:
    """As of `day` days before the series' as_of: purchases of that many days ago or more are known."""
    known = _sums(some, some.days >= day)
    rows = np.flatnonzero(known >= fewest)
    number = known[rows].astype(int)
    first = some.starts[:-1][rows]
    last = first + number - 1
    # one gap between each two known purchases: positions of the earlier of them
    which = np.repeat(np.arange(len(rows)), number - 1)
    at = np.arange(len(which)) - np.repeat(np.cumsum(number - 1) - (number - 1) - first, number - 1)
    gaps = (some.days[at] - some.days[at + 1]).astype(float)
    within = [_sums(some, (some.days >= day) & (some.days < day + window))[rows] for window in WINDOWS]
    mean = _sums(some, np.where(some.days >= day, some.amounts, 0.0))[rows] / number
    return States(
        rows=rows,
        since=(some.days[last] - day).astype(float),
        gap=_medians(which, gaps, len(rows)),
        last_gap=np.where(number > 1, some.days[np.maximum(last - 1, 0)] - some.days[last], np.nan),
        spread=_spreads(which, gaps, len(rows)),
        number=number.astype(float),
        age=(some.days[first] - day).astype(float),
        counts=np.stack(within, axis=1),
        amount=some.amounts[last] / np.where(mean > 0, mean, np.nan),
    )


def waits(some: Series, day: int, rows: np.ndarray) -> np.ndarray:
    """Days from `day` until the next purchase of series (by position), infinite where there is none yet.

    Of a purchase within the n-th 24 hours it is n - 1/2.
    """
    after = some.starts[:-1][rows] + _sums(some, some.days >= day)[rows].astype(int)
    there = after < some.starts[1:][rows]
    coming = some.days[np.where(there, after, 0)] if len(some) else np.zeros(0)
    return np.where(there, day - coming - 0.5, np.inf)


def _sums(some: Series, values: np.ndarray) -> np.ndarray:
    """Sums over each series, which has a value at least."""
    return np.add.reduceat(values.astype(float), some.starts[:-1]) if len(some) else np.zeros(0)


def _medians(which: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """The median of the values of each of `count` groups; NaN where a group has none. `which` is sorted."""
    number = np.bincount(which, minlength=count)
    ordered = values[np.lexsort((values, which))]
    start = np.cumsum(number) - number
    found = np.full(count, np.nan)
    some = number > 0
    low, high = (start + (number - 1) // 2)[some], (start + number // 2)[some]
    found[some] = (ordered[low] + ordered[high]) / 2
    return found


def _spreads(which: np.ndarray, gaps: np.ndarray, count: int) -> np.ndarray:
    logs = np.log(np.maximum(gaps, 1.0))
    number = np.bincount(which, minlength=count)
    mean = np.bincount(which, weights=logs, minlength=count) / np.maximum(number, 1)
    square = np.bincount(which, weights=(logs - mean[which]) ** 2, minlength=count)
    return np.where(number > 1, np.sqrt(square / np.maximum(number - 1, 1)), np.nan)
