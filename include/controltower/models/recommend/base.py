"""What all recommenders share: who gets which products, how many, filtered, filled up and in order."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np

from controltower.models.base import Model, State
from controltower.models.recommend.interactions import ORDER, Interactions, Weights

Parts = dict[str, np.ndarray]  # name of an algorithm -> its share of the score, rows x products
CELLS = 4_000_000  # scores held at a time: customers are ranked in chunks of this many cells
FILL = 1e-4  # how much of the popularity is added to each score: it breaks ties and fills up, and decides nothing else


@dataclass(frozen=True)
class Ranking:
    """The best products of customers, aligned arrays; `product` is a position in the model's product_ids.

    `customer` is a position in the list of customers asked for. Sorted by customer, rank (1 = best). `part` names the
    algorithm whose share of the score was the largest, "popularity" where the product only fills up.
    """

    customer: np.ndarray
    rank: np.ndarray
    product: np.ndarray
    score: np.ndarray
    part: np.ndarray


class Recommender(Model):
    """Ranks the products of the catalogue it was fitted on, by the customers' history of today."""

    product_ids: np.ndarray
    popularity: np.ndarray  # 0..1 by product, recent orders count more

    def fit(self, interactions: Interactions) -> Self:
        """Learn from interactions; customers and products are positions, so ids may be anything."""
        self.product_ids = interactions.product_ids
        self.popularity = popularity(interactions)
        self._fit(interactions)
        return self

    def recommend(
        self,
        history: Interactions,
        customers: np.ndarray,
        k: int,
        *,
        repeat: bool,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """The k best allowed products of each customer, fewer only if fewer are allowed.

        history: over this model's product_ids, of any later date than the training
        customers: distinct ids; the unknown and those without history get popular products
        repeat: whether products that the customer bought before may come again
        allowed: mask over product_ids (None: all)
        """
        if k < 1:
            raise ValueError("k must be at least 1")
        if not np.array_equal(history.product_ids, self.product_ids):
            raise ValueError("the history must be read over the model's own product_ids")
        allowed = np.ones(len(self.product_ids), dtype=bool) if allowed is None else allowed
        rows = history.rows_of(customers)
        size = max(1, CELLS // max(1, len(self.product_ids)))
        chunks = [
            self._rank(history, rows[start : start + size], k, repeat, allowed, start)
            for start in range(0, len(rows), size)
        ]
        if not chunks:
            return Ranking(*(np.zeros(0, dtype=t) for t in (np.int64, np.int64, np.int64, np.float64, np.str_)))
        return Ranking(*(np.concatenate([getattr(c, f) for c in chunks]) for f in Ranking.__dataclass_fields__))

    def score(self, history: Interactions, rows: np.ndarray) -> Parts:
        """Each part's share of the scores for rows of the history (-1: unknown customer, all zero)."""
        known = rows >= 0
        parts = {}
        for name, scores in self._score(history, rows[known]).items():
            parts[name] = np.zeros((len(rows), len(self.product_ids)), dtype=np.float32)
            parts[name][known] = scores
        return parts

    @abstractmethod
    def _fit(self, interactions: Interactions) -> None:
        """Learn what `_score` needs."""

    @abstractmethod
    def _score(self, history: Interactions, rows: np.ndarray) -> Parts:
        """The shares of the score, each len(rows) x products; 0 says nothing of a product."""

    def _learned(self) -> State:
        """What `_fit` learned; nothing unless a subclass says so."""
        return {}

    def _relearn(self, state: State) -> None:
        """The inverse of `_learned`."""

    def _state(self) -> State:
        return {"product_ids": self.product_ids, "popularity": self.popularity, **self._learned()}

    def _restore(self, state: State) -> None:
        self.product_ids, self.popularity = state["product_ids"], state["popularity"]
        self._relearn(state)

    def _rank(
        self, history: Interactions, rows: np.ndarray, k: int, repeat: bool, allowed: np.ndarray, first: int
    ) -> Ranking:
        parts = self.score(history, rows)
        scores = FILL * self.popularity[None, :] + sum(parts.values())
        scores = barred(scores, history, rows, repeat, allowed)
        picked = top(scores, k)
        value = np.take_along_axis(scores, picked, axis=1)
        shares = np.stack([np.take_along_axis(p, picked, axis=1) for p in parts.values()])
        names = np.array([*parts, "popularity"], dtype=np.str_)
        part = names[np.where(shares.max(axis=0) > 0, shares.argmax(axis=0), len(parts))]
        row, place = np.nonzero(np.isfinite(value))
        return Ranking(first + row, place + 1, picked[row, place], value[row, place].astype(float), part[row, place])


def barred(
    scores: np.ndarray, history: Interactions, rows: np.ndarray, repeat: bool, allowed: np.ndarray
) -> np.ndarray:
    """The scores with what may not be recommended at -inf; changes its argument."""
    scores[:, ~allowed] = -np.inf
    if not repeat:
        known = np.flatnonzero(rows >= 0)
        who, what = history.ordered[rows[known]].nonzero()
        scores[known[who], what] = -np.inf
    return scores


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k highest scores of each row, best first; equal scores in the order of columns."""
    k = min(k, scores.shape[1])
    if k == 0:
        return np.zeros((len(scores), 0), dtype=np.int64)
    # argpartition picks among equals as it likes: take all that reach the k-th value, then the first of them
    limit = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
    row, column = np.nonzero(scores >= limit[:, None])
    order = np.lexsort((column, -scores[row, column], row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    keep = place < k
    return column[keep].reshape(len(scores), k)


def popularity(interactions: Interactions, half_life: float = 14.0) -> np.ndarray:
    """0..1 by product: orders (customers times days), recent ones more; carts and views only where nothing was sold.

    A floor of all-time orders, a millionth as strong, ranks what was not bought lately.
    """
    orders = interactions.kind == ORDER
    count = len(interactions.product_ids)

    def shares(weights: np.ndarray) -> np.ndarray:
        total = np.bincount(interactions.product, weights=weights, minlength=count)
        return total / total.max() if total.size and total.max() > 0 else total

    recent = interactions.weight(Weights(order_half_life=half_life, event_half_life=half_life))
    ever = shares(orders.astype(float))
    return (shares(recent * orders) + 1e-3 * ever + 1e-6 * shares(recent * ~orders)) / (1 + 1e-3 + 1e-6)
