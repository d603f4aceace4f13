"""Lists of a placement for everybody who is known, made at once: for the lake, and for what serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from controltower.models.recommend import rules
from controltower.models.recommend.base import Ranking, Recommender, chunks, taken
from controltower.models.recommend.candidates import GENERAL
from controltower.models.recommend.choose import KINDS
from controltower.models.recommend.history import Allowed
from controltower.models.recommend.interactions import Interactions, holds
from controltower.models.recommend.offers import Offers
from controltower.models.recommend.placements import OF_PRODUCTS, OFFER, PLACEMENTS, Placement, check
from controltower.models.recommend.reasons import POPULAR, explain
from controltower.models.recommend.reranking import ACTED, codes, own_bars, rerank
from controltower.models.recommend.scores import Barred
from controltower.models.recommend.taken_over import Earlier, basis, same_for_all
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
        ("reason_product_id", pa.string()),  # what the reason names: a product, of an offer a collection
        ("rules", pa.string()),
        ("as_of", pa.timestamp("us", tz="UTC")),
        ("made_at", pa.timestamp("us", tz="UTC")),  # as of when the list was made: an earlier one may be taken over
        ("basis", pa.int64()),  # what it was made of (taken_over.py); null: it is never taken over
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
    made_at, basis: of each person's list, as of when (UTC) and of what it was made (None: it is never taken over)
    repeat: whether what was bought may come again, where the rules don't say after how many days
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
    made_at: np.ndarray
    basis: np.ndarray | None
    repeat: bool
    algorithms: list[str]
    codes: list[str]
    unmatched: tuple[str, ...]

    @property
    def named(self) -> str:
        """The column of what is recommended."""
        return "collection_id" if PLACEMENTS[self.placement].collections else "product_id"

    def __len__(self) -> int:
        return int((self.product >= 0).sum())

    @property
    def taken_over(self) -> int:
        """How many lists are those of an earlier day."""
        return int((self.made_at < _utc(self.as_of)).sum())

    @property
    def made(self) -> int:
        """How many were made anew; empty ones don't count."""
        return int((self.product >= 0).any(axis=1).sum()) - self.taken_over

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows of the derived table `recommendations`, by customer and rank."""
        catalogue = self.known.catalogue
        titles = np.where(catalogue.title == "", catalogue.product_ids, catalogue.title)
        names = {
            "product_id": pa.array(catalogue.product_ids, pa.string()),
            "reason_value": pa.array([*titles.tolist(), None], pa.string()),
            "reason_product_id": pa.array([*catalogue.product_ids.tolist(), None], pa.string()),
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
                "reason_product_id": names["reason_product_id"].take(pa.array(about)),
                "rules": names["rules"].take(pa.array(self.rules[at])),
                "as_of": pa.repeat(pa.scalar(self.as_of, SCHEMA.field("as_of").type), len(row)),
                "made_at": pa.array(self.made_at[at[0]], SCHEMA.field("made_at").type),
                "basis": pa.nulls(len(row), pa.int64()) if self.basis is None else pa.array(self.basis[at[0]]),
                "model_version": pa.repeat(self.card.version, len(row)),
            }
            yield pa.record_batch([column[name] for name in SCHEMA.names], SCHEMA)

    def rows(self) -> pa.Table:
        return pa.Table.from_batches(self.batches(), SCHEMA)


def declared(shop: Shop) -> dict[str, rules.Rules]:
    """The shop's rules by placement; what holds everywhere is about products, so not for collections.

    BadSettings with the place of a mistake.
    """
    where = "shop.yaml, recommendations"
    found = rules.parse(shop.recommendations, where, (*PLACEMENTS, *OF_PRODUCTS))
    return found | rules.parse(of_offers(shop), where, [OFFER])


def of_offers(shop: Shop) -> dict[str, Any]:
    """The rules of collections, as declared."""
    return {OFFER: shop.recommendations[OFFER]} if OFFER in shop.recommendations else {}


def recommend(
    registry: Registry, today: Today, placement: str, k: int, repeat: bool | None = None, earlier: Earlier | None = None
) -> Lists:
    """The k best products of everybody (fewer if fewer may be shown), by the newest model not trained later than today.

    repeat None: as the placement, and where that leaves it open, the validation, says.
    earlier: what of it holds still is taken over; None: all lists are made anew. Offers always are, as collections
    change; and lists of only what was bought before, as time itself tells when it is used up.
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
    groups = [maker.group(known.customers, known.subscribed), maker.group(known.visitors)]
    everybody = sum(len(group.sites) for group in groups)
    arrays, made_at, made_of = maker.nothing(everybody), np.full(everybody, _utc(today.as_of)), None
    if not (where.collections or where.only_own):
        same = {
            site: same_for_all(card, placement, repeat, k, site, prepared, today.as_of, today.shop.zone)
            for site, prepared in maker.prepared.items()
        }
        made_of = np.concatenate([group.basis(same) for group in groups])
        if earlier:
            entries = earlier.entries(
                placement, today.as_of, known.customers.customer_ids, known.visitors.customer_ids, known.product_ids,
                made_of,
            )  # fmt: skip
            maker.take_over(entries, np.concatenate([group.sites for group in groups]), arrays, made_at)
    anew, start = made_at == _utc(today.as_of), 0
    for group in groups:
        mine = slice(start, start := start + len(group.sites))
        if group.history is known.customers or not where.only_own:
            maker.make(group, anew[mine], {name: array[mine] for name, array in arrays.items()})
    return Lists(
        placement=placement, as_of=today.as_of, card=card, known=known, customers=known.customers.customer_ids,
        visitors=known.visitors.customer_ids, made_at=made_at, basis=made_of, repeat=repeat,
        algorithms=list(maker.names["algorithm"]), codes=list(maker.names["code"]), unmatched=maker.unmatched, **arrays,
    )  # fmt: skip


