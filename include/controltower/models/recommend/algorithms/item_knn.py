"""Goes with what you have: products taken by the same customers, whatever the order of time.

TF-IDF (Deshpande and Karypis 2004) and BM25 (Robertson and Zaragoza 2009) by the implicit library, for histories
without a meaningful order.
"""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from implicit.nearest_neighbours import BM25Recommender, TFIDFRecommender
from implicit.utils import ParameterWarning

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
        found = _neighbours(TFIDFRecommender(K=c.keep + 1, num_threads=1), interactions)
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
        self.similarity = _neighbours(BM25Recommender(K=c.keep + 1, K1=c.k1, B=c.b, num_threads=1), interactions)


def _neighbours(model: TFIDFRecommender, interactions: Interactions) -> sp.csr_matrix:
    matrix = interactions.matrix(Weights()).astype(np.float64)
    count = matrix.shape[1]
    if not matrix.nnz:
        return sp.csr_matrix((count, count), dtype=np.float32)
    with warnings.catch_warnings():  # it warns of its own weighted matrix
        warnings.simplefilter("ignore", ParameterWarning)
        model.fit(matrix, show_progress=False)
    found = model.similarity.tocsr().astype(np.float32)
    found.setdiag(0)
    found.eliminate_zeros()
    top = found.max()
    return found / top if top > 0 else found
