"""What an algorithm thinks of the products, for a chunk of rows: its best ones, and its score of any pair."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend import kernels
from controltower.models.recommend.topk import exact_top

PAIRS = 100_000  # scored at a time


@dataclass(frozen=True)
class Barred:
    """What a chunk of rows may not be recommended."""

    allowed: np.ndarray  # mask of the products
    own: sp.csr_matrix  # rows x products: an entry bars the product for the row


class Scores(ABC):
    """Scores of a chunk of rows; 0 (or less) says nothing of a product."""

    @abstractmethod
    def best(self, n: int, barred: Barred) -> tuple[np.ndarray, np.ndarray]:
        """Each row's n best products that aren't barred, rows x n: products (int32, -1 where fewer) and scores."""

    @abstractmethod
    def at(self, row: np.ndarray, product: np.ndarray) -> np.ndarray:
        """The scores of pairs, sorted by row."""


class Sparse(Scores):
    """Few products of many have a score."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        self.matrix = matrix.tocsr().astype(np.float32)
        self.matrix.eliminate_zeros()

    def best(self, n: int, barred: Barred) -> tuple[np.ndarray, np.ndarray]:
        m, own = self.matrix, barred.own
        return kernels.best(m.indptr, m.indices, m.data, own.indptr, own.indices, barred.allowed, n)

    def at(self, row: np.ndarray, product: np.ndarray) -> np.ndarray:
        m = self.matrix
        return kernels.at(m.indptr, m.indices, m.data, m.shape[1], row, product)


class Factors(Scores):
    """Products of a row's and a product's vector."""

    def __init__(self, rows: np.ndarray, products: np.ndarray) -> None:
        self.rows, self.products = np.ascontiguousarray(rows, np.float32), np.ascontiguousarray(products, np.float32)

    def best(self, n: int, barred: Barred) -> tuple[np.ndarray, np.ndarray]:
        return exact_top(self.rows, self.products, n, barred.allowed, barred.own)

    def at(self, row: np.ndarray, product: np.ndarray) -> np.ndarray:
        found = np.empty(len(row), np.float32)
        for first in range(0, len(row), PAIRS):
            some = slice(first, first + PAIRS)
            found[some] = np.einsum("ij,ij->i", self.rows[row[some]], self.products[product[some]])
        return found


class Same(Scores):
    """The same for each row. order: the products with a score above 0, the highest first, where that is known."""

    def __init__(self, score: np.ndarray, rows: int, order: np.ndarray | None = None) -> None:
        self.score, self.rows = score.astype(np.float32, copy=False), rows
        if order is None:
            order = np.argsort(-self.score, kind="stable")[: np.count_nonzero(self.score > 0)]
        self.order = order

    def best(self, n: int, barred: Barred) -> tuple[np.ndarray, np.ndarray]:
        wanted = n + int(np.diff(barred.own.indptr).max(initial=0))
        shown, looked_at = self.order[:0], wanted
        while len(shown) < wanted and (looked_at == wanted or looked_at < 4 * len(self.order)):
            shown = self.order[:looked_at]
            shown, looked_at = shown[barred.allowed[shown]], 4 * looked_at
        shown = shown[:wanted]
        width = len(shown)
        indptr = np.arange(self.rows + 1) * width
        same = np.tile(shown, self.rows), np.tile(self.score[shown], self.rows)
        return kernels.best(indptr, *same, barred.own.indptr, barred.own.indices, barred.allowed, n)

    def at(self, row: np.ndarray, product: np.ndarray) -> np.ndarray:  # noqa: ARG002 - the same for each row
        return self.score[product]
