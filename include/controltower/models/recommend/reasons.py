"""Why a product is recommended: a code, and the product it refers to. Content puts it into words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend.base import Ranking, Recommender
from controltower.models.recommend.blend import Blend
from controltower.models.recommend.interactions import Interactions
from controltower.models.recommend.neighbours import Neighbours


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
    code[ranking.part == "als"] = "similar_taste"
    neighbours = model.members.get(Neighbours.name) if isinstance(model, Blend) else model
    led = (ranking.part == Neighbours.name) & ~bought & ~seen
    if isinstance(neighbours, Neighbours) and led.any():
        about[led] = neighbours.sources(history, rows[led], ranking.product[led])
        owned = _in(history.ordered, rows[led], about[led])
        code[led] = np.where(owned, "because_you_bought", "because_you_viewed")
    code[bought], code[seen] = "buy_again", "viewed_before"
    about[bought | seen] = ranking.product[bought | seen]
    return Reasons(code, about)


def _in(matrix: sp.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    found = np.zeros(len(rows), dtype=bool)
    known = rows >= 0
    if known.any():
        found[known] = np.asarray(matrix[rows[known], columns[known]]).ravel() > 0
    return found
