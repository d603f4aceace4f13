"""Bought together: what goes into the same basket more often than chance and the sizes of the baskets explain.

A pair's lift (Brin, Motwani, Ullman and Tsur 1997) is against random baskets of the same sizes and products (Newman
2004, the configuration model), so what is in every basket, as bread or a bag, is a complement of nothing. A pair
counts if so many customers who bought both are unlikely by chance (the Chernoff bound of a Poisson number; twice its
exponent is Dunning's G, 1993), at a level divided by the number of products, as each competes for a place in the list.
Pairs that pass rank by how surely one comes with the other.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend.base import taken
from controltower.models.recommend.compiled import compiled
from controltower.models.recommend.interactions import ORDER, Interactions
from controltower.models.recommend.item_to_item import TIMELESS, ItemToItem
from controltower.models.recommend.kernels import offer
from controltower.models.recommend.pairs import days_of_activity, recent
from controltower.models.recommend.scores import Scores, Sparse
from controltower.profiles.portable import DAY

ROUNDS = 30  # of fitting the margins; bread in every basket of two is the slowest to settle


class Related(ItemToItem):
    """Answers for seed products: those of the customer's latest day of activity have no score themselves.

    `similarity` is 0..1. Several seeds add up as a noisy-or: 1 - the product of (1 - similarity) ^ weight.
    """

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        weights, latest = self._seeds(history)
        found = (taken(weights, rows) @ self._doubts()).tocsr()
        found.data = -np.expm1(-found.data)
        seeds = taken(latest, rows)
        return Sparse(found - found.multiply(seeds))

    def _doubts(self) -> sp.csr_matrix:
        """-log(1 - similarity), of which a noisy-or is a sum; made once, as a request may not wait for it."""
        kept: tuple[sp.csr_matrix, sp.csr_matrix] | None = getattr(self, "_doubted", None)
        if kept is None or kept[0] is not self.similarity:
            doubts = self.similarity.copy()
            doubts.data = -np.log1p(-np.minimum(doubts.data, np.float32(0.999999)))
            kept = self._doubted = (self.similarity, doubts)
        return kept[1]

    def _recent(self, history: Interactions) -> sp.csr_matrix:
        return self._seeds(history)[0]

    def _seeds(self, history: Interactions) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """customers x products: the weights of what was taken, and 1 where it was on the latest day of activity."""
        kept: tuple[Interactions, sp.csr_matrix, sp.csr_matrix] | None = getattr(self, "_asked", None)
        if kept is None or kept[0] is not history:
            day = days_of_activity(history)
            last = np.zeros(history.shape[0], dtype=day.dtype)
            np.maximum.at(last, history.customer, day)
            now = history.where(day == last[history.customer])
            latest = sp.csr_matrix((np.ones(len(now), np.float32), (now.customer, now.product)), history.shape)
            latest.data[:] = 1
            kept = self._asked = (history, recent(history, TIMELESS, self.config.recency), latest)
        return kept[1:]


class Complements(Related):
    """A basket is what a customer ordered in one second, or on one day if most orders have one product only."""

    name: ClassVar[str] = "complements"

    class Config(Related.Config):
        half_life: float = 180.0  # days after which a basket counts half
        chance: float = 1.0  # wrong complements of a product at most, by the bound; of random baskets 0.02 were found
        power: float = 0.3  # how much of the popularity is taken out of what is recommended; the rest of its source
        shrinkage: float = 1.0  # a pair of so many customers counts half
        most: int = 100  # products of a larger basket, drawn

    config: Config

    def _fit(self, interactions: Interactions) -> None:
        c, count = self.config, interactions.shape[1]
        product, second, customer, start = baskets(interactions, c.most, c.seed)
        size = np.diff(start)
        age = (interactions.until - second) / DAY
        weight = np.exp2(-age / c.half_life) if c.half_life else np.ones(len(size))
        several = np.repeat(np.where(size > 1, weight, 0), size)
        seen = np.bincount(product, np.repeat(weight, size), count)
        least = float(np.log(max(np.count_nonzero(seen) / c.chance, 1)))
        self.similarity = sp.csr_matrix((count, count), dtype=np.float32)
        if (size > 1).any():
            expected = margins(np.bincount(product, several, count))
            indptr, indices, data = together(
                product,
                start,
                customer,
                weight,
                expected,
                seen,
                least,
                c.power,
                c.shrinkage,
                self._keep(interactions),
            )
            self.similarity = sp.csr_matrix((data, indices, indptr), (count, count))


def baskets(interactions: Interactions, most: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The orders' baskets: their distinct products one after the other; of each its second, its customer, its start.

    The starts have the end of the last as well. Of a basket of more than `most` products so many are drawn.
    """
    bought = np.flatnonzero(interactions.kind == ORDER)
    customer, product = interactions.customer[bought].astype(np.int32), interactions.product[bought].astype(np.int32)
    second = time = interactions.second[bought]
    first = _changes(customer, time)
    if (np.diff(np.r_[np.flatnonzero(first), len(first)]) < 2).sum() * 2 > first.sum():
        time = time // DAY
        order = np.lexsort((product, time, customer))
        customer, product, second, time = customer[order], product[order], second[order], time[order]
    new = _changes(customer, time, product)
    if not new.all():
        customer, product, second, time = customer[new], product[new], second[new], time[new]
    start = np.r_[np.flatnonzero(_changes(customer, time)), len(product)]
    size = np.diff(start)
    if (size > most).any():
        large = np.flatnonzero(np.repeat(size > most, size))
        basket = np.repeat(np.arange(len(size)), size)[large]
        order = np.lexsort((np.random.default_rng(seed).random(len(large)), basket))
        place = np.arange(len(large)) - np.searchsorted(basket, basket)
        keep = np.ones(len(product), dtype=bool)
        keep[large[order[place >= most]]] = False
        customer, product, second = customer[keep], product[keep], second[keep]
        start = np.r_[0, np.minimum(size, most).cumsum()]
    head = start[:-1]
    return product, second[head], customer[head], start


