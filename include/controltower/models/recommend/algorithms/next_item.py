"""Because you bought: products that other customers took next, or together with, what this one took lately.

Item-to-item similarity over ordered pairs (Linden, Smith and York 2003; Deshpande and Karypis 2004), for what comes
next: the strongest single model where customers buy little. Shrinkage keeps pairs seen once or twice below those seen
often.
"""

from __future__ import annotations

from typing import ClassVar

from controltower.models.recommend.interactions import Interactions
from controltower.models.recommend.item_to_item import TIMELESS, ItemToItem
from controltower.models.recommend.pairs import similarity


class NextItem(ItemToItem):
    """Directional co-occurrence: what comes later counts fully, nearer days of activity more."""

    name: ClassVar[str] = "next_item"

    class Config(ItemToItem.Config):
        decay: float = 0.85  # per day of activity between the two
        backward: float = 0.5
        shrinkage: float = 20.0
        power: float = 0.45  # how much of the popularity is taken out of what is recommended; the rest of its source
        window: int = 40  # pairs of entries at most this far apart in the customer's sequence

    config: Config

    def _fit(self, interactions: Interactions) -> None:
        c = self.config
        self.similarity = similarity(
            interactions, TIMELESS, decay=c.decay, backward=c.backward, window=c.window, shrinkage=c.shrinkage,
            power=c.power, keep=self._keep(interactions), seed=c.seed,
        )  # fmt: skip
