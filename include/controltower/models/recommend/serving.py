"""One list for one request, from a published version and what the session says of itself.

Where a placement's own list has nothing that may be shown, the next source is asked: the session's products, what is
popular in their category, what is popular. A list is empty only where nothing at all may be shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend import inverted
from controltower.models.recommend.published import Published
from controltower.models.recommend.reranking import ACTED, Reranked, days_until_again, rerank, too_soon
from controltower.models.recommend.rules import BOUGHT, EXCLUDED, Prepared, Rules, Texts, prepare
from controltower.models.recommend.session import (
    CATEGORY,
    FOR_YOU,
    NOTHING,
    OWN,
    POPULARITY,
    SESSION,
    SOURCES,
    Candidates,
    Request,
    Session,
    among,
    distinct,
    firsts,
    fused,
    joined,
    own_list,
    together,
)
from controltower.models.recommend.version import POPULAR, SEARCH

SPARE = 4  # so many times as many candidates as are shown: filters take some out
OFFER = "offer"
SECOND_LIST = "for_you"  # the personal list for placements whose products the request doesn't tell
RULES = [tuple(name for i, name in enumerate(ACTED) if bits >> i & 1) for bits in range(1 << len(ACTED))]
KEYWORDS = 8
SEARCHES = 10_000  # results kept
CATEGORIES = 3  # of the session, in which popular products are looked for
NO_PRICE = np.array([np.nan])
MOST = 2000  # popular products looked at where filters and caps leave too few


@dataclass(frozen=True)
class Item:
    """One product of a list: `shown` has product_id, title, url, image_url, price and currency.

    Of an offer it is a collection, and `shown` has collection_id, title, url and image_url.

    reason_value: a product's title, a category's name or the query, None where the reason has none
    rules: those that brought it to its place
    """

    rank: int
    shown: dict[str, Any]
    algorithm: str
    reason_code: str
    reason_value: str | None
    rules: tuple[str, ...]

    @property
    def id(self) -> str:
        return str(self.shown.get("product_id") or self.shown["collection_id"])


@dataclass(frozen=True)
class Answer:
    """A list, and where it comes from.

    fallback: None where it is the placement's own, or empty; else the source that had something (one of SOURCES)
    because: why it isn't the placement's own, or is empty: unknown_placement, nobody, unknown_person, no_product,
    unknown_product, no_list, no_search, no_query, no_match, all_filtered (the own ones), nothing_allowed (nor others)
    rules: `acted`, `removed` and `pins` as `Reranked.told`
    exhibitions: of each collection_id, title, url, image_url and kind
    """

    placement: str
    version: str
    model_version: str
    as_of: datetime
    items: tuple[Item, ...]
    fallback: str | None
    because: str | None
    rules: dict[str, Any]
    keywords: tuple[str, ...] = ()
    exhibitions: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Ready:
    """A placement's rules as of now, and the products that anybody may be shown, the most popular first.

    again: by category, days until what was bought may be shown again
    running: how many starts and ends of what is shown had passed
    """

    prepared: Prepared
    allowed: np.ndarray
    popular: np.ndarray
    site: str
    repeat: bool
    again: np.ndarray
    running: int

    def void(self, now: datetime, running: int) -> bool:
        return self.running != running or (self.prepared.until is not None and self.prepared.until <= now)


class Serving:
    """A version that answers; what rules come to is worked out once, and again when a date makes it void."""

    def __init__(self, published: Published) -> None:
        self.published = published
        self.searched: dict[tuple[Any, ...], _Asked] = {}
        self._ready: dict[tuple[str, str], Ready] = {}
        self.offers = Serving(published.offers) if published.offers else None
        self._paths, self.category = Texts(published.catalogue).paths
        place = np.empty(len(published), np.int32)
        place[published.popular] = np.arange(len(published), dtype=np.int32)
        self._by_category = np.lexsort((place, self.category)).astype(np.int32)
        self._starts = np.searchsorted(self.category[self._by_category], np.arange(len(self._paths) + 1))

    def warm_up(self, now: datetime) -> None:
        """Do what the first request of each placement would wait for."""
        inverted.warm_up()
        some = [str(i) for i in self.published.product_ids[:1]]
        for placement in self.published.rules:
            for site in ("", *self.published.listed):
                request = Request(placement, product=next(iter(some), None), recent=some, query="a", site=site)
                answer(self, request, now)
        if self.offers:
            self.offers.warm_up(now)

    def ready(self, placement: str, site: str, now: datetime) -> Ready:
        """site: one that lists products of its own, or "" """
        p = self.published
        running = p.running.passed(now) if p.running else 0
        found = self._ready.get((placement, site))
        if found is None or found.void(now, running):
            rules, repeat = p.rules[placement], placement in p.repeats
            same = (f for (name, of), f in list(self._ready.items()) if of == site and p.rules[name] == rules)
            alike = (f for f in same if f.repeat == repeat and not f.void(now, running))
            found = next(alike, None) or self._prepared(rules, site, repeat, running, now)
            self._ready[placement, site] = found
        return found

    def _prepared(self, rules: Rules, site: str, repeat: bool, running: int, now: datetime) -> Ready:
        p = self.published
        shown = p.listed[site] if site else p
        sold = shown.sold & p.running.at(now) if p.running else shown.sold
        made = prepare(rules, p.catalogue, now, p.zone, sold=sold, in_stock=shown.in_stock)
        allowed, again = made.allowed, days_until_again(rules, self._paths, repeat=repeat)
        return Ready(made, allowed, p.popular[allowed[p.popular]], site, repeat, again, running)

    def of_collections(self, request: Request, now: datetime) -> Answer:
        """The list of offers: this session's products have no say."""
        found = answer(self, replace(request, product=None, cart=(), recent=(), query=None), now)
        named = ("title", "url", "image_url")
        items = (
            replace(i, shown={"collection_id": i.shown["product_id"]} | {name: i.shown[name] for name in named})
            for i in found.items
        )
        return replace(found, items=tuple(items))

    def popular_in(self, category: int, most: int) -> np.ndarray:
        """The most popular products of a category, by its code; none of an unknown one."""
        if not self._paths[category]:
            return self._by_category[:0]
        return self._by_category[self._starts[category] : self._starts[category + 1]][:most]


