"""Similar taste: implicit-feedback matrix factorisation (Hu, Koren and Volinsky 2008) by the implicit library."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from controltower.models.base import ModelConfig, State
from controltower.models.recommend.base import Scorer, taken
from controltower.models.recommend.interactions import Interactions, Weights
from controltower.models.recommend.scores import Factors, Scores


class Als(Scorer):
    """Item factors are trained; a customer's factors are solved from the history of the day, so new clicks count."""

    name: ClassVar[str] = "als"
    most_products: ClassVar[int | None] = 1_000_000  # 96 numbers each, twice while it learns: 0.8 GB

    class Config(ModelConfig):
        factors: int = 96
        regularization: float = 1.0
        alpha: float = 10.0
        iterations: int = 12
        threads: int = 1

    config: Config
    item_factors: np.ndarray
    weights = Weights()

    def _fit(self, interactions: Interactions) -> None:
        matrix = interactions.matrix(self.weights).astype(np.float32)
        self.item_factors = np.zeros((matrix.shape[1], 1), dtype=np.float32)
        if matrix.nnz:
            with _one_blas_thread():
                model = self._empty(min(self.config.factors, max(1, min(matrix.shape) - 1)))
                model.fit(matrix, show_progress=False)
            self.item_factors = np.asarray(model.item_factors)

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        users = np.zeros((len(rows), self.item_factors.shape[1]), dtype=np.float32)
        if len(rows) and self.item_factors.any():
            mine = taken(history.matrix(self.weights), rows).astype(np.float32)
            with _one_blas_thread():
                model = self._empty(self.item_factors.shape[1])
                model.item_factors = self.item_factors
                users = model.recalculate_user(np.arange(len(rows)), mine)
            users[np.diff(mine.indptr) == 0] = 0.0
        return Factors(users, self.item_factors)

    def _empty(self, factors: int) -> AlternatingLeastSquares:
        c = self.config
        return AlternatingLeastSquares(
            factors=factors,
            regularization=c.regularization,
            alpha=c.alpha,
            iterations=c.iterations,
            num_threads=c.threads,
            random_state=c.seed,
        )

    def _learned(self) -> State:
        return {"item_factors": self.item_factors}

    def _relearn(self, state: State) -> None:
        self.item_factors = state["item_factors"]


def _one_blas_thread() -> threadpool_limits:
    """The library's own threads and BLAS's would fight for the cores, at up to ten times the cost."""
    return threadpool_limits(limits=1, user_api="blas")
