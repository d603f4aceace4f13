"""Popular near you: what sells at the customer's site, and to people of the same gender and age there.

For who is new, and for shops whose sites differ. Shares of a segment are shrunk to the site's, and these to everyone's
(empirical Bayes), so that a segment of few orders says little more than what is popular.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from controltower.models.base import ModelConfig, State
from controltower.models.recommend.base import Scorer
from controltower.models.recommend.interactions import ORDER, Interactions, Weights, positions
from controltower.models.recommend.scores import Scores, Sparse


class SegmentPopularity(Scorer):
    """Shares of the orders of late (half-life of two weeks) in the customer's closest segment that is known."""

    name: ClassVar[str] = "segment_popularity"

    class Config(ModelConfig):
        half_life: float = 14.0
        trust: float = 50.0  # orders of the wider segment that weigh as much as the segment's own
        keep: int = 300  # products kept of each segment
        most: int = 2000  # segments, the largest

    config: Config
    keys: np.ndarray  # sorted; the first, "", is everyone
    shares: sp.csr_matrix  # keys x products, 0..1 of the row's highest

    def _fit(self, interactions: Interactions) -> None:
        c, count = self.config, interactions.shape[1]
        orders = interactions.where(interactions.kind == ORDER)
        sold, product = np.unique(orders.product, return_inverse=True)  # of the others there is nothing to hold
        weight = orders.weight(Weights(order_half_life=c.half_life))
        total = np.bincount(product, weights=weight, minlength=len(sold))
        everyone = total / max(total.sum(), 1e-12)
        kept = {"": _strongest(everyone, sold, count, c.keep)}
        closer = _largest(orders, 1, weight, c.most)
        for site, (mine, size) in _largest(orders, 0, weight, c.most).items():
            prior = _shrunk(product[mine], weight[mine], size, everyone, c.trust)
            kept[site] = _strongest(prior, sold, count, c.keep)
            for key in [key for key in closer if key.partition("|")[0] == site]:
                mine, size = closer.pop(key)
                shares = _shrunk(product[mine], weight[mine], size, prior, c.trust)
                kept[key] = _strongest(shares, sold, count, c.keep)
        for key, (mine, size) in closer.items():  # of no site, or none of the largest
            shares = _shrunk(product[mine], weight[mine], size, everyone, c.trust)
            kept[key] = _strongest(shares, sold, count, c.keep)
        self.keys = np.array(sorted(kept), dtype=np.str_)
        self.shares = sp.vstack([kept[key] for key in self.keys.tolist()]).tocsr()

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        closest = np.zeros(len(rows), dtype=int)
        for level in range(2):
            keys = _keys(history, level)[np.maximum(rows, 0)] if history.shape[0] else np.full(len(rows), "")
            at = np.where(rows >= 0, positions(self.keys, keys), -1)
            closest = np.where(at > 0, at, closest)
        return Sparse(self.shares[closest])

    def _learned(self) -> State:
        s = self.shares
        return {"keys": self.keys, "data": s.data, "indices": s.indices, "indptr": s.indptr}

    def _relearn(self, state: State) -> None:
        self.keys = state["keys"]
        shape = len(self.keys), len(self.product_ids)
        self.shares = sp.csr_matrix((state["data"], state["indices"], state["indptr"]), shape)


def _keys(interactions: Interactions, level: int) -> np.ndarray:
    segments = interactions.segments
    return np.full(interactions.shape[0], "") if segments is None else segments[:, level]


def _largest(orders: Interactions, level: int, weight: np.ndarray, most: int) -> dict[str, tuple[np.ndarray, float]]:
    """The segments with the most orders of late: which entries are theirs, and the sum of their weights."""
    known, of = np.unique(_keys(orders, level)[orders.customer], return_inverse=True)
    sizes = np.bincount(of, weights=weight, minlength=len(known))
    by_segment = np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of, minlength=len(known)))[:-1])
    largest = np.argsort(-sizes, kind="stable")[:most]
    return {str(known[i]): (by_segment[i], float(sizes[i])) for i in largest.tolist() if known[i] != ""}


def _shrunk(product: np.ndarray, weight: np.ndarray, size: float, prior: np.ndarray, trust: float) -> np.ndarray:
    own = np.bincount(product, weights=weight, minlength=len(prior))
    return (own + trust * prior) / (size + trust)


def _strongest(shares: np.ndarray, sold: np.ndarray, products: int, keep: int) -> sp.csr_matrix:
    """A row of all products; shares: of the sold ones."""
    at = np.sort(np.argsort(-shares, kind="stable")[:keep])
    at = at[shares[at] > 0]
    return sp.csr_matrix(
        (shares[at] / max(shares.max(initial=0), 1e-12), (np.zeros(len(at), int), sold[at])), (1, products)
    )
