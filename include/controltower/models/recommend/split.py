"""The past before a moment, and what customers ordered from then on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend.interactions import ORDER, Interactions
from controltower.profiles.portable import DAY

SPLIT_DAYS = 28  # the orders of this many days are the truth, or the latest tenth where that is less


@dataclass(frozen=True)
class Split:
    """Interactions before a moment, and what customers ordered from then on."""

    history: Interactions
    future: sp.csr_matrix  # customers x products: 1 where ordered
    start: int
    people: np.ndarray | None = None  # ids of those who ask, where the rows of the history are questions of theirs

    @property
    def owners(self) -> np.ndarray:
        return self.history.customer_ids if self.people is None else self.people

    def truth(self, repeat: bool, allowed: np.ndarray) -> sp.csr_matrix:
        """What counts as a hit: allowed products, without `repeat` only those not ordered before."""
        truth = self.future if repeat else self.future - self.future.multiply(self.history.ordered)
        truth = (truth @ sp.diags(allowed.astype(np.float32))).tocsr()
        truth.eliminate_zeros()
        return truth


def split(interactions: Interactions) -> Split | None:
    """The time split, or None where there are too few orders for one."""
    orders = interactions.second[interactions.kind == ORDER]
    if not len(orders):
        return None
    start = max(interactions.until - SPLIT_DAYS * DAY, int(np.quantile(orders, 0.9, method="lower")))
    history = interactions.where(interactions.second < start, until=start)
    later = (interactions.second >= start) & (interactions.kind == ORDER)
    future = sp.csr_matrix(
        (np.ones(later.sum(), np.float32), (interactions.customer[later], interactions.product[later])),
        interactions.shape,
    )
    future.data[:] = 1.0
    return Split(history, future, start) if len(history) and future.nnz else None
