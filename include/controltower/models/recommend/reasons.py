"""Why a product is recommended: a code, and the product it refers to. Content puts it into words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controltower.models.recommend.base import Ranking, Recommender
from controltower.models.recommend.blend import Blend
from controltower.models.recommend.interactions import Interactions, holds
from controltower.models.recommend.item_to_item import ItemToItem

POPULAR = "popular"  # the code where nothing of the customer's own spoke
TASTE = ("als", "bpr", "user_knn", "tifu_knn", "session_knn", "sasrec")  # they go by customers who are alike


@dataclass(frozen=True)
class Reasons:
    """Aligned with a ranking: the code, and the position of the product it refers to (-1: none)."""

    code: np.ndarray
    product: np.ndarray


def explain(
    model: Recommender,
    history: Interactions,
    rows: np.ndarray,
    ranking: Ranking,
    asked: Interactions | None = None,
) -> Reasons:
    """The reason of each recommendation: the customer's own history with it, else what spoke most for it.

    rows: of the history, -1 for the unknown; a ranking's `customer` is a position in them
    asked: what the model was asked with, if not the history itself; of the same customers
    """
    rows = rows[ranking.customer]
    bought = holds(history.ordered, rows, ranking.product)
    seen = holds(history.looked_at, rows, ranking.product) & ~bought
    code = np.full(len(rows), POPULAR, dtype="<U18")
    about = np.full(len(rows), -1)
    members = model.members if isinstance(model, Blend) else {model.name: model}
    for name, member in members.items():
        spoke = (ranking.part == name) & ~bought & ~seen
        if isinstance(member, ItemToItem) and spoke.any():
            spoke &= rows >= 0
            of = member.sources(asked or history, rows[spoke], ranking.product[spoke])
            owned = np.where(holds(history.ordered, rows[spoke], of), "because_you_bought", "because_you_viewed")
            about[spoke], code[spoke] = of, np.where(of >= 0, owned, POPULAR)
        elif name in TASTE:
            code[spoke] = "similar_taste"
    code[bought], code[seen] = "buy_again", "viewed_before"
    about[bought | seen] = ranking.product[bought | seen]
    return Reasons(code, about)
