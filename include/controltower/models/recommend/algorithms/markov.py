"""What comes right after: a first-order Markov chain over the customers' sequences (Rendle and others 2010).

For clickstreams and short histories, where the last thing a customer did says more than all before.
"""

from __future__ import annotations

from typing import ClassVar

from controltower.models.recommend.interactions import Interactions
from controltower.models.recommend.item_to_item import TIMELESS, ItemToItem
from controltower.models.recommend.pairs import similarity


class Markov(ItemToItem):
    """Transitions to the very next entry; the last product decides, the one before it counts a quarter."""

    name: ClassVar[str] = "markov"

    class Config(ItemToItem.Config):
        recency: float = 0.25
        shrinkage: float = 5.0

    config: Config

    def _fit(self, interactions: Interactions) -> None:
        c = self.config
        self.similarity = similarity(
            interactions, TIMELESS, decay=0.5, backward=0.0, window=1, shrinkage=c.shrinkage, power=0.3,
            keep=self._keep(interactions), seed=c.seed,
        )  # fmt: skip
