"""The nearest rows of a sparse matrix and what they took: the compiled loops of the algorithms that ask neighbours.

Rows are customers, or their sessions, the most recent first; no ids are kept. A product's list holds its `most` most
recent rows, so a question of n products looks at n x most rows at most, then at the products of k neighbours. A row
that no list holds can't be found and isn't stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import scipy.sparse as sp

from controltower.models.base import State
from controltower.models.recommend.compiled import compiled
from controltower.models.recommend.interactions import Interactions
from controltower.models.recommend.kernels import best_first, offer

KEEP = 500  # products scored per question
SCATTER = 2654435761  # times this, modulo 2^32, neighbouring numbers lie far apart (Knuth: Fibonacci hashing)


@dataclass(frozen=True)
class Bags:
    """What customers, or their sessions, took: a CSR of rows x products, without duplicates."""

    indptr: np.ndarray  # int64
    product: np.ndarray  # int32
    value: np.ndarray  # float32, >= 0
    step: np.ndarray  # int32: how many steps before the row's last one; empty where that doesn't matter

    @classmethod
    def of(cls, matrix: sp.csr_matrix) -> Self:
        """The entries of a matrix, none negative."""
        matrix = matrix.tocsr()
        matrix.sum_duplicates()
        return cls(
            matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32),
            np.zeros(0, np.int32),
        )  # fmt: skip

    @property
    def row(self) -> np.ndarray:
        """The row of each entry."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def norms(self) -> np.ndarray:
        """The length of each row's vector, 1 where it is empty."""
        square = np.bincount(self.row, weights=self.value.astype(float) ** 2, minlength=len(self.indptr) - 1)
        return np.where(square > 0, np.sqrt(square), 1.0)

    def times(self, factor: np.ndarray) -> Bags:
        """With the values times a factor of each entry."""
        return replace(self, value=(self.value * factor).astype(np.float32))

    def unit(self) -> Bags:
        """Each row's vector at length 1."""
        return self.times(1 / self.norms()[self.row])

    def strongest(self, n: int) -> Bags:
        """At most the n highest values of each row; which of equal ones is not a matter of their ids."""
        if np.diff(self.indptr).max(initial=0) <= n:
            return self
        row = self.row
        order = np.lexsort((self.product.astype(np.int64) * SCATTER % 2**32, -self.value, row))
        kept = np.sort(order[np.arange(len(order)) - self.indptr[row] < n])
        indptr = np.r_[0, np.bincount(row[kept], minlength=len(self.indptr) - 1).cumsum()]
        return Bags(indptr, self.product[kept], self.value[kept], self.step[kept] if len(self.step) else self.step)


@dataclass(frozen=True)
class Neighbours:
    """Stored rows, the most recent first, and each product's list of them."""

    bags: Bags
    vote: np.ndarray  # float32, of each entry: what it counts for its product
    trust: np.ndarray  # float32, of each row: similarities are multiplied by it
    lists: tuple[np.ndarray, np.ndarray, np.ndarray]  # of each product: indptr, rows, values

    @classmethod
    def of(
        cls, bags: Bags, vote: np.ndarray, trust: np.ndarray, last: np.ndarray, products: int, most: int, seed: int
    ) -> Self:
        """vote: of each entry; trust and last second: of each row. Rows of the same second come as drawn."""
        order = np.lexsort((np.random.default_rng(seed).permutation(len(last)), -last))
        rows, entries = _listed(bags.indptr, bags.product, order, products, most)
        state = {
            "sizes": np.diff(bags.indptr)[rows],
            "product": bags.product[entries],
            "value": bags.value[entries],
            "step": bags.step[entries] if len(bags.step) else bags.step,
            "vote": vote[entries].astype(np.float32),
            "trust": trust[rows].astype(np.float32),
        }
        return cls.restore(state, products, most)

    @classmethod
    def restore(cls, state: State, products: int, most: int) -> Self:
        """The inverse of `state`."""
        bags = Bags(np.r_[0, state["sizes"].cumsum()], state["product"], state["value"], state["step"])
        lists = _lists(bags.indptr, bags.product, bags.value, products, most)
        return cls(bags, state["vote"], state["trust"], lists)

    def state(self) -> State:
        b = self.bags
        return {
            "sizes": np.diff(b.indptr), "product": b.product, "value": b.value, "step": b.step,
            "vote": self.vote, "trust": self.trust,
        }  # fmt: skip

    def votes(
        self, asked: Bags, pull: np.ndarray, k: int, *, near: float = 1.0, backward: float = 1.0, sharp: float = 1.0
    ) -> sp.csr_matrix:
        """asked x products: votes of the k nearest rows, weighted by similarity, over the sum of similarities + 1.

        The similarity is the product of the vectors x trust, to the power `sharp`; the 1 keeps few or far neighbours
        below many near ones. A row that has nothing but what was asked with has no vote: as a rule it is the asked
        one's own, as it was at training. pull: weight of each product. near: weight per step in the neighbour's row
        between a product and the one it shares with the question (the latest of the question that it has); backward:
        weight of what it took before that. At most KEEP products of each question.
        """
        b = self.bags
        indptr, indices, data = _vote(
            asked.indptr, asked.product, asked.value, asked.step, *self.lists,
            b.indptr, b.product, self.vote, b.step, self.trust,
            pull.astype(np.float32), k, near, backward, sharp, KEEP,
        )  # fmt: skip
        return sp.csr_matrix((data, indices, indptr), (len(indptr) - 1, len(pull)))

    def nearest(self, asked: Bags, k: int) -> np.ndarray:
        """The k nearest rows of each question, nearest first, -1 where there are fewer."""
        return _nearest(asked.indptr, asked.product, asked.value, *self.lists, self.trust, k)


