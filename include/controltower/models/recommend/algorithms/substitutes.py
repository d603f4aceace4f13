"""Instead of this: what customers look at along with a product, but don't buy along with it.

Substitutes and complements are told apart by what is viewed and what is bought together (McAuley, Pandey and Leskovec
2015): a significant complement, in either direction, is never a substitute. Where a product has few views, what its
title, category, brand and price say counts more.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend.algorithms.complements import Complements, Related
from controltower.models.recommend.algorithms.content import Content, alike
from controltower.models.recommend.algorithms.next_item import TIMELESS
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.interactions import VIEW, Interactions
from controltower.models.recommend.pairs import similarity


class Substitutes(Related):
    """Viewed on the same day of activity, or on the one before or after, which counts half."""

    name: ClassVar[str] = "substitutes"

    class Config(Related.Config):
        keep: int = 50  # products kept per product, of those viewed and of those alike each
        shrinkage: float = 10.0  # views a product needs to be trusted half: in pairs, and against its content
        window: int = 20  # pairs of views at most this far apart in the customer's sequence
        elsewhere: float = 0.5  # what a view counts if the categories are known and differ
        chance: float = 1.0  # of Complements: the lower, the fewer pairs are taken for complements

    config: Config

    def _fit(self, interactions: Interactions) -> None:
        c, catalogue = self.config, interactions.catalogue
        views = interactions.where(interactions.kind == VIEW)
        viewed = similarity(
            views, TIMELESS, decay=0.0, backward=1.0, together=2.0, window=c.window, shrinkage=c.shrinkage,
            keep=self._keep(views), seed=c.seed,
        )  # fmt: skip
        if catalogue is not None:
            viewed.data *= _same_shelf(catalogue, viewed, c.elsewhere)
        most = np.zeros(len(self.product_ids), np.float32)
        np.maximum.at(most, np.repeat(np.arange(len(most)), np.diff(viewed.indptr)), viewed.data)
        viewed = sp.diags(1 / np.maximum(most, 1e-9)) @ viewed
        count = np.bincount(views.product, minlength=len(self.product_ids))
        trust = count / (count + c.shrinkage)
        like = sp.csr_matrix(viewed.shape, dtype=np.float32)
        if catalogue is not None and len(self.product_ids) <= (Content.most_products or 0):
            like = alike(catalogue, Content.Config(keep=c.keep))
        found = sp.diags(trust) @ viewed + sp.diags(1 - trust) @ like
        bought = Complements(Complements.Config(chance=c.chance, seed=c.seed)).fit(interactions).similarity
        apart = bought + bought.T
        apart.data[:] = 1
        self.similarity = (found - found.multiply(apart)).tocsr().astype(np.float32)
        self.similarity.eliminate_zeros()


def _same_shelf(catalogue: Catalogue, pairs: sp.csr_matrix, elsewhere: float) -> np.ndarray:
    """Of each stored pair: `elsewhere` if both categories are known and differ, else 1."""
    numbers = {"": 0}
    named = (numbers.setdefault(c.strip().casefold(), len(numbers)) for c in catalogue.category)
    category = np.fromiter(named, np.int32, len(catalogue))
    known = category > 0
    one, other = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr)), pairs.indices
    differ = known[one] & known[other] & (category[one] != category[other])
    return np.where(differ, elsewhere, 1.0).astype(np.float32)
