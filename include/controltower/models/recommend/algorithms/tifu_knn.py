"""Buy again, and what those with like habits buy: personalised item frequencies, mixed with the neighbours'.

TIFU-KNN (Hu et al. 2020: Modeling Personalized Item Frequency Information for Next-basket Recommendation). It differs
in three ways: cosine instead of Euclid's distance, so that only customers with a product in common are looked at;
neighbours weigh by their similarity; and what they add is what they bought of late, since a shop's season moves
faster than its customers. Carts and views don't count. The model holds customers' frequencies without ids; to erase a
customer, train again. Oneself may be among the neighbours: that adds nothing but what one has.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from controltower.models.base import ModelConfig, State
from controltower.models.recommend.algorithms.nearest import Bags, Neighbours, asked_for, fading, last_seconds
from controltower.models.recommend.base import Scorer
from controltower.models.recommend.interactions import ORDER, Interactions, Weights
from controltower.models.recommend.pairs import days_of_activity
from controltower.models.recommend.scores import Scores, Sparse
from controltower.profiles.portable import DAY


class TifuKnn(Scorer):
    """A question looks at length x most customers at most, then at the products of k neighbours."""

    name: ClassVar[str] = "tifu_knn"

    class Config(ModelConfig):
        group: int = 10  # baskets of a group
        within: float = 0.98  # weight of a basket over that of the next one of its group
        across: float = 0.8  # weight of a group over that of the next one
        alpha: float = 0.25  # share of the own frequencies, the rest are the neighbours'
        length: int = 50  # strongest products of the question
        most: int = 500  # most recent customers of a product
        k: int = 300  # neighbours
        trend: float = 15.0  # days after which a neighbour's order counts half
        half_life: float = 90.0  # days, of a neighbour's similarity since the last order; 0: all the same
        sharp: float = 2.0  # power of similarities

    config: Config
    neighbours: Neighbours

    def _fit(self, interactions: Interactions) -> None:
        c = self.config
        orders = interactions.where(interactions.kind == ORDER)
        bags = Bags.of(self._frequencies(orders))
        vote = Bags.of(orders.matrix(Weights(order_half_life=c.trend))).value
        last = last_seconds(orders)
        trust = fading((orders.until - last) / DAY, c.half_life) / bags.norms()
        self.neighbours = Neighbours.of(bags, vote, trust, last, orders.shape[1], c.most, c.seed)

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        c = self.config
        mine = asked_for(history, rows)
        own = self._frequencies(mine.where(mine.kind == ORDER))
        asked = Bags.of(own).unit().strongest(c.length)
        votes = self.neighbours.votes(asked, np.ones(own.shape[1]), c.k, sharp=c.sharp)
        return Sparse(c.alpha * own + (1 - c.alpha) * votes)

    def _frequencies(self, orders: Interactions) -> sp.csr_matrix:
        """customers x products, 0..1: the share of baskets with the product, late baskets more.

        A basket is a day with orders. Groups are counted from the last basket, so the first one may be smaller; a
        product has the mean of its group over the baskets, then the mean over the groups.
        """
        c = self.config
        basket = days_of_activity(orders)
        last = np.full(orders.shape[0], -1)
        np.maximum.at(last, orders.customer, basket)
        last = last[orders.customer]
        group, place = np.divmod(last - basket, c.group)
        size = np.where(group == last // c.group, last % c.group + 1, c.group)
        value = c.within**place / size * c.across**group / (last // c.group + 1)
        new = np.ones(len(orders), dtype=bool)
        order = np.lexsort((orders.product, basket, orders.customer))
        # a product once a basket
        same = [np.diff(column[order]) == 0 for column in (orders.customer, basket, orders.product)]
        new[order[1:]] = ~np.logical_and.reduce(same)
        entries = (orders.customer[new], orders.product[new])
        return sp.csr_matrix((value[new].astype(np.float32), entries), orders.shape)

    def _learned(self) -> State:
        return self.neighbours.state()

    def _relearn(self, state: State) -> None:
        self.neighbours = Neighbours.restore(state, len(self.product_ids), self.config.most)
