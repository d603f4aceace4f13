"""Due again: what a customer buys regularly, when it should be used up.

The wait is the customer's own mean gap with the product, shrunk to the product's, and that to everyone's
(empirical Bayes); a product is most wanted around that time (compare Bhagat and others 2018, "Buy It Again").
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from controltower.models.base import ModelConfig, State
from controltower.models.recommend.base import Scorer, taken
from controltower.models.recommend.interactions import ORDER, Interactions
from controltower.models.recommend.scores import Scores, Sparse
from controltower.profiles.portable import DAY


class Replenishment(Scorer):
    """Scores own products by how often they are bought again, and by how near they are to their time."""

    name: ClassVar[str] = "replenishment"

    class Config(ModelConfig):
        trust: float = 2.0  # gaps of its own that weigh as much as the product's
        product_trust: float = 10.0  # the same of a product and everyone
        width: float = 0.8  # of the time around which it is due, in log days

    config: Config
    gap: np.ndarray  # log days between two orders, by product
    again: np.ndarray  # share of the buyers who bought it again, by product

    def _fit(self, interactions: Interactions) -> None:
        count = interactions.shape[1]
        buys = _buys(interactions)
        again = buys["same"]
        gaps = np.log(np.maximum(buys["gap"][again], 1.0))
        everyone = float(gaps.mean()) if len(gaps) else np.log(30.0)
        times = np.bincount(buys["product"][again], minlength=count)
        total = np.bincount(buys["product"][again], weights=gaps, minlength=count)
        trust = self.config.product_trust
        self.gap = (total + trust * everyone) / (times + trust)
        first = np.bincount(buys["product"][~again], minlength=count)
        repeated = np.bincount(buys["product"][again & ~np.r_[False, again[:-1]]], minlength=count)
        rate = repeated.sum() / max(1, first.sum())
        self.again = (repeated + trust * rate) / (first + trust)

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        kept: tuple[Interactions, sp.csr_matrix] | None = getattr(self, "_kept", None)
        if kept is None or kept[0] is not history:
            kept = self._kept = (history, self._due(history))
        return Sparse(taken(kept[1], rows))

    def _due(self, history: Interactions) -> sp.csr_matrix:
        buys = _buys(history)
        starts = np.flatnonzero(~buys["same"])
        if not len(starts):
            return sp.csr_matrix(history.shape, dtype=np.float32)
        product, customer = buys["product"][starts], buys["customer"][starts]
        log_gaps = np.where(buys["same"], np.log(np.maximum(buys["gap"], 1.0)), 0.0)
        times = np.add.reduceat(buys["same"].astype(float), starts)
        wait = (np.add.reduceat(log_gaps, starts) + self.config.trust * self.gap[product]) / (times + self.config.trust)
        last = np.r_[starts[1:], len(buys["same"])] - 1
        since = np.log(np.maximum((history.until - buys["second"][last]) / DAY, 1.0))
        often = (times + self.config.trust * self.again[product]) / (times + self.config.trust)
        due = often * np.exp(-0.5 * ((since - wait) / self.config.width) ** 2)
        return sp.csr_matrix((due.astype(np.float32), (customer, product)), history.shape)

    def _learned(self) -> State:
        return {"gap": self.gap, "again": self.again}

    def _relearn(self, state: State) -> None:
        self.gap, self.again = state["gap"], state["again"]


def _buys(interactions: Interactions) -> dict[str, np.ndarray]:
    """Orders sorted by customer, product, time: `same` where the one before is of the same customer and product."""
    orders = np.flatnonzero(interactions.kind == ORDER)
    customer, product, second = (getattr(interactions, n)[orders] for n in ("customer", "product", "second"))
    order = np.lexsort((second, product, customer))
    customer, product, second = customer[order], product[order], second[order]
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (customer[1:] == customer[:-1]) & (product[1:] == product[:-1])
    gap = np.zeros(len(order))
    gap[1:] = np.where(same[1:], (second[1:] - second[:-1]) / DAY, 0.0)
    return {"customer": customer, "product": product, "second": second, "same": same, "gap": gap}
