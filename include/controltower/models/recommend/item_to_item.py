"""What all algorithms share that learn which product leads to which."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from controltower.models.base import ModelConfig, State
from controltower.models.recommend import kernels
from controltower.models.recommend.base import Scorer, taken
from controltower.models.recommend.interactions import Interactions, Weights
from controltower.models.recommend.pairs import recent
from controltower.models.recommend.scores import Scores, Sparse

TIMELESS = Weights(order_half_life=0, event_half_life=0)  # the sequence tells the time
MOST_PAIRS = 50_000_000  # 400 MB; where more products were taken than these allow for, fewer are kept of each


class ItemToItem(Scorer):
    """Scores by what the customer's products lead to; the last day of activity counts most."""

    class Config(ModelConfig):
        recency: float = 0.75  # weight of a customer's day of activity over that of the next one
        keep: int = 200  # products kept per product

    config: Config
    similarity: sp.csr_matrix  # products x products: from what was taken to what follows

    def _keep(self, interactions: Interactions) -> int:
        """How many products are kept per product."""
        products = int(np.count_nonzero(np.bincount(interactions.product)))
        return max(1, min(self.config.keep, MOST_PAIRS // max(1, products)))

    def leads(self) -> np.ndarray:
        return np.diff(self.similarity.indptr) > 0

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        return Sparse(taken(self._recent(history), rows) @ self.similarity)

    def sources(self, history: Interactions, rows: np.ndarray, products: np.ndarray) -> np.ndarray:
        """Of pairs of a history row and a product: the product of the history that spoke most for it, -1 for none."""
        mine, leads = self._recent(history), self.similarity
        leads.sort_indices()
        return kernels.sources(
            mine.indptr, mine.indices, mine.data, leads.indptr, leads.indices, leads.data, rows, products
        )

    def _recent(self, history: Interactions) -> sp.csr_matrix:
        kept: tuple[Interactions, sp.csr_matrix] | None = getattr(self, "_kept", None)
        if kept is None or kept[0] is not history:
            kept = self._kept = (history, recent(history, TIMELESS, self.config.recency))
        return kept[1]

    def _learned(self) -> State:
        s = self.similarity
        return {"data": s.data, "indices": s.indices, "indptr": s.indptr}

    def _relearn(self, state: State) -> None:
        count = len(self.product_ids)
        self.similarity = sp.csr_matrix((state["data"], state["indices"], state["indptr"]), (count, count))
