"""What a customer's next order comes to, and how much of it is margin: own orders, shrunk to everybody's.

Logarithms of orders' amounts vary around a customer's own mean, and these around everybody's, both normally: empirical
Bayes (Efron and Morris 1973) with the variances that the orders themselves show (ANOVA's moments). Where a customer's
orders are alike, few of them tell much; where everybody's are, own ones tell little. Unlike gamma-gamma on customers'
mean amounts (`spending.py`) it sees how alike the orders of a customer are. The result is scaled so that past orders
come out right as a whole, lognormal or not (Duan 1983, smearing). Margin rates are shrunk likewise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

WIDEST = 4.0  # standard deviations from the mean that a logarithm may lie: one slip of a price isn't a habit


class Baskets(NamedTuple):
    """By customer: the amount of the next order and its standard deviation, both in the shop's currency, and the
    margin rate (NaN where no product's is known)."""

    amount: np.ndarray
    spread: np.ndarray
    margin_rate: np.ndarray


def expect(orders: pd.DataFrame, customer_ids: np.ndarray) -> Baskets:
    """Of these customers, also of those who never ordered: they get everybody's.

    orders: customer_id, amount (above 0), told (the part of the amount whose margin rate is known) and margin (of that
    part, money); one row an order. Without any, all is NaN.
    """
    nothing = np.full(len(customer_ids), np.nan)
    orders = orders[orders["amount"] > 0]
    if not len(orders):
        return Baskets(nothing, nothing, nothing)
    logs = np.log(orders["amount"].to_numpy(float))
    middle, wide = logs.mean(), WIDEST * logs.std()
    own, within, between = _summed(orders["customer_id"], np.clip(logs, middle - wide, middle + wide))
    everybody = float(own["mean"].mean())

    def expected(number: np.ndarray, log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean, and the variance of the logarithm, of one more order."""
        weight = _weight(number, within, between)
        variance = (1 - weight) * between + within
        return np.exp(everybody + weight * (log - everybody) + variance / 2), variance

    total = float(own["number"] @ expected(own["number"].to_numpy(float), own["mean"].to_numpy(float))[0])
    theirs = own.reindex(customer_ids)
    found, variance = expected(
        theirs["number"].fillna(0).to_numpy(float), theirs["mean"].fillna(everybody).to_numpy(float)
    )
    amount = float(orders["amount"].sum()) / total * found
    return Baskets(amount, amount * np.sqrt(np.expm1(variance)), _margin_rates(orders, customer_ids))


def _margin_rates(orders: pd.DataFrame, customer_ids: np.ndarray) -> np.ndarray:
    """Everybody's is that of all money; a customer's own the mean over orders."""
    told = orders[orders["told"] > 0]
    if not len(told):
        return np.full(len(customer_ids), np.nan)
    everybody = float(told["margin"].sum() / told["told"].sum())
    own, within, between = _summed(told["customer_id"], (told["margin"] / told["told"]).to_numpy(float))
    theirs = own.reindex(customer_ids)
    weight = _weight(theirs["number"].fillna(0).to_numpy(float), within, between)
    return np.asarray(everybody + weight * (theirs["mean"].fillna(everybody).to_numpy(float) - everybody))


def _weight(number: np.ndarray, within: float, between: float) -> np.ndarray:
    """Of a customer's own mean over so many orders, beside everybody's."""
    return np.asarray(number * between / np.maximum(number * between + within, 1e-300))


def _summed(customers: pd.Series, values: np.ndarray) -> tuple[pd.DataFrame, float, float]:
    """By customer the number of values and their mean; the variances within a customer, and between their means. Where
    nobody has two it can't be told, and all is taken to be within."""
    rows = pd.DataFrame({"customer_id": customers.to_numpy(), "value": values})
    own = rows.groupby("customer_id").agg(number=("value", "size"), mean=("value", "mean"))
    n, groups = len(rows), len(own)
    number, mean = own["number"].to_numpy(float), own["mean"].to_numpy(float)
    if n == groups:
        return own, float(values.var()), 0.0
    off = values - own["mean"].reindex(rows["customer_id"]).to_numpy(float)
    within = float(off @ off) / (n - groups)
    if groups == 1:
        return own, within, 0.0
    mean_square = float(number @ (mean - float(number @ mean) / n) ** 2) / (groups - 1)
    usual = (n - float((number**2).sum()) / n) / (groups - 1)
    return own, within, max(0.0, (mean_square - within) / usual)
