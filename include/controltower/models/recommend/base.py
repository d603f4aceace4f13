"""What all recommenders share: who gets which products, how many, filtered, filled up and in order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp

from controltower.models.base import Model, State
from controltower.models.recommend.interactions import ORDER, Interactions, Weights
from controltower.models.recommend.scores import Barred, Same, Scores, Sparse

CHUNK = 4096  # customers ranked at a time
TIES = 1e-4  # how much of the popularity is added to sparse scores: it breaks ties and decides nothing else


@dataclass(frozen=True)
class Ranking:
    """The best products of customers, aligned arrays; `product` is a position in the model's product_ids.

    `customer` is a position in the list of customers asked for. Sorted by customer, rank (1 = best). `algorithm` says
    which one ranked the list, "popularity" where the product only fills up; `part` which member spoke most for it.
    """

    customer: np.ndarray
    rank: np.ndarray
    product: np.ndarray
    score: np.ndarray
    algorithm: np.ndarray
    part: np.ndarray

    def where(self, keep: np.ndarray) -> Ranking:
        """The entries of a mask; each customer's ranks start from 1 again."""
        kept = Ranking(*(getattr(self, f)[keep] for f in Ranking.__dataclass_fields__))
        first = np.searchsorted(kept.customer, kept.customer)
        return replace(kept, rank=np.arange(len(first)) - first + 1)


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
        made = []
        for start, chunk in chunks(rows):
            ranking = self.rank(history, chunk, k, barred(history, chunk, repeat, allowed))
            made.append(replace(ranking, customer=start + ranking.customer))
        return joined(made)

    def refit(self, interactions: Interactions) -> Self:
        """The same, fitted on other interactions."""
        return type(self)(self.config).fit(interactions)

    def leads(self) -> np.ndarray:
        """Mask of the products that it may say something for when asked with one alone, beside what is popular."""
        return np.ones(len(self.product_ids), dtype=bool)

    @abstractmethod
    def rank(self, history: Interactions, rows: np.ndarray, k: int, barred: Barred) -> Ranking:
        """The k best of each row of the history (-1: unknown); `customer` is a position in rows."""

    @abstractmethod
    def _fit(self, interactions: Interactions) -> None:
        """Learn from interactions."""

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


class Scorer(Recommender):
    """Recommends what it scores highest, and popular products where it says nothing."""

    most_products: ClassVar[int | None] = None  # with a larger catalogue it bows out

    @classmethod
    def missing(cls) -> str | None:
        """Why it can't be fitted here, if so: what must be installed. What was fitted elsewhere can be asked still."""
        return None

    def rank(self, history: Interactions, rows: np.ndarray, k: int, barred: Barred) -> Ranking:
        """The k best of each row of the history (-1: unknown); `customer` is a position in rows."""
        own, score = self.score(history, rows).best(k, barred)
        popular, _ = self.popular(len(rows)).best(k, barred)
        product, place = first_distinct(np.hstack([own, popular]), k)
        filled = place >= own.shape[1]
        row, column = np.nonzero(product >= 0)
        part = np.where(filled[row, column], "popularity", self.name)
        value = np.take_along_axis(np.hstack([score, np.zeros_like(popular, np.float32)]), place, axis=1)[row, column]
        return Ranking(row, column + 1, product[row, column], value.astype(float), part, part)

    def score(self, history: Interactions, rows: np.ndarray) -> Scores:
        """What it thinks of the products, for rows of the history (-1: unknown)."""
        scores = self._score(history, rows)
        if isinstance(scores, Sparse):
            scores.matrix.data += np.float32(TIES) * self.popularity[scores.matrix.indices].astype(np.float32)
        return scores

    def popular(self, rows: int) -> Same:
        """The popularity, also of what was never sold."""
        kept: tuple[np.ndarray, np.ndarray, np.ndarray] | None = getattr(self, "_sorted", None)
        if kept is None or kept[0] is not self.popularity:
            score = (self.popularity + 1e-12).astype(np.float32)
            kept = self._sorted = (self.popularity, score, np.argsort(-score, kind="stable"))
        return Same(kept[1], rows, kept[2])

    @abstractmethod
    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        """Scores of each row (-1: a customer without history); 0 says nothing of a product."""


def joined(rankings: list[Ranking]) -> Ranking:
    """Rankings of chunks of customers as one."""
    empty = Ranking(*(np.zeros(0, dtype=t) for t in (np.int64, np.int64, np.int64, np.float64, np.str_, np.str_)))
    fields = Ranking.__dataclass_fields__
    return Ranking(*(np.concatenate([getattr(r, f) for r in rankings or [empty]]) for f in fields))


def chunks(rows: np.ndarray, most: int = CHUNK) -> Iterator[tuple[int, np.ndarray]]:
    """So many rows at a time, with the position of the first."""
    return ((start, rows[start : start + most]) for start in range(0, len(rows), most))


def barred(history: Interactions, rows: np.ndarray, repeat: bool, allowed: np.ndarray) -> Barred:
    """What rows of a history may not get: what isn't allowed, and without `repeat` what they bought before."""
    own = sp.csr_matrix((len(rows), len(allowed)), dtype=np.float32) if repeat else taken(history.ordered, rows)
    return Barred(allowed, own)


def taken(matrix: sp.csr_matrix, rows: np.ndarray) -> sp.csr_matrix:
    """Rows of a matrix, an empty one for -1."""
    if not matrix.shape[0]:
        return sp.csr_matrix((len(rows), matrix.shape[1]), dtype=matrix.dtype)
    picked = matrix[np.maximum(rows, 0)]
    return picked if (rows >= 0).all() else (sp.diags((rows >= 0).astype(matrix.dtype)) @ picked).tocsr()


def first_distinct(products: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k distinct products (not -1) of each row and the columns they stand in; -1 and 0 where fewer."""
    rows, width = products.shape
    order = np.argsort(products, axis=1, kind="stable")
    ranked = np.take_along_axis(products, order, axis=1)
    again = np.zeros((rows, width), dtype=bool)
    again[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
    keep = np.ones((rows, width), dtype=bool)
    np.put_along_axis(keep, order, ~again, axis=1)
    keep &= products >= 0
    column = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(keep, column, axis=1)
    return np.where(found, np.take_along_axis(products, column, axis=1), -1), np.where(found, column, 0)


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
