"""Customers like this one: the nearest by what they took, and what they took of late.

Neighbourhoods of customers (Resnick et al. 1994; Herlocker et al. 1999), here by cosine over TF-IDF. The model holds
customers' products without ids; to erase a customer, train again. Oneself may be among the neighbours: that adds
nothing but what one has.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from controltower.models.base import ModelConfig, State
from controltower.models.recommend.algorithms.nearest import (
    Bags,
    Neighbours,
    asked_for,
    last_seconds,
    rarity,
    shared,
)
from controltower.models.recommend.base import Scorer
from controltower.models.recommend.interactions import Interactions, Weights
from controltower.models.recommend.pairs import recent
from controltower.models.recommend.scores import Scores, Sparse

TIMELESS = Weights(order_half_life=0, event_half_life=0)


class UserKnn(Scorer):
    """A question looks at length x most customers at most, then at the products of k neighbours."""

    name: ClassVar[str] = "user_knn"

    class Config(ModelConfig):
        length: int = 50  # strongest products of the question
        most: int = 500  # most recent customers of a product
        k: int = 200  # neighbours
        recency: float = 0.7  # weight of a day of activity in the question over that of the next one
        trend: float = 15.0  # days after which a neighbour's entry counts half
        idf: float = 0.5  # power of the products' rarity in similarities
        power: float = 0.2  # how much of the popularity is taken out of what is recommended
        sharp: float = 0.7  # power of similarities

    config: Config
    rarity: np.ndarray  # of each product, to the power
    pull: np.ndarray  # of each product: weight of the votes for it
    neighbours: Neighbours

    def _fit(self, interactions: Interactions) -> None:
        c = self.config
        products = interactions.shape[1]
        bags = Bags.of(interactions.matrix(TIMELESS))
        vote = Bags.of(interactions.matrix(Weights(order_half_life=c.trend, event_half_life=c.trend))).value
        self.rarity = rarity(bags, products) ** c.idf
        self.pull = np.maximum(np.bincount(bags.product, minlength=products), 1) ** -c.power
        trust = 1 / bags.times(self.rarity[bags.product]).norms()
        last = last_seconds(interactions)
        self.neighbours = Neighbours.of(bags, vote, trust, last, products, c.most, c.seed)

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        c = self.config
        asked = self._asked(self._bags(history, rows))
        return Sparse(self.neighbours.votes(asked, self.pull, c.k, sharp=c.sharp))

    def likeness(self, history: Interactions, rows: np.ndarray, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Why: for distinct pairs of a history row (-1: unknown) and a product, two counts, both int64.

        How many of the k neighbours took the product; and how many other products of the customer's own those
        neighbours took between them ("12 customers who share 4 of your products").
        """
        order = np.argsort(rows, kind="stable")
        distinct, counts = np.unique(rows, return_counts=True)
        own = self._bags(history, distinct)
        b = self.neighbours.bags
        takers, common = shared(
            np.r_[0, counts.cumsum()], products[order], self.neighbours.nearest(self._asked(own), self.config.k),
            own.indptr, own.product, b.indptr, b.product, len(self.rarity),
        )  # fmt: skip
        back = np.argsort(order, kind="stable")
        return takers[back], common[back]

    def _bags(self, history: Interactions, rows: np.ndarray) -> Bags:
        return Bags.of(recent(asked_for(history, rows), TIMELESS, self.config.recency))

    def _asked(self, bags: Bags) -> Bags:
        rare = self.rarity[bags.product]
        return bags.times(rare).unit().times(rare).strongest(self.config.length)

    def _learned(self) -> State:
        return {"rarity": self.rarity, "pull": self.pull, **self.neighbours.state()}

    def _relearn(self, state: State) -> None:
        self.rarity, self.pull = state["rarity"], state["pull"]
        self.neighbours = Neighbours.restore(state, len(self.rarity), self.config.most)
