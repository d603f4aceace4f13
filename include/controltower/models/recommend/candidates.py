"""What several algorithms propose together, and what each of them thinks of every proposal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend import kernels
from controltower.models.recommend.base import Scorer
from controltower.models.recommend.interactions import Interactions
from controltower.models.recommend.scores import Barred

PROPOSED = 60  # products of each algorithm, at least
GENERAL = ("popularity", "segment_popularity")  # they say something of each product
FUSION_K = 60.0  # Cormack, Clarke and Buettcher 2009: how little the very first ranks stand out


@dataclass(frozen=True)
class Candidates:
    """Pairs of a row and a proposed product, sorted by row, product; every algorithm's best ones are among them.

    score, place: algorithms x pairs: the algorithm's score, and the product's place (0 = best) by it among the row's
    candidates, NaN where it says nothing.
    """

    rows: int
    row: np.ndarray
    product: np.ndarray
    names: list[str]
    score: np.ndarray
    place: np.ndarray

    def by(self, name: str, popularity: np.ndarray) -> np.ndarray:
        """The pairs' scores by one algorithm; below what it says nothing of stands by popularity."""
        score = self.score[self.names.index(name)]
        return np.where(score > 0, score.astype(float), popularity[self.product] - 2.0)

    def fused(self) -> np.ndarray:
        """Reciprocal-rank fusion of all."""
        return np.asarray(np.nansum(1.0 / (FUSION_K + 1.0 + self.place), axis=0))

    def spoke(self) -> np.ndarray:
        """Of each pair, the algorithm that places it best, "popularity" where no other says anything."""
        place = np.where(np.isnan(self.place), np.inf, self.place)
        place[[i for i, name in enumerate(self.names) if name in GENERAL]] = np.inf
        best = place.argmin(axis=0)
        names = np.array([*self.names, "popularity"])
        return names[np.where(np.isfinite(place[best, np.arange(len(best))]), best, len(self.names))]

    def top(self, score: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of the k highest scores of each row, in order, and their ranks from 0."""
        order = np.lexsort((self.product, -score, self.row))
        row = self.row[order]
        rank = np.arange(len(order)) - np.searchsorted(row, row)
        keep = rank < k
        return order[keep], rank[keep]


def propose(
    members: Mapping[str, Scorer], history: Interactions, rows: np.ndarray, barred: Barred, n: int = PROPOSED
) -> Candidates:
    """The n best products of each member for each row, as one set. Popularity's are always among them."""
    scores = {name: member.score(history, rows) for name, member in members.items()}
    popular = next(iter(members.values())).popular(len(rows))
    proposed = np.hstack([s.best(n, barred)[0] for s in (*scores.values(), popular)])
    row, column = np.nonzero(proposed >= 0)
    ids = sp.coo_matrix((np.ones(len(row), bool), (row, proposed[row, column])), (len(rows), len(barred.allowed)))
    pairs = ids.tocsr()  # sums what several propose
    pairs.sort_indices()
    row, product = np.repeat(np.arange(len(rows)), np.diff(pairs.indptr)), pairs.indices.astype(np.int64)
    score = np.stack([s.at(row, product) for s in scores.values()]).astype(np.float32)
    place = np.stack([kernels.places(pairs.indptr, s) for s in score])
    return Candidates(len(rows), row, product, list(scores), score, place)
