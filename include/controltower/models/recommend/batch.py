"""Lists of a placement for everybody who is known, made at once: for the lake, and for what serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from controltower.models.recommend import rules
from controltower.models.recommend.base import Ranking, Recommender, chunks, taken
from controltower.models.recommend.choose import KINDS
from controltower.models.recommend.history import Allowed
from controltower.models.recommend.interactions import Interactions, holds
from controltower.models.recommend.offers import Offers
from controltower.models.recommend.placements import OF_PRODUCTS, PLACEMENTS, Placement, check
from controltower.models.recommend.reasons import explain
from controltower.models.recommend.reranking import ACTED, codes, own_bars, rerank
from controltower.models.recommend.scores import Barred
from controltower.models.recommend.tasks import REPEAT
from controltower.models.recommend.today import Known, Today
from controltower.models.registry import Card, Registry
from controltower.shop import Shop

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("visitor_id", pa.string()),
        ("placement", pa.string()),
        ("rank", pa.int64()),
        ("product_id", pa.string()),
        ("collection_id", pa.string()),
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
PIECE = 50_000  # people whose rows are made at a time
_TYPES = {
    "product": np.int32, "score": np.float32, "algorithm": np.uint8, "code": np.uint8, "about": np.int32,
    "rules": np.uint8,
}  # fmt: skip


@dataclass(frozen=True)
class Lists:
    """A placement's lists, best first; arrays are people x k, of customers, then visitors, sorted by id.

    Of an offer the products are collections.
    product: positions in the catalogue's product_ids, -1 behind the last; about: the product that the reason names, -1
    where none; algorithm, code: positions in `algorithms` and `codes` (reason codes); rules: bits of `reranking.ACTED`
    unmatched: declared rules that fit no product
    """

    placement: str
    as_of: datetime
    card: Card
    known: Known
    customers: np.ndarray
    visitors: np.ndarray
    product: np.ndarray
    score: np.ndarray
    algorithm: np.ndarray
    code: np.ndarray
    about: np.ndarray
    rules: np.ndarray
    algorithms: list[str]
    codes: list[str]
    unmatched: tuple[str, ...]

    @property
    def named(self) -> str:
        """The column of what is recommended."""
        return "collection_id" if PLACEMENTS[self.placement].collections else "product_id"

    def __len__(self) -> int:
        return int((self.product >= 0).sum())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows of the derived table `recommendations`, by customer and rank."""
        catalogue = self.known.catalogue
        titles = np.where(catalogue.title == "", catalogue.product_ids, catalogue.title)
        names = {
            "product_id": pa.array(catalogue.product_ids, pa.string()),
            "reason_value": pa.array([*titles.tolist(), None], pa.string()),
            "algorithm": pa.array(self.algorithms, pa.string()),
            "reason_code": pa.array(self.codes, pa.string()),
            "rules": pa.array(codes(np.arange(1 << len(ACTED))), pa.string()),
        }
        people = pa.array([*self.customers.tolist(), None, *self.visitors.tolist()], pa.string())
        count = len(self.customers)
        for start in range(0, len(self.product), PIECE):
            row, place = np.nonzero(self.product[start : start + PIECE] >= 0)
            at = start + row, place
            customer, visitor = np.where(at[0] < count, at[0], count), np.where(at[0] < count, count, at[0] + 1)
            about = np.where(self.about[at] >= 0, self.about[at], len(titles))
            column = {
                "customer_id": people.take(pa.array(customer)),
                "visitor_id": people.take(pa.array(visitor)),
                "placement": pa.repeat(self.placement, len(row)),
                "rank": pa.array(place + 1, pa.int64()),
                "product_id": pa.nulls(len(row), pa.string()),
                "collection_id": pa.nulls(len(row), pa.string()),
                self.named: names["product_id"].take(pa.array(self.product[at])),
                "score": pa.array(self.score[at].astype(float)),
                "algorithm": names["algorithm"].take(pa.array(self.algorithm[at])),
                "reason_code": names["reason_code"].take(pa.array(self.code[at])),
                "reason_value": names["reason_value"].take(pa.array(about)),
                "rules": names["rules"].take(pa.array(self.rules[at])),
                "as_of": pa.repeat(pa.scalar(self.as_of, SCHEMA.field("as_of").type), len(row)),
                "model_version": pa.repeat(self.card.version, len(row)),
            }
            yield pa.record_batch([column[name] for name in SCHEMA.names], SCHEMA)

    def rows(self) -> pa.Table:
        return pa.Table.from_batches(self.batches(), SCHEMA)


def declared(shop: Shop) -> dict[str, rules.Rules]:
    """The shop's rules by placement. BadSettings with the place of a mistake."""
    return rules.parse(shop.recommendations, "shop.yaml, recommendations", (*PLACEMENTS, *OF_PRODUCTS))


