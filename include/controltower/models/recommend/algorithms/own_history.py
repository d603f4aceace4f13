"""Buy again: the customer's own orders, carts and views (for shops where people buy the same again)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from controltower.models.base import ModelConfig
from controltower.models.recommend.base import Scorer, taken
from controltower.models.recommend.interactions import Interactions, Weights
from controltower.models.recommend.scores import Scores, Sparse


class OwnHistory(Scorer):
    """Counts of the customer's own orders with a product, recent ones more; ties by popularity.

    Carts and views count less and fade sooner. Where repeats are excluded, they are what is left.
    """

    name: ClassVar[str] = "own_history"

    class Config(ModelConfig):
        order_half_life: float = 180.0  # days; 0: all orders count the same
        event_half_life: float = 7.0
        cart: float = 0.5
        view: float = 0.2

    config: Config

    def _fit(self, interactions: Interactions) -> None:
        """Nothing to learn: the history comes with the question."""

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        c = self.config
        weights = Weights(
            cart=c.cart, view=c.view, order_half_life=c.order_half_life, event_half_life=c.event_half_life
        )
        return Sparse(taken(history.matrix(weights), rows))


class OwnCount(OwnHistory):
    """The plain opponent: the number of the customer's own orders with the product, ties by popularity."""

    name: ClassVar[str] = "own_count"

    class Config(OwnHistory.Config):
        order_half_life: float = 0.0
        cart: float = 0.0
        view: float = 0.0

    config: Config