def answer(serving: Serving, request: Request, now: datetime) -> Answer:
    """The list of a placement; pure but for what `serving` keeps. An unknown placement gets popular products."""
    if request.k < 1:
        raise ValueError("k must be at least 1")
    p = serving.published
    if request.placement == OFFER and OFFER not in p.personal:
        return serving.offers.of_collections(request, now) if serving.offers else _no_offers(p)
    session = Session(p, request)
    site = request.site if request.site is not None else p.site(session.row) if p.sites else ""
    placement = request.placement if request.placement in p.rules else POPULAR
    ready = serving.ready(placement, site if site in p.listed else "", now)
    asked = _asked(serving, request, session, ready, site, now)
    own, seed_price = _bars(serving, request, session, ready, now)
    left = _without(asked.candidates, session.here)
    fill = p.personal[request.placement].fill if request.placement in p.personal else True
    listed = _rerank(ready, left, request.k, own, seed_price) if len(left.product) or not fill else None
    if listed is None or (fill and len(listed.product) < request.k):
        near = session.latest if request.placement != POPULAR else session.latest[:0]
        left, listed = _filled(serving, ready, left, near, session.here, request.k, own, seed_price)
    items = _items(serving, left, listed, request.query)
    sources = left.source[listed.candidate[listed.candidate >= 0]]
    source = int(sources.min(initial=POPULARITY))
    because = None
    if not items:
        because = "nothing_allowed" if fill else asked.because or "all_filtered"
    elif source != OWN and request.placement != POPULAR:
        because = asked.because or "all_filtered"
    return Answer(
        placement=request.placement, version=p.version, model_version=asked.model_version or p.version, as_of=p.as_of,
        items=items, fallback=SOURCES[source] if because and items else None, because=because, rules=listed.told(0),
        keywords=asked.keywords, exhibitions=asked.exhibitions,
    )  # fmt: skip