def recommend(registry: Registry, today: Today, placement: str, k: int, repeat: bool | None = None) -> Lists:
    """The k best products of everybody (fewer if fewer may be shown), by the newest model not trained later than today.

    repeat None: as the placement, and where that leaves it open, the validation, says.
    """
    where = check(placement, repeat)
    if repeat is None:
        repeat = where.new is None
        if where.new and where.repeat:
            repeat = bool(registry.card(REPEAT, today.as_of).details["repeat_helps"])
    model, card = registry.load(where.model(repeat), today.as_of, KINDS)
    known: Known = Offers.of(today) if where.collections else today.of(model.product_ids)
    if where.collections:
        model = model.refit(known.customers)
    maker = _Maker(known, model, where, declared(today.shop)[placement], repeat, k)
    of_customers = maker.made(known.customers, known.subscribed)
    of_visitors = maker.nothing(known.visitors) if where.only_own else maker.made(known.visitors)
    arrays = {name: np.concatenate([of_customers[name], of_visitors[name]]) for name in _TYPES}
    return Lists(
        placement=placement, as_of=today.as_of, card=card, known=known, customers=known.customers.customer_ids,
        visitors=known.visitors.customer_ids, algorithms=list(maker.names["algorithm"]),
        codes=list(maker.names["code"]), unmatched=maker.unmatched, **arrays,
    )  # fmt: skip


class _Maker:
    """Makes a placement's lists by chunks of people, so that no more than one chunk's candidates are in memory."""

    def __init__(
        self, known: Known, model: Recommender, where: Placement, ruled: rules.Rules, repeat: bool, k: int
    ) -> None:
        self.known, self.model, self.where, self.ruled, self.repeat, self.k = known, model, where, ruled, repeat, k
        self.deeper = DEEPEST if where.only_own else k if ruled == rules.Rules() else DEEPER * k
        self.names: dict[str, dict[str, int]] = {"algorithm": {}, "code": {}}
        self.prepared: dict[str, rules.Prepared] = {site: self._prepared(a) for site, a in known.allowed.items()}

    @property
    def unmatched(self) -> tuple[str, ...]:
        return self.prepared[""].unmatched

    def made(self, history: Interactions, subscribed: sp.csr_matrix | None = None) -> dict[str, np.ndarray]:
        """The arrays of `Lists` for everybody of a history."""
        asked = self.where.asks(history)
        bars = own_bars(self.ruled, self.known.catalogue, history, repeat=self.repeat)
        if asked is not history:
            bars += _excluded(asked.ordered)
        if self.where.only_own and subscribed is not None:
            bars += _excluded(subscribed)
        out = self.nothing(history)
        site_of = np.full(history.shape[0], "") if history.segments is None else history.segments[:, 0]
        sites = np.where(np.isin(site_of, list(self.prepared)), site_of, "")
        for site in np.unique(sites).tolist():
            for _, rows in chunks(np.flatnonzero(sites == site)):
                self._chunk(history, asked, rows, self.prepared[site], taken(bars, rows), out)
        return out

    def nothing(self, history: Interactions) -> dict[str, np.ndarray]:
        """The same with empty lists."""
        shape = len(history.customer_ids), self.k
        return {name: np.full(shape, -1 if dtype == np.int32 else 0, dtype) for name, dtype in _TYPES.items()}

    def _prepared(self, allowed: Allowed) -> rules.Prepared:
        today = self.known.today
        return rules.prepare(
            self.ruled, self.known.catalogue, today.as_of, today.shop.zone, sold=allowed.sold, in_stock=allowed.in_stock
        )

    def _chunk(
        self, history: Interactions, asked: Interactions, rows: np.ndarray, prepared: rules.Prepared,
        own: sp.csr_matrix, out: dict[str, np.ndarray],
    ) -> None:  # fmt: skip
        found = self.model.rank(asked, rows, self.deeper, Barred(prepared.allowed, own))
        if self.where.only_own:
            found = found.where(holds(history.ordered, rows[found.customer], found.product))
        ruled = rerank(prepared, found.customer, found.product, found.score, self.k, len(rows), own=own)
        ranking = Ranking(
            ruled.row, ruled.rank, ruled.product, ruled.score,
            np.append(found.algorithm, RULE)[ruled.candidate],  # -1, a pin, finds the last
            np.append(found.part, RULE)[ruled.candidate],
        )  # fmt: skip
        reasons = explain(self.model, history, rows, ranking, asked)
        cell = rows[ruled.row], ruled.rank - 1
        out["product"][cell], out["score"][cell], out["rules"][cell] = ruled.product, ruled.score, ruled.rules
        out["about"][cell] = reasons.product
        out["algorithm"][cell] = self._coded("algorithm", ranking.algorithm)
        out["code"][cell] = self._coded("code", reasons.code)

    def _coded(self, column: str, values: np.ndarray) -> np.ndarray:
        """Names as numbers; new ones are added."""
        names, code = np.unique(values, return_inverse=True)
        known = self.names[column]
        return np.array([known.setdefault(name, len(known)) for name in names.tolist()], np.uint8)[code]


def _excluded(matrix: sp.csr_matrix) -> sp.csr_matrix:
    bars = matrix.astype(np.uint8)
    bars.data[:] = 1 << rules.EXCLUDED
    return bars
