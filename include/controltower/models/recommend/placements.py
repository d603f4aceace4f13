"""Where lists are shown, and which model answers there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controltower.errors import BadSettings
from controltower.models.recommend import tasks
from controltower.models.recommend.interactions import Interactions


def _history(history: Interactions) -> Interactions:
    return history


@dataclass(frozen=True)
class Placement:
    """models: whose answer is shown, without and with what the customer bought before (None: never shown so).

    asks: of the customers' history, what is asked with. only_own: nothing else than what the customer bought before.
    collections: its lists are of the shop's collections, not of products.
    """

    new: str | None
    repeat: str | None
    asks: Callable[[Interactions], Interactions] = _history
    only_own: bool = False
    collections: bool = False

    def model(self, repeat: bool) -> str:
        """The model's name. Ask for what it offers: see `check`."""
        return str(self.repeat if repeat else self.new)


FOR_YOU, OFFER = "for_you", "offer"
# Lists of customers. Where both may be, validation says which.
PLACEMENTS = {
    FOR_YOU: Placement(tasks.NEW, tasks.REPEAT),
    "new_for_you": Placement(tasks.NEW, None),
    "recently_viewed_related": Placement(tasks.VIEWED, None, tasks.last_views),
    "popular_near_you": Placement(tasks.NEAR, None),
    "replenish": Placement(None, tasks.AGAIN, only_own=True),
    OFFER: Placement(None, tasks.OFFER, collections=True),
}
# Lists that go with products.
OF_PRODUCTS = {
    "similar": tasks.SIMILAR,
    "bought_together": tasks.TOGETHER,
    "cart": tasks.CART,
    "upgrade": tasks.SIMILAR,
}


def check(placement: str, repeat: bool | None = None) -> Placement:
    """The placement of customers' lists. BadSettings where there is none, or it never shows what `repeat` asks for."""
    if placement not in PLACEMENTS:
        raise BadSettings(f"There is no placement {placement!r}.", f"Known are {', '.join(PLACEMENTS)}.")
    found = PLACEMENTS[placement]
    if repeat and found.repeat is None:
        raise BadSettings(
            f"The placement {placement} never shows what a customer bought.", "Leave out --repeat, or ask for for_you."
        )
    if repeat is False and found.new is None:
        raise BadSettings(
            f"The placement {placement} shows what a customer bought.", "Leave out --no-repeat, or ask for new_for_you."
        )
    return found
