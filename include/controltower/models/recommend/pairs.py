"""Which products go with which: similarities of products from the order in which customers took them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend import kernels
from controltower.models.recommend.interactions import Interactions, Weights
from controltower.profiles.portable import DAY


def similarity(
    interactions: Interactions,
    weights: Weights,
    *,
    decay: float,
    backward: float,
    together: float = 1.0,
    window: int,
    shrinkage: float,
    power: float = 0.5,
    keep: int,
    seed: int,
) -> sp.csr_matrix:
    """products x products: how much a product (row) leads to another (column), the `keep` strongest of each row.

    A pair that a customer took n days of activity apart counts decay^(n-1), `backward` times that where the second came
    first, `together` on the same day; entries further apart in the customer's sequence than `window` don't. Divided by
    (times the row's product was taken + shrinkage)^(1-power) and the same of the column's, to the power.
    """
    count = interactions.shape[1]
    weight = np.sqrt(interactions.weight(weights))
    day = days_of_activity(interactions)
    # the order within a day means nothing: draw it, so that the window doesn't prefer neighbouring ids
    order = np.lexsort((np.random.default_rng(seed).random(len(day), np.float32), day, interactions.customer))
    product = interactions.product[order].astype(np.int32)
    weight = weight[order].astype(np.float32)
    seen = np.bincount(product, weights=weight**2, minlength=count) + shrinkage
    indptr, indices, data = kernels.following(
        interactions.customer[order].astype(np.int32), product, day[order].astype(np.int32), weight, count,
        decay, backward, together, window, seen ** (power - 1), seen**-power, keep,
    )  # fmt: skip
    return sp.csr_matrix((data, indices, indptr), (count, count))


def recent(history: Interactions, weights: Weights, recency: float) -> sp.csr_matrix:
    """customers x products: what the customer took; each day of activity counts `recency` times the next one."""
    day = days_of_activity(history)
    last = np.zeros(history.shape[0], dtype=day.dtype)
    np.maximum.at(last, history.customer, day)
    value = history.weight(weights) * recency ** (last[history.customer] - day)
    return sp.csr_matrix((value.astype(np.float32), (history.customer, history.product)), history.shape)


def days_of_activity(interactions: Interactions) -> np.ndarray:
    """Of each entry, the number of the customer's day of activity (0 = the first day the customer did anything)."""
    if not len(interactions):
        return np.zeros(0, dtype=np.int64)
    day, customer = interactions.second // DAY, interactions.customer  # sorted by customer, second
    changes = np.r_[0, (day[1:] != day[:-1]) | (customer[1:] != customer[:-1])].cumsum()
    first = np.searchsorted(customer, customer)
    return changes - changes[first]
