"""Because you bought: products that other customers took next, or together with, what this one took lately.

Item-to-item cosine over ordered pairs. A pair within one day counts both ways; a later product counts fully for the
earlier one, and `backward` the other way round; each day of the customer's in between takes `decay`. Shrinkage keeps
pairs seen once or twice below those seen often (Linden, Smith and York 2003; Deshpande and Karypis 2004).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from controltower.models.base import ModelConfig, State
from controltower.models.recommend.als import per_row_maximum
from controltower.models.recommend.base import Parts, Recommender
from controltower.models.recommend.interactions import Interactions, Weights
from controltower.profiles.portable import DAY

_BATCH = 4_000_000  # pairs held at a time


class Neighbours(Recommender):
    """Scores by what the customer's last products lead to; the last day counts most."""

    name: ClassVar[str] = "neighbours"

    class Config(ModelConfig):
        decay: float = 0.9  # per day of activity between the two
        backward: float = 0.5
        recency: float = 0.7  # weight of a customer's day of activity over that of the next one
        shrinkage: float = 10.0
        keep: int = 200  # neighbours kept per product
        window: int = 40  # pairs of entries at most this far apart in the customer's sequence
        pairs: int = 20_000_000  # the window is narrowed where it would give more

    config: Config
    similarity: sp.csr_matrix  # products x products: from what was taken to what follows

    def _fit(self, interactions: Interactions) -> None:
        count = interactions.shape[1]
        weight = np.sqrt(interactions.weight(Weights(order_half_life=0, event_half_life=0)))
        day = days_of_activity(interactions)
        # the order within a day means nothing: draw it, so that the window doesn't prefer neighbouring ids
        drawn = np.random.default_rng(self.config.seed).random(len(day))
        order = np.lexsort((drawn, day, interactions.customer))
        customer, product = interactions.customer[order], interactions.product[order]
        day, weight = day[order], weight[order]
        counts = sp.csr_matrix((count, count), dtype=np.float32)
        pending: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for shift in range(1, self._window(len(day)) + 1):
            same = (customer[:-shift] == customer[shift:]) & (product[:-shift] != product[shift:])
            gap = (day[shift:] - day[:-shift])[same]
            value = (weight[shift:] * weight[:-shift])[same] * self.config.decay ** np.maximum(gap - 1, 0)
            back = value * np.where(gap == 0, 1.0, self.config.backward)
            first, then = product[:-shift][same], product[shift:][same]
            pending += [(value, first, then), (back, then, first)]
            if sum(len(p[0]) for p in pending) > _BATCH:
                counts, pending = counts + _matrix(pending, count), []
        counts = counts + _matrix(pending, count)
        seen = np.bincount(product, weights=weight**2, minlength=count)
        scale = sp.diags((1 / np.sqrt(seen + self.config.shrinkage)).astype(np.float32))
        self.similarity = _strongest((scale @ counts @ scale).tocsr(), self.config.keep)

    def _window(self, entries: int) -> int:
        return max(1, min(self.config.window, self.config.pairs // max(1, entries), entries - 1)) if entries > 1 else 0

    def recent(self, history: Interactions) -> sp.csr_matrix:
        """customers x products: what the customer took, the last day of activity strongest."""
        day = days_of_activity(history)
        last = np.zeros(history.shape[0], dtype=day.dtype)
        np.maximum.at(last, history.customer, day)
        weight = history.weight(Weights(order_half_life=0, event_half_life=0))
        value = weight * self.config.recency ** (last[history.customer] - day)
        return sp.csr_matrix((value.astype(np.float32), (history.customer, history.product)), history.shape)

    def _score(self, history: Interactions, rows: np.ndarray) -> Parts:
        scores = (self._recent(history)[rows] @ self.similarity).toarray()
        return {self.name: per_row_maximum(scores)}

    def sources(self, history: Interactions, rows: np.ndarray, products: np.ndarray) -> np.ndarray:
        """For pairs of a history row and a recommended product: the product of the history that spoke most for it."""
        spoke = self._recent(history)[rows].multiply(self.similarity.T.tocsr()[products]).tocsr()
        return np.asarray(spoke.argmax(axis=1)).ravel()

    def _recent(self, history: Interactions) -> sp.csr_matrix:
        kept: tuple[Interactions, sp.csr_matrix] | None = getattr(self, "_kept", None)
        if kept is None or kept[0] is not history:
            kept = self._kept = (history, self.recent(history))
        return kept[1]

    def _learned(self) -> State:
        s = self.similarity
        return {"data": s.data, "indices": s.indices, "indptr": s.indptr}

    def _relearn(self, state: State) -> None:
        count = len(self.product_ids)
        self.similarity = sp.csr_matrix((state["data"], state["indices"], state["indptr"]), (count, count))


def days_of_activity(interactions: Interactions) -> np.ndarray:
    """Of each entry, the number of the customer's day of activity (0 = the first day the customer did anything)."""
    if not len(interactions):
        return np.zeros(0, dtype=np.int64)
    day, customer = interactions.second // DAY, interactions.customer  # sorted by customer, second
    changes = np.r_[0, (day[1:] != day[:-1]) | (customer[1:] != customer[:-1])].cumsum()
    first = np.searchsorted(customer, customer)
    return changes - changes[first]


def _matrix(pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]], count: int) -> sp.csr_matrix:
    """Summed (value, row, column) triples."""
    if not pairs:
        return sp.csr_matrix((count, count), dtype=np.float32)
    value, row, column = (np.concatenate(c) for c in zip(*pairs, strict=True))
    return sp.csr_matrix((value, (row, column)), (count, count)).astype(np.float32)


def _strongest(matrix: sp.csr_matrix, keep: int) -> sp.csr_matrix:
    """The `keep` largest entries of each column."""
    columns = matrix.tocoo()
    order = np.lexsort((columns.row, -columns.data, columns.col))
    column = columns.col[order]
    kept = order[np.arange(len(order)) - np.searchsorted(column, column) < keep]
    return sp.csr_matrix((columns.data[kept], (columns.row[kept], columns.col[kept])), matrix.shape)