def asked_for(history: Interactions, rows: np.ndarray) -> Interactions:
    """The entries of rows of a history (-1: none); `customer` is a position in rows."""
    start, stop = (np.searchsorted(history.customer, np.maximum(rows, 0), side) for side in ("left", "right"))
    count = np.where(rows >= 0, stop - start, 0)
    customer = np.repeat(np.arange(len(rows)), count)
    at = np.arange(len(customer)) + (start - count.cumsum() + count)[customer]
    return replace(
        history, customer_ids=np.arange(len(rows)), customer=customer, product=history.product[at],
        second=history.second[at], kind=history.kind[at], _matrices={},
    )  # fmt: skip


def last_seconds(interactions: Interactions) -> np.ndarray:
    """The second of each customer's last entry, 0 without any."""
    last = np.zeros(interactions.shape[0], np.int64)
    np.maximum.at(last, interactions.customer, interactions.second)
    return last


def fading(age: np.ndarray, half_life: float) -> np.ndarray:
    """Weights of ages; half after `half_life`, all 1 where that is 0."""
    return np.exp2(-age / half_life) if half_life > 0 else np.ones(len(age))


def rarity(bags: Bags, products: int) -> np.ndarray:
    """Inverse frequency of each product among the rows, 0..1: log(1 + rows / rows with it), over its maximum."""
    rows = max(len(bags.indptr) - 1, 1)
    count = np.maximum(np.bincount(bags.product, minlength=products), 1)
    return np.log1p(rows / count) / np.log1p(rows)


