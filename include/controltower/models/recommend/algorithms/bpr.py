"""Pairwise ranking of products (BPR, Rendle and others 2009) by the implicit library.

For catalogues where what a customer took beats what was not, rather than how often. A customer's vector is the mean
of the products' of his history, so that new customers and new clicks count at once.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from implicit.cpu.bpr import BayesianPersonalizedRanking

from controltower.models.base import ModelConfig, State
from controltower.models.recommend.base import Scorer, taken
from controltower.models.recommend.interactions import Interactions, Weights
from controltower.models.recommend.pairs import recent
from controltower.models.recommend.scores import Factors, Scores


class Bpr(Scorer):
    """Item vectors are trained; what the customer took last counts most."""

    name: ClassVar[str] = "bpr"
    most_products: ClassVar[int | None] = 1_000_000  # 65 numbers each, some times over while it learns

    class Config(ModelConfig):
        factors: int = 64
        regularization: float = 0.002
        learning_rate: float = 0.05
        updates: int = 12_000_000  # steps of gradient descent, at least ten times over the entries
        recency: float = 0.9

    config: Config
    item_factors: np.ndarray

    def _fit(self, interactions: Interactions) -> None:
        matrix = interactions.matrix(Weights()).astype(np.float32)
        self.item_factors = np.zeros((matrix.shape[1], 1), dtype=np.float32)
        if matrix.nnz < 2 or matrix.shape[1] < 2:
            return
        c = self.config
        model = BayesianPersonalizedRanking(
            factors=c.factors, regularization=c.regularization, learning_rate=c.learning_rate,
            iterations=int(np.clip(c.updates // matrix.nnz, 3, 60)), num_threads=1, random_state=c.seed,
        )  # fmt: skip
        model.fit(matrix, show_progress=False)
        vectors = np.asarray(model.item_factors)[:, : c.factors]  # the last one is the product's own bias
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.item_factors = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        kept: tuple[Interactions, sp.csr_matrix] | None = getattr(self, "_kept", None)
        if kept is None or kept[0] is not history:
            kept = self._kept = (history, recent(history, Weights(), self.config.recency))
        mine = taken(kept[1], rows)
        users = mine @ self.item_factors
        length = np.linalg.norm(users, axis=1, keepdims=True)
        return Factors(np.divide(users, length, out=np.zeros_like(users), where=length > 0), self.item_factors)

    def _learned(self) -> State:
        return {"item_factors": self.item_factors}

    def _relearn(self, state: State) -> None:
        self.item_factors = state["item_factors"]
