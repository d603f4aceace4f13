"""Goes with what you have: products taken by the same customers, whatever the order of time.

TF-IDF (Deshpande and Karypis 2004) and BM25 (Robertson and Zaragoza 2009) by the implicit library, for histories
without a meaningful order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from implicit.nearest_neighbours import all_pairs_knn, bm25_weight, normalize, tfidf_weight

from controltower.models.recommend.interactions import Interactions, Weights
from controltower.models.recommend.item_to_item import ItemToItem


class ItemKnn(ItemToItem):
    """Cosine of products over customers, rare customers' choices weighing more; recent products count more."""

    name: ClassVar[str] = "item_knn"

    class Config(ItemToItem.Config):
        recency: float = 0.9
        shrinkage: float = 20.0

    config: Config

    def _fit(self, interactions: Interactions) -> None:
        c = self.config
        found = _neighbours(interactions, lambda taken: normalize(tfidf_weight(taken)), self._keep(interactions))
        # pairs seen once or twice stay below those seen often
        seen = np.asarray(interactions.matrix(Weights()).sum(axis=0)).ravel()
        trust = np.sqrt(seen / (seen + c.shrinkage)).astype(np.float32)
        self.similarity = (sp.diags(trust) @ found @ sp.diags(trust)).tocsr()


class Bm25(ItemToItem):
    """The same with saturation: the tenth customer of a pair adds less than the second."""

    name: ClassVar[str] = "bm25"

    class Config(ItemToItem.Config):
        recency: float = 0.9
        k1: float = 1.2
        b: float = 0.5

    config: Config

    def _fit(self, interactions: Interactions) -> None:
        c = self.config
        self.similarity = _neighbours(
            interactions, lambda taken: bm25_weight(taken, c.k1, c.b), self._keep(interactions)
        )


def _neighbours(
    interactions: Interactions, weigh: Callable[[sp.csc_matrix], sp.coo_matrix], keep: int
) -> sp.csr_matrix:
    """products x products: the `keep` nearest of each. weigh: of products x customers."""
    count = interactions.shape[1]
    if not len(interactions):
        return sp.csr_matrix((count, count), dtype=np.float32)
    weighted = weigh(interactions.matrix(Weights()).astype(np.float64).T).tocsr()
    weighted.data = np.nan_to_num(weighted.data, copy=False)  # 0 / 0 where everybody took the same
    # the library makes room for `keep` products of each: not of those that nobody took
    taken = np.flatnonzero(np.diff(weighted.indptr))
    found = all_pairs_knn(weighted[taken].T.tocsr(), keep + 1, show_progress=False, num_threads=1).tocsr()
    found = found.astype(np.float32)
    found.setdiag(0)
    found.eliminate_zeros()
    sizes = np.zeros(count + 1, np.int64)
    sizes[taken + 1] = np.diff(found.indptr)
    highest = found.data.max(initial=0)
    data = found.data / highest if highest > 0 else found.data
    return sp.csr_matrix((data, taken[found.indices].astype(np.int32), sizes.cumsum()), (count, count))