def _no_offers(p: Published) -> Answer:
    """No collection runs: products would be none."""
    rules: dict[str, Any] = {"acted": [], "removed": {}, "pins": {}}
    return Answer(OFFER, p.version, p.version, p.as_of, (), fallback=None, because="no_list", rules=rules)


@dataclass(frozen=True)
class _Asked:
    """The candidates before any filling up; why they aren't the placement's own (None: they are, or it isn't known)."""

    candidates: Candidates
    because: str | None = None
    model_version: str = ""
    keywords: tuple[str, ...] = ()
    exhibitions: tuple[dict[str, Any], ...] = ()


def _asked(serving: Serving, request: Request, session: Session, ready: Ready, site: str, now: datetime) -> _Asked:
    p = serving.published
    name, second = request.placement, p.personal.get(SECOND_LIST)
    if name == SEARCH:
        return _found(serving, request, ready, site, now)
    if (lists := p.personal.get(name)) is not None:
        own, because = own_list(lists, request, session)
        if lists.session is not None:
            own = fused(own, together(p.items[lists.session], session, "recent", SESSION))
        return _Asked(own, because, lists.model_version)
    if (items := p.items.get(name)) is not None:
        found = together(items, session, items.seeds, OWN)
        if len(found.product):
            return _Asked(found, None, items.model_version)
        because = "no_list" if len(session.latest) else "unknown_product" if session.told else "no_product"
        own = own_list(second, request, session, FOR_YOU)[0] if second else NOTHING
        return _Asked(own, because, second.model_version if second and len(own.product) else items.model_version)
    return _Asked(NOTHING, None if name == POPULAR else "unknown_placement")


def _found(serving: Serving, request: Request, ready: Ready, site: str, now: datetime) -> _Asked:
    """What a search comes to, kept: shops are asked the same again and again."""
    p = serving.published
    search, exhibited = p.search, p.exhibited
    if search is None:
        return _Asked(NOTHING, "no_search")
    query = request.query or ""
    there = site if site in p.exhibited_at else ""
    asked = query, request.k, ready.prepared.until, ready.site, there, exhibited.passed(now) if exhibited else 0
    if (kept := serving.searched.get(asked)) is not None:
        return kept
    question = search.question(query)
    product, code = search.matches(question, SPARE * request.k, ready.allowed)
    because = None if len(product) else question.unanswered
    made = Candidates.of(product.astype(np.int32, copy=False), OWN, search.name, code)
    words = tuple(w.text for w in search.keywords(question, KEYWORDS))
    run = p.exhibited_at.get(there)
    if run is not None and exhibited:
        run = run & exhibited.at(now)
    shown = search.exhibitions(question, KEYWORDS, allowed=run)
    about = tuple(p.exhibition(e.collection_id) for e in shown)
    result = _Asked(made, because, p.search_version, words, about)
    if len(serving.searched) >= SEARCHES:  # one thread asks: the event loop
        serving.searched.pop(next(iter(serving.searched)), None)
    serving.searched[asked] = result
    return result


