"""Because you bought: products that other customers took next, or together with, what this one took lately.

Item-to-item similarity over ordered pairs (Linden, Smith and York 2003; Deshpande and Karypis 2004), for what comes
next: the strongest single model where customers buy little. Shrinkage keeps pairs seen once or twice below those seen
often.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from controltower.models.base import ModelConfig, State
from controltower.models.recommend import kernels
from controltower.models.recommend.base import Recommender, taken
from controltower.models.recommend.interactions import Interactions, Weights
from controltower.models.recommend.pairs import recent, similarity
from controltower.models.recommend.scores import Scores, Sparse

TIMELESS = Weights(order_half_life=0, event_half_life=0)  # the sequence tells the time


class ItemToItem(Recommender):
    """Scores by what the customer's products lead to; the last day of activity counts most."""

    class Config(ModelConfig):
        recency: float = 0.75  # weight of a customer's day of activity over that of the next one
        keep: int = 200  # products kept per product

    config: Config
    similarity: sp.csr_matrix  # products x products: from what was taken to what follows

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


class NextItem(ItemToItem):
    """Directional co-occurrence: what comes later counts fully, nearer days of activity more."""

    name: ClassVar[str] = "next_item"

    class Config(ItemToItem.Config):
        decay: float = 0.85  # per day of activity between the two
        backward: float = 0.5
        shrinkage: float = 20.0
        power: float = 0.45  # how much of the popularity is taken out of what is recommended; the rest of its source
        window: int = 40  # pairs of entries at most this far apart in the customer's sequence

    config: Config

    def _fit(self, interactions: Interactions) -> None:
        c = self.config
        self.similarity = similarity(
            interactions, TIMELESS, decay=c.decay, backward=c.backward, window=c.window, shrinkage=c.shrinkage,
            power=c.power, keep=c.keep, seed=c.seed,
        )  # fmt: skip
