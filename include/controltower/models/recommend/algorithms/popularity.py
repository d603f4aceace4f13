"""What the shop sells most at the moment: the baseline where customers look for something new, and for the unknown."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from controltower.models.recommend.base import Scorer
from controltower.models.recommend.interactions import Interactions
from controltower.models.recommend.scores import Scores


class Popularity(Scorer):
    """Everyone gets the products with the most recent orders (half-life of two weeks)."""

    name: ClassVar[str] = "popularity"

    def _fit(self, interactions: Interactions) -> None:
        """The popularity that every recommender fills up with is all there is to learn."""

    def leads(self) -> np.ndarray:
        return np.zeros(len(self.product_ids), dtype=bool)

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:  # noqa: ARG002 - the same for everyone
        return self.popular(len(rows))