@dataclass(frozen=True)
class _Group:
    """Customers or visitors: their history, what the model is asked with, what they may not be shown, their sites."""

    history: Interactions
    asked: Interactions
    bars: sp.csr_matrix
    sites: np.ndarray  # "" where nothing is said of the person's

    def basis(self, same: dict[str, np.uint64]) -> np.ndarray:
        """What each one's list is made of; `same`: by site, what is the same for all."""
        site, at = np.unique(self.sites, return_inverse=True)
        return basis(self.history, self.bars, np.array([same[name] for name in site.tolist()], np.uint64)[at])


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

    def group(self, history: Interactions, subscribed: sp.csr_matrix | None = None) -> _Group:
        """Everybody of a history."""
        asked = self.where.asks(history)
        ago = self.known.messages_ago if history is self.known.customers else None
        bars = own_bars(self.ruled, self.known.catalogue, history, repeat=self.repeat, ago=ago)
        if asked is not history:
            bars += _excluded(asked.ordered)
        if self.where.only_own and subscribed is not None:
            bars += _excluded(subscribed)
        site_of = np.full(history.shape[0], "") if history.segments is None else history.segments[:, 0]
        return _Group(history, asked, bars, np.where(np.isin(site_of, list(self.prepared)), site_of, ""))

    def nothing(self, people: int) -> dict[str, np.ndarray]:
        """The arrays of `Lists`, with empty lists."""
        return {name: np.full((people, self.k), -1 if of == np.int32 else 0, of) for name, of in _TYPES.items()}

    def make(self, group: _Group, which: np.ndarray, out: dict[str, np.ndarray]) -> None:
        """Write the lists of those of a mask."""
        for site in np.unique(group.sites).tolist():
            for _, rows in chunks(np.flatnonzero((group.sites == site) & which)):
                self._chunk(group, rows, self.prepared[site], out)

    def take_over(
        self, entries: Iterator[pa.RecordBatch], sites: np.ndarray, out: dict[str, np.ndarray], made_at: np.ndarray
    ) -> None:
        """Write the lists of these entries of which everything may be shown still, and when they were made.

        Not those that hold what is popular: what is in stock again should be seen at once there, and they are cheap.
        """
        acted = {text: bits for bits, text in enumerate(codes(np.arange(1 << len(ACTED))).tolist())}
        given: dict[str, dict[str, int]] = {"algorithm": {}, "code": {}, "rules": acted}
        then = made_at.copy()
        for batch in entries:
            cell = batch["person"].to_numpy(), batch["place"].to_numpy()
            for name in _TYPES:
                column = batch[name]
                if name in given:
                    coded = column.dictionary_encode()
                    number = _numbered(given[name], coded.dictionary.to_pylist())
                    out[name][cell] = number[coded.indices.to_numpy()]
                else:
                    out[name][cell] = column.to_numpy()
            then[cell[0]] = batch["made_at"].to_numpy(zero_copy_only=False)
        general = np.array([name in GENERAL for name in given["algorithm"]] or [False])
        popular = np.array([name == POPULAR for name in given["code"]] or [False])  # whoever ranked it
        holds_still = then != made_at
        for site, prepared in self.prepared.items():
            mine = np.flatnonzero(holds_still & (sites == site))
            shown = np.r_[prepared.allowed, False, True]  # behind the products: one that is gone; -1, no product
            holds_still[mine] = shown[out["product"][mine]].all(axis=1)
        changing = general[out["algorithm"]] | popular[out["code"]]
        holds_still &= ~(changing & (out["product"] >= 0)).any(axis=1)
        for name, empty in self.nothing(1).items():
            out[name][~holds_still] = empty
        made_at[holds_still] = then[holds_still]
        for name in ("algorithm", "code"):
            kept = np.unique(out[name][out["product"] >= 0])
            number = np.zeros(len(given[name]) or 1, np.uint8)
            number[kept] = _numbered(self.names[name], [list(given[name])[i] for i in kept])
            out[name] = number[out[name]]

    def _prepared(self, allowed: Allowed) -> rules.Prepared:
        today = self.known.today
        return rules.prepare(
            self.ruled, self.known.catalogue, today.as_of, today.shop.zone, sold=allowed.sold, in_stock=allowed.in_stock
        )

    def _chunk(self, group: _Group, rows: np.ndarray, prepared: rules.Prepared, out: dict[str, np.ndarray]) -> None:
        history, asked, own = group.history, group.asked, taken(group.bars, rows)
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
        names, code = np.unique(values, return_inverse=True)
        return _numbered(self.names[column], names.tolist())[code]


def _numbered(known: dict[str, int], names: list[str]) -> np.ndarray:
    """Names as numbers; new ones are added to the known."""
    return np.array([known.setdefault(name, len(known)) for name in names], np.uint8)


def _excluded(matrix: sp.csr_matrix) -> sp.csr_matrix:
    bars = matrix.astype(np.uint8)
    bars.data[:] = 1 << rules.EXCLUDED
    return bars


def _utc(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