def _bars(
    serving: Serving, request: Request, session: Session, ready: Ready, now: datetime
) -> tuple[sp.csr_matrix | None, np.ndarray]:
    """What this person may not be shown here: what they bought, and what stands beside the list; the seed's price.

    A search finds what was bought, too.
    """
    p, beside = serving.published, session.here
    bought, second = p.bought_by(-1 if request.placement == SEARCH else session.row)
    if len(bought):
        bought = bought[too_soon(second, ready.again[serving.category[bought]], now.timestamp())]
    band, dearest = ready.prepared.rules.price, NO_PRICE
    if band is not None and (band.at_least_of_seed, band.at_most_of_seed) != (None, None):
        price = p.prices[beside if len(beside) else session.latest[:1]]
        known = price[~np.isnan(price)]
        dearest = np.array([known.max() if len(known) else np.nan])
    if not len(bought) and not len(beside):
        return None, dearest
    products, first = np.unique(np.concatenate([bought, beside]), return_index=True)
    bits = np.where(first < len(bought), np.uint8(1 << BOUGHT), np.uint8(1 << EXCLUDED))
    return sp.csr_matrix((bits, products, np.array([0, len(bits)])), (1, len(p))), dearest


def _without(c: Candidates, few: np.ndarray) -> Candidates:
    return c.taken(np.flatnonzero(~among(c.product, few))) if len(few) else c


def _rerank(ready: Ready, c: Candidates, k: int, own: sp.csr_matrix | None, seed_price: np.ndarray) -> Reranked:
    row = np.zeros(len(c.product), np.int64)
    score = np.zeros(len(c.product))
    return rerank(ready.prepared, row, c.product, score, k, 1, own=own, seed_price=seed_price)


def _filled(
    serving: Serving, ready: Ready, left: Candidates, near: np.ndarray, here: np.ndarray, k: int,
    own: sp.csr_matrix | None, seed_price: np.ndarray,
) -> tuple[Candidates, Reranked]:  # fmt: skip
    """The candidates with popular products behind them, those of the categories of `near` first."""
    made = left
    popular, many = ready.popular, SPARE * k
    for _ in range(2):
        parts = [left]
        for code in distinct(serving.category[near])[:CATEGORIES].tolist():
            parts += [Candidates.of(serving.popular_in(code, many), CATEGORY, "popularity", POPULAR)]
        parts.append(Candidates.of(popular[:many], POPULARITY, "popularity", POPULAR))
        made = joined(*parts)
        made = _without(made.taken(firsts(made.product)), here)
        listed = _rerank(ready, made, k, own, seed_price)
        if len(listed.product) >= k:
            break
        popular, many = popular[_permitted(ready, own, seed_price)[popular]], MOST
    return made, listed


def _permitted(ready: Ready, own: sp.csr_matrix | None, seed_price: np.ndarray) -> np.ndarray:
    """Mask of what no filter takes out for this request: then only caps can shorten a list."""
    made = ready.prepared.allowed
    if own is not None:
        made[own.indices] = False
    band = ready.prepared.rules.price
    if (
        band is not None
        and (band.at_least_of_seed, band.at_most_of_seed) != (None, None)
        and not np.isnan(seed_price[0])
    ):
        price = ready.prepared.price
        low = (band.at_least_of_seed or 0.0) * seed_price[0]
        high = np.inf if band.at_most_of_seed is None else band.at_most_of_seed * seed_price[0]
        made &= ((price >= low) & (price <= high)) | (np.isnan(price) & band.or_unknown)
    return made


def _items(serving: Serving, c: Candidates, listed: Reranked, query: str | None) -> tuple[Item, ...]:
    p = serving.published
    products, rules = listed.product.tolist(), listed.rules.tolist()
    made = []
    for i, (at, shown) in enumerate(zip(listed.candidate.tolist(), p.shown(products), strict=True)):
        algorithm, code, value = "rules", "", None
        if at >= 0:
            algorithm, code = c.algorithm[at], c.code[at]
            if algorithm == "search":
                value = query
            elif c.source[at] == CATEGORY:
                code, value = POPULAR, p.category_name(products[i])
            else:
                value = p.title(int(c.about[at]))
        made.append(Item(i + 1, shown, algorithm, code, value, RULES[rules[i]]))
    return tuple(made)
