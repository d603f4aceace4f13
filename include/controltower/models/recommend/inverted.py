"""An inverted index: for each term the documents that have it, as arrays, and what a query scores with them."""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp

from controltower.models.base import State
from controltower.models.recommend.compiled import compiled
from controltower.models.recommend.kernels import best_first, offer

MOST_ENTRIES = 200_000  # of one query: its rarest terms first, what is left tells least
SLACK = 1e-5  # more than the rounding of scores


class Index:
    """documents x terms, kept by term."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        by_term = matrix.T.tocsr().astype(np.float32)
        by_term.sort_indices()
        self.documents = matrix.shape[0]
        self.start, self.document = by_term.indptr.astype(np.int64), by_term.indices.astype(np.int32)
        self.value = by_term.data

    def score(self, terms: np.ndarray, weights: np.ndarray, unknown: float | None = None) -> np.ndarray:
        """Sums of weight times value by document (float32).

        unknown: the weight of terms that nothing has; if given, the sums are shares of all weights.
        """
        length = self.start[terms + 1] - self.start[terms]
        order = np.argsort(length, kind="stable")
        read = int(np.searchsorted(length[order].cumsum(), MOST_ENTRIES, side="right"))
        order = order[: max(read, 1)]
        weights = weights[order].astype(np.float32)
        if unknown is not None:
            weights /= max(float(weights.sum()) + unknown, 1e-9)
        return added(terms[order], weights, self.start, self.document, self.value, self.documents)

    def state(self, name: str) -> State:
        return {
            f"{name}_start": self.start, f"{name}_document": self.document, f"{name}_value": self.value,
            f"{name}_documents": np.array(self.documents),
        }  # fmt: skip

    @classmethod
    def restored(cls, state: State, name: str) -> Self:
        made = cls.__new__(cls)
        made.start, made.document = state[f"{name}_start"], state[f"{name}_document"]
        made.value, made.documents = state[f"{name}_value"], int(state[f"{name}_documents"])
        return made


@compiled
def added(
    terms: np.ndarray, weights: np.ndarray, start: np.ndarray, document: np.ndarray, value: np.ndarray, documents: int
) -> np.ndarray:
    """Sums by document, of no term in particular: a list of those that have any would take longer than to look."""
    score = np.zeros(documents, np.float32)
    for j in range(len(terms)):
        w = weights[j]
        for i in range(start[terms[j]], start[terms[j] + 1]):
            score[document[i]] += w * value[i]
    return score


@compiled
def blended(
    text: np.ndarray,
    clicked: np.ndarray,
    chosen: np.ndarray,
    trust: float,
    popular: np.ndarray,
    most_popular: float,
    allowed: np.ndarray,
    least: float,
    near: float,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best allowed products by (1 - trust) text + trust clicked + popular, best first, and their scores.

    All by product, text and clicked 0..1; chosen: the products that were clicked; most_popular: the highest of popular.
    What nobody clicked takes part if the text is at least `least`, and `near` times that of the best match.
    """
    bound = np.float32(0)
    for p in range(len(text)):
        if text[p] > bound and allowed[p]:
            bound = text[p]
    bound = max(np.float32(least), np.float32(near) * bound)
    score, product = np.zeros(k, np.float32), np.full(k, -1, np.int32)
    size = 0
    for p in chosen:
        if allowed[p]:
            size = offer(score, product, size, (1 - trust) * text[p] + trust * clicked[p] + popular[p], p)
    for p in range(len(text)):
        if text[p] >= bound and clicked[p] == 0 and allowed[p]:
            s = (1 - trust) * text[p] + popular[p]
            if size < k or s >= score[0]:  # the call costs more than all before it
                size = offer(score, product, size, s, p)
            if size == k and trust < 1:  # from now on a text needs so much to be one of the best
                bound = max(bound, np.float32((score[0] - most_popular) / (1 - trust) - SLACK))
    best_first(score, product, size)
    return product[:size], score[:size]
