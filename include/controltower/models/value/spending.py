"""How much customers pay a purchase: the gamma-gamma model of monetary value.

What a customer pays varies around a mean of the customer's own (gamma: p, nu), and the means differ between customers
(nu is gamma: q, gamma). Fader and Hardie, The Gamma-Gamma Model of Monetary Value, 2013,
http://www.brucehardie.com/notes/025/.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import digamma, gammaln
from threadpoolctl import threadpool_limits

LEAST_SHAPE = 1.05  # of q: a mean spend exists for q > 1


class Spending(NamedTuple):
    """The three parameters; gamma is in the money's unit."""

    p: float
    q: float
    gamma: float


class Amounts(NamedTuple):
    """By customer, of one purchase: the mean, and the mean of the square of what is spent; `together` is the mean of
    the product of two purchases' amounts, which are alike as they are the same customer's."""

    mean: np.ndarray
    square: np.ndarray
    together: np.ndarray


def fit(purchases: np.ndarray, mean: np.ndarray, weight: np.ndarray | None = None, penalty: float = 0.0) -> Spending:
    """The likeliest parameters, of how many purchases a customer made (1 or more) and their mean amount (above 0).

    `weight` is how many customers a row stands for. `penalty` times the squared logarithms of p, q - 1 and gamma (in
    units of the mean) is added to the mean negative log-likelihood. Raises ValueError where there is nothing to learn.
    """
    n, m = np.asarray(purchases, dtype=float), np.asarray(mean, dtype=float)
    w = np.ones(len(n)) if weight is None else np.asarray(weight, dtype=float)
    if not len(n) or (n < 1).any() or (m <= 0).any():
        raise ValueError("every customer needs a purchase and an amount above 0")
    unit = float(np.average(m, weights=w))
    z = m / unit
    total = w.sum()

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        p, q, g = np.exp(logs[0]), 1 + np.exp(logs[1]), np.exp(logs[2])
        pn, both = p * n, np.log(g + n * z)
        value = gammaln(pn + q) - gammaln(pn) - gammaln(q) + q * np.log(g) + (pn - 1) * np.log(z)
        value += pn * np.log(n) - (pn + q) * both
        total_shape = digamma(pn + q)
        slope = np.stack(
            [
                n * (total_shape - digamma(pn) + np.log(z) + np.log(n) - both) * p,
                (total_shape - digamma(q) + np.log(g) - both) * (q - 1),
                (q / g - (pn + q) / (g + n * z)) * g,
            ],
            axis=1,
        )
        return float(-(w @ value) / total + penalty * logs @ logs), -(w @ slope) / total + 2 * penalty * logs

    bounds = [(-8, 8), (np.log(LEAST_SHAPE - 1), 8), (-12, 12)]
    with threadpool_limits(limits=1):
        found = minimize(loss, np.zeros(3), jac=True, method="L-BFGS-B", bounds=bounds,
                         options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-9})  # fmt: skip
    p, q, g = np.exp(found.x[0]), 1 + np.exp(found.x[1]), np.exp(found.x[2])
    return Spending(float(p), float(q), float(g * unit))


def amounts(s: Spending, purchases: np.ndarray, total: np.ndarray) -> Amounts:
    """What one more purchase of a customer comes to, by purchases so far and their total, both 0 or more.

    A total below 0, where more was given back than bought, counts as 0.
    """
    n = np.asarray(purchases, dtype=float)
    shape, scale = s.q + s.p * n, s.gamma + np.maximum(np.asarray(total, dtype=float), 0.0)
    mean = s.p * scale / (shape - 1)
    rest = scale**2 / ((shape - 1) * np.maximum(shape - 2, LEAST_SHAPE - 1))  # of 1 / nu squared
    return Amounts(mean, s.p * (s.p + 1) * rest, s.p**2 * rest)
