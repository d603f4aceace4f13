"""Linear item-to-item regression in closed form (EASE, Steck 2019), for small catalogues with dense histories.

It inverts a products x products matrix: above `most_products` it bows out.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from controltower.models.recommend.interactions import Interactions, Weights
from controltower.models.recommend.item_to_item import ItemToItem

MOST = 6_000  # products: an inverse of a quarter of a gigabyte, some ten CPU-seconds


class Ease(ItemToItem):
    """Weights that rebuild a customer's products from the others of the same customer; positive ones only."""

    name: ClassVar[str] = "ease"
    most_products: ClassVar[int | None] = MOST

    class Config(ItemToItem.Config):
        recency: float = 0.9
        regularization: float = 200.0

    config: Config

    def _fit(self, interactions: Interactions) -> None:
        count = interactions.shape[1]
        self.similarity = sp.csr_matrix((count, count), dtype=np.float32)
        taken = np.flatnonzero(np.bincount(interactions.product, minlength=count))
        if not len(taken) or count > MOST:
            return
        matrix = interactions.matrix(Weights()).astype(np.float32)[:, taken]
        gram = (matrix.T @ matrix).toarray()
        gram[np.diag_indices(len(taken))] += self.config.regularization
        with threadpool_limits(limits=1, user_api="blas"):
            inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False, assume_a="pos")
        weights = inverse / -np.diag(inverse)[None, :]
        np.fill_diagonal(weights, 0)
        # the weakest say nothing: a row keeps as many as the other algorithms do
        keep = min(self.config.keep, len(taken))
        limit = np.partition(weights, len(taken) - keep, axis=1)[:, len(taken) - keep, None]
        weights[(weights < limit) | (weights <= 0)] = 0
        found = sp.coo_matrix(weights)
        self.similarity = sp.csr_matrix((found.data, (taken[found.row], taken[found.col])), (count, count))
