"""Recommendation lists of a placement, as rows of the derived table `recommendations`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from controltower.models.recommend import rules
from controltower.models.recommend.base import Ranking, Recommender, chunks, joined, taken
from controltower.models.recommend.choose import KINDS
from controltower.models.recommend.interactions import Interactions, catalogue_mask, holds, positions, read
from controltower.models.recommend.placements import OF_PRODUCTS, PLACEMENTS, check
from controltower.models.recommend.reasons import Reasons, explain
from controltower.models.recommend.reranking import codes, own_bars, rerank
from controltower.models.recommend.scores import Barred
from controltower.models.recommend.tasks import REPEAT
from controltower.models.registry import Card, Registry
from controltower.profiles.facts.tables import Tables
from controltower.shop import Shop

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
        ("rules", pa.string()),
        ("as_of", pa.timestamp("us", tz="UTC")),
        ("model_version", pa.string()),
    ]
)
DEEPER = 4  # candidates for each place, where rules may change the order
DEEPEST = 300  # where most candidates can't be answers
RULE = "rule"  # the algorithm of a product that is pinned


@dataclass(frozen=True)
class Lists:
    """The rows of a placement and the same as arrays, the model's card, and rules that fit no product."""

    rows: pa.Table
    card: Card
    product_ids: np.ndarray
    customers: np.ndarray
    ranking: Ranking
    reasons: Reasons
    unmatched: tuple[str, ...] = ()


def declared(shop: Shop) -> dict[str, rules.Rules]:
    """The shop's rules by placement. BadSettings with the place of a mistake."""
    return rules.parse(shop.recommendations, "shop.yaml, recommendations", (*PLACEMENTS, *OF_PRODUCTS))


def recommend(
    registry: Registry,
    tables: Tables,
    as_of: datetime,
    shop: Shop,
    placement: str,
    k: int,
    repeat: bool | None = None,
    customers: np.ndarray | None = None,
) -> Lists:
    """k rows a customer (fewer if the catalogue has fewer), best first.

    The newest model trained as of a date not later than as_of, on the history of as_of. Of all customers known, unless
    `customers` (ids) says whose. repeat None: as the placement, and where that leaves it open, the validation, says.
    """
    where = check(placement, repeat)
    if repeat is None:
        repeat = where.new is None
        if where.new and where.repeat:
            repeat = bool(registry.card(REPEAT, as_of).details["repeat_helps"])
    model, card = registry.load(where.model(repeat), as_of, KINDS)
    history = read(tables, as_of, shop, model.product_ids)
    asked = where.asks(history)
    customers = history.customer_ids if customers is None else np.asarray(customers, dtype=np.str_)
    catalogue = history.catalogue
    assert catalogue is not None  # `read` brings it
    ruled = declared(shop)[placement]
    prepared = rules.prepare(
        ruled,
        catalogue,
        as_of,
        shop.zone,
        sold=catalogue_mask(tables, as_of, model.product_ids, in_stock=False),
        in_stock=catalogue_mask(tables, as_of, model.product_ids),
    )
    bars = own_bars(ruled, catalogue, history, repeat=repeat)
    if asked is not history:
        bars += _seen(asked)
    if where.only_own:
        bars += _subscribed(tables, history)
    deeper = k if ruled == rules.Rules() else DEEPER * k
    made = [
        _chunk(model, asked, history.ordered if where.only_own else None, chunk, start, k, deeper, prepared, bars)
        for start, chunk in chunks(history.rows_of(customers))
    ]
    ranking = joined([ranking for ranking, _ in made])
    acted = np.concatenate([rule for _, rule in made]) if made else np.zeros(0, np.str_)
    reasons = explain(model, history, customers, ranking, asked)
    titles = np.where(catalogue.title == "", catalogue.product_ids, catalogue.title)
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
            pa.array(acted, pa.string()),
            pa.array([as_of] * count, SCHEMA.field("as_of").type),
            pa.array([card.version] * count, pa.string()),
        ],
        schema=SCHEMA,
    )
    return Lists(rows, card, model.product_ids, customers, ranking, reasons, prepared.unmatched)


def _chunk(
    model: Recommender,
    asked: Interactions,
    only: sp.csr_matrix | None,
    rows: np.ndarray,
    first: int,
    k: int,
    deeper: int,
    prepared: rules.Prepared,
    bars: sp.csr_matrix,
) -> tuple[Ranking, np.ndarray]:
    """The k best of rows of the history, and which rules brought each product to its place; `only` what this holds."""
    own = taken(bars, rows)
    found = model.rank(asked, rows, deeper if only is None else DEEPEST, Barred(prepared.allowed, own))
    if only is not None:
        found = found.where(holds(only, rows[found.customer], found.product))
    ruled = rerank(prepared, found.customer, found.product, found.score, k, len(rows), own=own)
    at, pinned = ruled.candidate, ruled.candidate < 0
    ranking = Ranking(
        first + ruled.row,
        ruled.rank,
        ruled.product,
        ruled.score,
        np.where(pinned, RULE, found.algorithm[at]),
        np.where(pinned, RULE, found.part[at]),
    )
    return ranking, codes(ruled.rules)


def _seen(asked: Interactions) -> sp.csr_matrix:
    """Bars of what is asked with."""
    bars = asked.ordered.astype(np.uint8)
    bars.data[:] = 1 << rules.EXCLUDED
    return bars


def _subscribed(tables: Tables, history: Interactions) -> sp.csr_matrix:
    """Bars of what customers get by subscription."""
    rows = tables("subscriptions")
    active = rows.filter(rows.status.fill_null("active").lower() == "active")
    ids = active.select("customer_id", "product_id").to_pyarrow()
    who, what = (np.array(ids[name].to_pylist(), dtype=np.str_) for name in ("customer_id", "product_id"))
    customer, product = history.rows_of(who), positions(history.product_ids, what)
    known = (customer >= 0) & (product >= 0)
    bars = sp.csr_matrix((np.ones(int(known.sum()), np.uint8), (customer[known], product[known])), history.shape)
    bars.data[:] = 1 << rules.EXCLUDED
    return bars
