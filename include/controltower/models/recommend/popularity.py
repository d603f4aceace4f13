"""What the shop sells most at the moment: the baseline where customers look for something new."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from controltower.models.recommend.base import Parts, Recommender
from controltower.models.recommend.interactions import Interactions


class Popularity(Recommender):
    """Everyone gets the products with the most recent orders (half-life of two weeks)."""

    name: ClassVar[str] = "popularity"

    def _fit(self, interactions: Interactions) -> None:
        """The popularity that every recommender fills up with is all there is to learn."""

    def _score(self, history: Interactions, rows: np.ndarray) -> Parts:  # noqa: ARG002 - the same for everyone
        return {self.name: np.broadcast_to(self.popularity.astype(np.float32), (len(rows), len(self.product_ids)))}
