"""Why a product is recommended: a code, and the product it refers to. Content puts it into words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend.algorithms.next_item import ItemToItem
from controltower.models.recommend.base import Ranking, Recommender
from controltower.models.recommend.blend import Blend
from controltower.models.recommend.interactions import Interactions

TASTE = ("als", "bpr", "user_knn", "tifu_knn", "session_knn")  # they go by customers who are alike


@dataclass(frozen=True)
class Reasons:
    """Aligned with a ranking: the code, and the position of the product it refers to (-1: none)."""

    code: np.ndarray
    product: np.ndarray


def explain(model: Recommender, history: Interactions, customers: np.ndarray, ranking: Ranking) -> Reasons:
    """The reason of each recommendation: the customer's own history with it, else what spoke most for it."""
    rows = history.rows_of(customers)[ranking.customer]
    bought = _in(history.ordered, rows, ranking.product)
    seen = _in(history.looked_at, rows, ranking.product) & ~bought
    code = np.full(len(rows), "popular", dtype="<U18")
    about = np.full(len(rows), -1)
    members = model.members if isinstance(model, Blend) else {model.name: model}
    for name, member in members.items():
        spoke = (ranking.part == name) & ~bought & ~seen
        if isinstance(member, ItemToItem) and spoke.any():
            about[spoke] = member.sources(history, rows[spoke], ranking.product[spoke])
            owned = _in(history.ordered, rows[spoke], about[spoke])
            code[spoke] = np.where(owned, "because_you_bought", "because_you_viewed")
        elif name in TASTE:
            code[spoke] = "similar_taste"
    code[bought], code[seen] = "buy_again", "viewed_before"
    about[bought | seen] = ranking.product[bought | seen]
    return Reasons(code, about)


def _in(matrix: sp.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    found = np.zeros(len(rows), dtype=bool)
    known = rows >= 0
    if known.any():
        found[known] = np.asarray(matrix[rows[known], columns[known]]).ravel() > 0
    return found
