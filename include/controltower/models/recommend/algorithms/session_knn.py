"""Others went on like this: past sessions like the customer's latest activity, and what they took around there.

V-SKNN (Ludewig and Jannach 2018) and STAN (Garg et al. 2019); the question is the customer's latest products whatever
their session (Latifi, Mauro and Jannach 2021). A session ends after some days without activity; where most would hold
one product only, a customer's whole history is one. The model holds sessions without ids; to erase a customer, train
again. One's own session may be among the neighbours: it adds nothing but what one has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from controltower.models.base import ModelConfig, State
from controltower.models.recommend.algorithms.nearest import SCATTER, Bags, Neighbours, asked_for, fading, rarity
from controltower.models.recommend.base import Scorer
from controltower.models.recommend.compiled import compiled
from controltower.models.recommend.interactions import Interactions, Weights
from controltower.models.recommend.scores import Scores, Sparse
from controltower.profiles.portable import DAY

TIMELESS = Weights(order_half_life=0, event_half_life=0)  # steps and sessions tell the time
WHOLE = 1_000_000  # days: no gap is that long


class SessionKnn(Scorer):
    """A question looks at length x most sessions at most, then at length products of each of k neighbours."""

    name: ClassVar[str] = "session_knn"

    class Config(ModelConfig):
        gap: int = 7  # days between two days of activity of one session, at most
        length: int = 50  # latest products of a session, and of the question
        most: int = 300  # most recent sessions of a product
        k: int = 200  # neighbours
        recency: float = 0.6  # weight of a step in the question over that of the next one
        half_life: float = 90.0  # days, of a neighbour's weight; 0: all the same
        size: float = 0.4  # similarities are divided by the session's number of products to this power
        idf: float = 0.75  # power of the products' rarity in similarities
        near: float = 0.8  # weight per step between what a neighbour shares and what it adds
        backward: float = 0.2  # weight of what it took before

    config: Config
    rarity: np.ndarray  # of each product, to the power
    neighbours: Neighbours

    def _fit(self, interactions: Interactions) -> None:
        c = self.config
        bags, last, _ = sessions(interactions, c.gap, c.length)
        sizes = np.diff(bags.indptr)
        if (sizes < 2).sum() * 2 > len(sizes):
            bags, last, _ = sessions(interactions, WHOLE, c.length)
            sizes = np.diff(bags.indptr)
        products = interactions.shape[1]
        self.rarity = rarity(bags, products) ** c.idf
        trust = np.maximum(sizes, 1) ** -c.size * fading((interactions.until - last) / DAY, c.half_life)
        self.neighbours = Neighbours.of(bags, bags.value, trust, last, products, c.most, c.seed)

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        c = self.config
        bags, _, owner = sessions(asked_for(history, rows), WHOLE, c.length)
        sizes = np.zeros(len(rows), np.int64)
        sizes[owner] = np.diff(bags.indptr)
        asked = replace(bags, indptr=np.r_[0, sizes.cumsum()])
        asked = asked.times(c.recency**asked.step * self.rarity[asked.product]).unit()
        return Sparse(self.neighbours.votes(asked, np.ones(len(self.rarity)), c.k, near=c.near, backward=c.backward))

    def _learned(self) -> State:
        return {"rarity": self.rarity, **self.neighbours.state()}

    def _relearn(self, state: State) -> None:
        self.rarity = state["rarity"]
        self.neighbours = Neighbours.restore(state, len(self.rarity), self.config.most)


def sessions(interactions: Interactions, gap: int, length: int) -> tuple[Bags, np.ndarray, np.ndarray]:
    """The latest `length` products of each session, latest first, its last second and its customer.

    A product counts once, where it came last, with the highest weight of its kinds. Entries of one second are one step.
    """
    indptr, product, value, step, last, owner = _sessions(
        interactions.customer, interactions.product, interactions.second, interactions.weight(TIMELESS),
        interactions.second // DAY, gap, length, interactions.shape[1],
    )  # fmt: skip
    return Bags(indptr, product, value, step), last, owner


@compiled
def _sessions(
    customer: np.ndarray, product: np.ndarray, second: np.ndarray, weight: np.ndarray, day: np.ndarray,
    gap: int, length: int, products: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    n = len(customer)
    count, kept = 0, 0
    starts = np.zeros(n + 1, np.int64)  # of the sessions' entries
    for e in range(n):
        if e == 0 or customer[e] != customer[e - 1] or day[e] - day[e - 1] > gap:
            starts[count] = e
            count += 1
    starts[count] = n
    indptr, last, owner = np.zeros(count + 1, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    what, value, step = np.empty(n, np.int32), np.empty(n, np.float32), np.empty(n, np.int32)
    session, place = np.full(products, -1, np.int64), np.empty(products, np.int64)  # where a product was kept last
    for s in range(count):
        stop, steps = starts[s + 1], -1
        last[s], owner[s], before = second[stop - 1], customer[stop - 1], -1
        while stop > starts[s]:
            start = stop - 1
            while start > starts[s] and second[start - 1] == second[stop - 1]:
                start -= 1
            entries = np.arange(start, stop)
            if kept - indptr[s] + len(entries) > length:  # whom the length cuts is not a matter of ids
                entries = entries[np.argsort((second[entries] + product[entries]) * SCATTER % 2**32)]
            for e in entries:
                p = product[e]
                if session[p] == s:
                    value[place[p]] = max(value[place[p]], weight[e])
                elif kept - indptr[s] < length:
                    if start != before:
                        steps += 1
                        before = start
                    what[kept], value[kept], step[kept] = p, weight[e], steps
                    session[p], place[p] = s, kept
                    kept += 1
            stop = start
        indptr[s + 1] = kept
    return indptr, what[:kept].copy(), value[:kept].copy(), step[:kept].copy(), last, owner