def margins(ends: np.ndarray) -> np.ndarray:
    """u, so that the sum of u[a] u[b] over all b but a is ends[a]: pairs at random, none of a product with itself."""
    u = ends / np.sqrt(max(ends.sum(), 1e-300))
    for _ in range(ROUNDS):
        u = np.sqrt(u * ends / np.maximum(u.sum() - u, 1e-300))
    return u


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Where any of the columns isn't as in the entry before."""
    new = np.ones(len(columns[0]), dtype=bool)
    if len(new):
        new[1:] = np.logical_or.reduce([c[1:] != c[:-1] for c in columns])
    return new


@compiled
def together(
    product: np.ndarray,
    start: np.ndarray,
    customer: np.ndarray,
    weight: np.ndarray,
    expected: np.ndarray,
    seen: np.ndarray,
    least: float,
    power: float,
    shrinkage: float,
    keep: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A CSR of the `keep` strongest complements of each product, 0..1.

    product: of the baskets one after the other; start: of each basket, and the end; customer, weight: of each basket,
    sorted by customer. Each product of a basket shares the basket's weight out among the others: a pair's sum is
    compared with the product of `expected`; the evidence is the number of customers with both, less where few baskets
    make most of the sum; least: the exponent of the bound on chance. seen: weight of the product's baskets.
    """
    products = len(seen)
    count = np.zeros(products + 1, np.int64)
    most = np.zeros(products, np.int64)
    for b in range(len(start) - 1):
        for i in range(start[b], start[b + 1]):
            count[product[i] + 1] += 1
            most[product[i]] += start[b + 1] - start[b] - 1
    at = count.cumsum()
    place = at[:-1].copy()
    having = np.empty(len(product), np.int32)  # baskets by product
    for b in range(len(start) - 1):
        for i in range(start[b], start[b + 1]):
            having[place[product[i]]] = b
            place[product[i]] += 1
    size = 0
    for p in range(products):
        size += min(keep, most[p])
    indptr = np.zeros(products + 1, np.int64)
    indices, data = np.empty(size, np.int32), np.empty(size, np.float32)
    total, squares, people = np.zeros(products), np.zeros(products), np.zeros(products, np.int32)
    latest = np.full(products, -1, np.int64)
    touched = np.empty(products, np.int32)
    score, what = np.empty(keep, np.float32), np.empty(keep, np.int32)
    filled = 0
    for p in range(products):
        touches = 0
        for i in range(at[p], at[p + 1]):
            b = having[i]
            if start[b + 1] - start[b] < 2:
                continue
            share = weight[b] / (start[b + 1] - start[b] - 1)
            for j in range(start[b], start[b + 1]):
                q = product[j]
                if q == p:
                    continue
                if people[q] == 0:
                    touched[touches] = q
                    touches += 1
                if people[q] == 0 or latest[q] != customer[b]:
                    people[q] += 1
                    latest[q] = customer[b]
                total[q] += share
                squares[q] += share * share
        n = 0
        for t in range(touches):
            q = touched[t]
            value, who = total[q], people[q]
            lift = value / max(expected[p] * expected[q], 1e-300)
            evidence = min(value * value / squares[q], who)  # Kish's effective number of baskets
            total[q], squares[q], people[q] = 0, 0, 0
            if who < 2 or not lift > 1 or evidence * (np.log(lift) - 1 + 1 / lift) < least:
                continue
            s = (value / seen[p]) ** (1 - power) * (value / seen[q]) ** power * evidence / (evidence + shrinkage)
            if s > 0:
                n = offer(score, what, n, np.float32(min(s, 1.0)), q)
        order = np.argsort(what[:n])
        for j in range(n):
            indices[filled + j], data[filled + j] = what[order[j]], score[order[j]]
        filled += n
        indptr[p + 1] = filled
    return indptr, indices[:filled].copy(), data[:filled].copy()
