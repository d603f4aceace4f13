"""How often customers will buy: BG/NBD, the beta-geometric / negative binomial distribution.

Customers buy at random at a rate that differs between them (gamma: r, alpha), and after each purchase leave for good
with a probability that differs, too (beta: a, b). Fader, Hardie and Lee, "Counting Your Customers" the Easy Way: An
Alternative to the Pareto/NBD Model, Marketing Science 24(2), 2005.

The chance that a customer has not left yet is no sign of who will stay away: who bought once has had no occasion to
leave, and gets 1. For dormancy see models/replenishment.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, digamma, gammaln
from threadpoolctl import threadpool_limits

TAIL = 1e-6  # purchases of a lower probability are left out
MOST_PURCHASES = 1500  # counted by customer and horizon
STARTS = ((1.0, 1.0, 1.0, 1.0), (0.3, 0.2, 0.8, 2.5))  # r, alpha (of the median age), a, b


class Purchasing(NamedTuple):
    """The four parameters; alpha is in the unit of the times given to `fit`."""

    r: float
    alpha: float
    a: float
    b: float


class Counts(NamedTuple):
    """By customer, of the purchases within a horizon: their mean, second moment, and the chance of any."""

    mean: np.ndarray
    square: np.ndarray
    any: np.ndarray


def fit(
    frequency: np.ndarray,
    recency: np.ndarray,
    age: np.ndarray,
    weight: np.ndarray | None = None,
    penalty: float = 0.0,
) -> Purchasing:
    """The likeliest parameters.

    By customer: repeat purchases, the time from the first to the last purchase, and from the first until now, in any
    one unit; `weight` is how many customers a row stands for. `penalty` times the parameters' squared logarithms
    (alpha's in units of the mean age) is added to the mean negative log-likelihood. Raises ValueError where nobody
    bought again: then nothing tells how often people buy.
    """
    x, tx, t = (np.asarray(v, dtype=float) for v in (frequency, recency, age))
    w = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=float)
    if not (len(x) == len(tx) == len(t) == len(w)):
        raise ValueError("frequency, recency, age and weight differ in length")
    if not (x * w).sum():
        raise ValueError("nobody bought again")
    unit = float(np.average(t, weights=w)) or 1.0  # the optimiser likes parameters around 1
    x, tx, t, w = _distinct(x, tx / unit, t / unit, w)

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _log_likelihood(np.exp(logs), x, tx, t)
        total = w.sum()
        gradient = -(w @ slope) / total * np.exp(logs) + 2 * penalty * logs
        return float(-(w @ value) / total + penalty * logs @ logs), gradient

    with threadpool_limits(limits=1):  # four parameters: threads would only wait for each other
        found = [
            minimize(loss, np.log(start), jac=True, method="L-BFGS-B", bounds=[(-12, 12)] * 4,
                     options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-9})
            for start in STARTS
        ]  # fmt: skip
    r, alpha, a, b = np.exp(min(found, key=lambda one: one.fun).x)
    return Purchasing(float(r), float(alpha * unit), float(a), float(b))


def alive(p: Purchasing, frequency: np.ndarray, recency: np.ndarray, age: np.ndarray) -> np.ndarray:
    """The chance that a customer has not left for good: 1 for who never bought again."""
    x = np.asarray(frequency, dtype=float)
    log_odds = (p.r + x) * np.log((p.alpha + age) / (p.alpha + recency)) + np.log(p.a / (p.b + np.maximum(x, 1) - 1))
    return np.where(x > 0, 1 / (1 + np.exp(np.minimum(log_odds, 700))), 1.0)


def purchases_within(
    p: Purchasing, frequency: np.ndarray, recency: np.ndarray, age: np.ndarray, horizon: float
) -> Counts:
    """What is expected of the purchases of the next `horizon`.

    Who is there buys k times or more if the k-th purchase comes in time (negative binomial: r + x, alpha + T) and
    k - 1 purchases were survived (beta: a, b + x). Summing these gives the paper's (10) without its hypergeometric
    function, and the other moments, too.
    """
    x = np.asarray(frequency, dtype=float)
    t = np.asarray(age, dtype=float)
    share = horizon / (p.alpha + t + horizon)
    none = (1 - share) ** (p.r + x)
    here = np.arange(len(x))
    # by customer: size and q of the negative binomial, its chance of k, of more than k, of k survived; what b became
    states = np.stack([p.r + x, share, none, 1 - none, np.ones(len(x)), p.b + x])
    mean, square = np.zeros(len(x)), np.zeros(len(x))
    for k in range(1, MOST_PURCHASES + 1):
        reach = states[3] * states[4]  # P(N >= k)
        mean[here] += reach
        square[here] += (2 * k - 1) * reach
        go = reach > TAIL
        if not go.all():
            here, states = here[go], states[:, go]
        if not len(here):
            break
        size, q, chance, left, stayed, b = states
        chance *= (size + k - 1) / k * q
        left -= np.minimum(chance, left)
        stayed *= (b + k - 1) / (p.a + b + k - 1)
    there = alive(p, frequency, recency, age)
    return Counts(there * mean, there * square, there * (1 - none))


def _log_likelihood(
    parameters: np.ndarray, x: np.ndarray, tx: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """By row, the logarithm of the paper's (6), and its slopes (rows x 4)."""
    r, alpha, a, b = parameters
    again = x > 0
    waiting, seen = np.log(alpha + t), np.log(alpha + tx)
    fixed = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + betaln(a, b + x) - betaln(a, b)
    stays = -(r + x) * waiting
    gone = np.where(again, np.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * seen, -np.inf)
    both = np.logaddexp(stays, gone)
    left = np.exp(gone - both)
    kept = 1 - left
    ab, abx = digamma(a + b), digamma(a + b + x)
    slope = np.stack(
        [
            digamma(r + x) - digamma(r) + np.log(alpha) - kept * waiting - left * seen,
            r / alpha - (r + x) * (kept / (alpha + t) + left / (alpha + tx)),
            ab - abx + left / a,
            digamma(b + x) - digamma(b) + ab - abx - left / (b + np.maximum(x, 1) - 1),
        ],
        axis=1,
    )
    return fixed + both, slope


def _distinct(
    x: np.ndarray, tx: np.ndarray, t: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Equal rows as one, heavier row: most customers of a large shop bought once, on a few hundred different days."""
    order = np.lexsort((t, tx, x))
    x, tx, t, w = x[order], tx[order], t[order], w[order]
    new = np.r_[True, (np.diff(x) != 0) | (np.diff(tx) != 0) | (np.diff(t) != 0)]
    starts = np.flatnonzero(new)
    return x[starts], tx[starts], t[starts], np.add.reduceat(w, starts)