@compiled
def _listed(
    indptr: np.ndarray, product: np.ndarray, order: np.ndarray, products: int, most: int
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The rows, in order, that some product's list of `most` rows still had room for, and their entries."""
    held = np.zeros(products, np.int64)
    rows = np.empty(len(order), np.int64)
    kept, size = 0, 0
    for r in order:
        room = False
        for j in range(indptr[r], indptr[r + 1]):
            room |= held[product[j]] < most
        if room:
            for j in range(indptr[r], indptr[r + 1]):
                held[product[j]] += 1
            rows[kept] = r
            kept += 1
            size += indptr[r + 1] - indptr[r]
    entries = np.empty(size, np.int64)
    size = 0
    for r in rows[:kept]:
        for j in range(indptr[r], indptr[r + 1]):
            entries[size] = j
            size += 1
    return rows[:kept].copy(), entries


@compiled
def _lists(
    indptr: np.ndarray, product: np.ndarray, value: np.ndarray, products: int, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """The first `most` rows of each product: indptr, rows and values."""
    start = np.zeros(products + 1, np.int64)
    for p in product:
        start[p + 1] += 1
    for p in range(products):
        start[p + 1] = start[p] + min(start[p + 1], most)
    rows, values = np.empty(start[-1], np.int32), np.empty(start[-1], np.float32)
    place = start[:-1].copy()
    for r in range(len(indptr) - 1):
        for j in range(indptr[r], indptr[r + 1]):
            p = product[j]
            if place[p] < start[p + 1]:
                rows[place[p]], values[place[p]] = r, value[j]
                place[p] += 1
    return start, rows, values


@compiled
def _search(
    products: np.ndarray, values: np.ndarray, start: np.ndarray, rows: np.ndarray, weights: np.ndarray,
    trust: np.ndarray, total: np.ndarray, touched: np.ndarray, score: np.ndarray, found: np.ndarray,
) -> int:  # fmt: skip
    """The most similar rows, best first, into `score` and `found`, as many as they hold; how many there are."""
    touches = 0
    for i in range(len(products)):
        for j in range(start[products[i]], start[products[i] + 1]):
            r, v = rows[j], values[i] * weights[j]
            if not v > 0:
                continue
            if total[r] == 0:
                touched[touches] = r
                touches += 1
            total[r] += v
    n = 0
    for t in range(touches):
        r = touched[t]
        s = total[r] * trust[r]
        total[r] = 0
        if s > 0:
            n = offer(score, found, n, s, r)
    best_first(score, found, n)
    return n


@compiled
def _nearest(
    asked: np.ndarray, products: np.ndarray, values: np.ndarray,
    start: np.ndarray, rows: np.ndarray, weights: np.ndarray, trust: np.ndarray, k: int,
) -> np.ndarray:  # fmt: skip
    nearest = np.full((len(asked) - 1, k), -1, np.int32)
    total, touched = np.zeros(len(trust), np.float32), np.empty(len(trust), np.int32)
    score = np.empty(k, np.float32)
    for q in range(len(asked) - 1):
        own = slice(asked[q], asked[q + 1])
        _search(products[own], values[own], start, rows, weights, trust, total, touched, score, nearest[q])
    return nearest


@compiled
def _vote(
    asked: np.ndarray, products: np.ndarray, values: np.ndarray, steps: np.ndarray,
    start: np.ndarray, rows: np.ndarray, weights: np.ndarray,
    indptr: np.ndarray, product: np.ndarray, vote: np.ndarray, step: np.ndarray, trust: np.ndarray,
    pull: np.ndarray, k: int, near: float, backward: float, sharp: float, keep: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    count = len(asked) - 1
    out = np.zeros(count + 1, np.int64)
    indices, data = np.empty(count * keep, np.int32), np.empty(count * keep, np.float32)
    total, touched = np.zeros(len(trust), np.float32), np.empty(len(trust), np.int32)
    sums, summed = np.zeros(len(pull), np.float32), np.empty(len(pull), np.int32)
    late = np.zeros(len(pull), np.int32)  # the later in the question, the higher; 0: not in it
    mine = np.zeros(len(pull), np.bool_)
    score, found = np.empty(k, np.float32), np.empty(k, np.int32)
    power = near ** np.arange(64)
    for q in range(count):
        first, stop = asked[q], asked[q + 1]
        n = _search(products[first:stop], values[first:stop], start, rows, weights, trust, total, touched, score, found)
        for i in range(first, stop):
            mine[products[i]] = True
            if len(step):
                late[products[i]] = steps[stop - 1] - steps[i] + 1
        strength, touches = 1.0, 0
        for a in range(n):
            r = found[a]
            new = False
            for j in range(indptr[r], indptr[r + 1]):
                new |= not mine[product[j]]
            if not new:
                continue
            s = score[a] ** sharp
            strength += s
            meeting, at = 0, 0
            if len(step):
                for j in range(indptr[r], indptr[r + 1]):
                    if late[product[j]] > meeting:
                        meeting, at = late[product[j]], step[j]
            for j in range(indptr[r], indptr[r + 1]):
                p = product[j]
                v = np.float32(s * vote[j] * pull[p])
                if len(step):
                    v *= np.float32(power[min(abs(step[j] - at), 63)] * (backward if step[j] > at else 1.0))
                if not v > 0:
                    continue
                if sums[p] == 0:
                    summed[touches] = p
                    touches += 1
                sums[p] += v
        size, place = 0, out[q]
        best, what = data[place : place + keep], indices[place : place + keep]
        for t in range(touches):
            p = summed[t]
            sums[p] /= np.float32(strength)
            size = offer(best, what, size, sums[p], p)
            sums[p] = 0
        for i in range(first, stop):
            late[products[i]] = 0
            mine[products[i]] = False
        out[q + 1] = place + size
    return out, indices[: out[-1]].copy(), data[: out[-1]].copy()


@compiled
def shared(
    pairs: np.ndarray, wanted: np.ndarray, nearest: np.ndarray, asked: np.ndarray, products: np.ndarray,
    indptr: np.ndarray, product: np.ndarray, catalogue: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Of pairs of question and product: how many of the nearest rows have it, and how many of the question's others.

    pairs: indptr of the wanted products by question; nearest: rows of the matrix (indptr, product), -1 where fewer;
    asked, products: the questions' products; catalogue: number of products.
    """
    takers, common = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
    slot, mine = np.zeros(catalogue, np.int32), np.zeros(catalogue, np.int32)  # 1 + the place in the question
    for q in range(len(pairs) - 1):
        want, own = wanted[pairs[q] : pairs[q + 1]], products[asked[q] : asked[q + 1]]
        for i in range(len(own)):
            mine[own[i]] = i + 1
        for i in range(len(want)):
            slot[want[i]] = i + 1
        seen = np.zeros((len(want), len(own)), np.bool_)
        for r in nearest[q]:
            if r < 0:
                break
            row = product[indptr[r] : indptr[r + 1]]
            for p in row:
                if slot[p]:
                    takers[pairs[q] + slot[p] - 1] += 1
                    for other in row:
                        if mine[other] and other != p:
                            seen[slot[p] - 1, mine[other] - 1] = True
        for i in range(len(want)):
            common[pairs[q] + i] = seen[i].sum()
            slot[want[i]] = 0
        for p in own:
            mine[p] = 0
    return takers, common
