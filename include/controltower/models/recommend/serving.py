"""Recommendation lists of a placement, as rows of the derived table `recommendations`."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa

from controltower.errors import BadSettings
from controltower.models.recommend.base import Recommender
from controltower.models.recommend.choose import KINDS, NEW, REPEAT
from controltower.models.recommend.interactions import catalogue_mask, read
from controltower.models.recommend.reasons import explain
from controltower.models.registry import Card, Registry
from controltower.profiles.facts.tables import Tables
from controltower.shop import Shop

PLACEMENTS: dict[str, bool | None] = {"for_you": None, "new_for_you": False}  # repeats? None: as validation chose

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("placement", pa.string()),
        ("rank", pa.int64()),
        ("product_id", pa.string()),
        ("score", pa.float64()),
        ("algorithm", pa.string()),
        ("reason_code", pa.string()),
        ("reason_value", pa.string()),
        ("as_of", pa.timestamp("us", tz="UTC")),
        ("model_version", pa.string()),
    ]
)


def check_placement(placement: str, repeat: bool | None = None) -> None:
    """BadSettings where there is no such placement, or it never shows what `repeat` asks for."""
    if placement not in PLACEMENTS:
        raise BadSettings(f"There is no placement {placement!r}.", f"Known are {', '.join(PLACEMENTS)}.")
    if repeat and PLACEMENTS[placement] is False:
        raise BadSettings(
            f"The placement {placement} never shows what a customer bought.", "Leave out --repeat, or ask for for_you."
        )


def recommend(
    registry: Registry,
    tables: Tables,
    as_of: datetime,
    shop: Shop,
    placement: str,
    k: int,
    repeat: bool | None = None,
    customers: np.ndarray | None = None,
) -> tuple[pa.Table, Card]:
    """k rows a customer (fewer if the catalogue has fewer), best first, and the card of the model that made them.

    The newest model trained as of a date not later than as_of, on the history of as_of. Of all customers known, unless
    `customers` (ids) says whose. repeat None: as the placement, and where that leaves it open, the validation, says.
    """
    check_placement(placement, repeat)
    repeat = PLACEMENTS[placement] if repeat is None else repeat
    if repeat is None:
        repeat = bool(registry.card(REPEAT, as_of).details["repeat_helps"])
    model, card = registry.load(REPEAT if repeat else NEW, as_of, KINDS)
    history = read(tables, as_of, shop, model.product_ids)
    customers = history.customer_ids if customers is None else np.asarray(customers, dtype=np.str_)
    allowed = catalogue_mask(tables, as_of, model.product_ids)
    ranking = model.recommend(history, customers, k, repeat=repeat, allowed=allowed)
    reasons = explain(model, history, customers, ranking)
    titles = _titles(tables, model)
    value = np.where(reasons.product >= 0, titles[reasons.product], None) if len(titles) else np.full(0, None)
    count = len(ranking.rank)
    rows = pa.table(
        [
            pa.array(customers[ranking.customer], pa.string()),
            pa.array(np.full(count, placement), pa.string()),
            pa.array(ranking.rank, pa.int64()),
            pa.array(model.product_ids[ranking.product], pa.string()),
            pa.array(ranking.score, pa.float64()),
            pa.array(ranking.algorithm, pa.string()),
            pa.array(reasons.code, pa.string()),
            pa.array(value, pa.string()),
            pa.array([as_of] * count, SCHEMA.field("as_of").type),
            pa.array([card.version] * count, pa.string()),
        ],
        schema=SCHEMA,
    )
    return rows, card


def _titles(tables: Tables, model: Recommender) -> np.ndarray:
    """The products' titles by position, the id where there is none."""
    named = tables("products").select("product_id", "title").to_pyarrow().to_pydict()
    by_id = dict(zip(named["product_id"], named["title"], strict=True))
    return np.array([by_id.get(p) or p for p in model.product_ids.tolist()], dtype=object)
