"""The placement `search`: from a keyword to products, other keywords and exhibitions.

Two signals. What people chose after the same query, or one that is nearly the same, counts as far as it is known
(shrunken by its number); the text of the products counts for rare and unknown queries (Sondhi et al., "A taxonomy of
queries for e-commerce search", SIGIR 2018, on why both are needed). Clicks favour what stood on top already; each
person counts once per query and product, and carts and orders count more than clicks.

Queries are personal: the text of one that fewer than three people asked isn't kept, only a hash of it, the terms it
has in common with the catalogue and with what others asked, and what was chosen.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp

from controltower.models.base import Model, ModelConfig, State
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.interactions import CART, ORDER, VIEW, positions
from controltower.models.recommend.inverted import Index, blended
from controltower.models.recommend.question import MOST_MATCHES, RELATED, Question, unit
from controltower.models.recommend.searches import Collections, Searches, demand
from controltower.models.recommend.text import Terms, Text, key, terms_of, unit_rows

log = logging.getLogger("controltower")


@dataclass(frozen=True)
class Keyword:
    """A query that at least three people asked and that led to clicks, in its most usual spelling."""

    text: str
    score: float
    code: Literal["completes", "related", "popular"]


@dataclass(frozen=True)
class Exhibition:
    collection_id: str
    score: float
    code: Literal["title", "products", "popular"]


class Search(Model):
    """Answers queries over the catalogue it was fitted on."""

    name: ClassVar[str] = "search"

    class Config(ModelConfig):
        title: float = 1.0
        brand: float = 0.8
        category: float = 0.5
        length: float = 0.25  # how much longer titles count less, 0..1
        view: float = 1.0
        cart: float = 3.0
        order: float = 5.0
        half_life: float = 60.0  # days
        shrinkage: float = 10.0  # clicks from which on a query's clicks count more than half of what they may
        most: float = 0.8  # what clicks may count against the text
        alike: float = 0.6  # cosine from which on a query lends its clicks
        popular: float = 0.05  # what popularity adds
        least: float = 0.2  # share of a query that must be found
        near: float = 0.3  # and of the best match
        people: int = 3  # who must have asked a query before others may see it
        most_queries: int = 200_000
        most_products: int = 1_000_000  # whose text is read, the most popular: 2 GB while it is learned

    config: Config
    product_ids: np.ndarray
    popularity: np.ndarray  # by product, 0..1
    collection_ids: np.ndarray

    def fit(
        self,
        catalogue: Catalogue,
        searches: Searches,
        collections: Collections,
        popularity: np.ndarray | None = None,
    ) -> Self:
        """Learn from the catalogue and what was searched; popularity: by product of the catalogue (None: clicks)."""
        c = self.config
        self.__dict__ = {"config": c}  # forget an earlier fit
        self.product_ids, self.collection_ids = catalogue.product_ids, collections.collection_ids
        steps = {ORDER: c.order, CART: c.cart, VIEW: c.view}
        asked = demand(searches, self.product_ids, steps, c.half_life, c.people, c.most_queries)
        self.texts, self.people, self.hashes = asked.public, asked.people, asked.hashes
        popular = np.asarray(asked.clicks.sum(axis=0)).ravel() if popularity is None else popularity
        self.popularity = (popular / max(popular.max(initial=0), 1e-9)).astype(np.float32)
        products, titles = self._terms(catalogue), terms_of((collections.titles, 1.0))
        self.text = Text.fit(products, titles, terms_of((self.texts, 1.0)))
        self.products = Index(self._shortened(self.text.matrix(products)))
        self.queries = Index(self._vectors(asked.texts))
        self.chosen = Index(asked.clicks.T)
        self.askers = Index(unit_rows(asked.clicks))
        self.exhibited = Index(self._shortened(self.text.matrix(titles)))
        at = positions(catalogue.product_ids, collections.product_ids)
        pairs = collections.collection[at >= 0], at[at >= 0]
        members = sp.csr_matrix((np.ones(len(pairs[0]), np.float32), pairs), (len(self.collection_ids), len(catalogue)))
        size = np.asarray(members.sum(axis=1)).ravel()
        self.members = Index(sp.diags(1 / (size + 3)) @ members)
        return self

    def question(self, typed: str) -> Question:
        """A query as typed, anything, for what asks several things about it."""
        return Question(self, typed)

    def matches(self, asked: Question, k: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The k best allowed products that match, the best first (none, if none does), and the code of why each does.

        `query_clicks` (people who searched for it chose this), `alike_clicks` (who searched for something like it) or
        `query_text` (it is what is written). allowed: mask over product_ids
        """
        k = min(k, max(len(self.product_ids), 1))
        product, _, told = self._matches(asked, k, allowed, by_popularity=True)
        return product, _codes(asked, *told)

    def keywords(self, query: str | Question, k: int) -> list[Keyword]:
        """What the query may become, then other queries that led to the same or are like it; for none, the most asked.

        Half-typed syllables and the wrong keyboard are understood. Never a query that fewer than three people asked.
        """
        asked = self._asked(query)
        typed = asked.key
        shown: dict[int, Keyword] = {}
        if not typed:
            return [Keyword(str(self.texts[g]), float(s), "popular") for g, s in _most(self._public, self.people, k)]
        first = bisect_left(self._typed, typed)
        if self._typed[first : first + 1] and self._typed[first].startswith(typed):
            begun = self._by_typed[first : bisect_left(self._typed, typed + "\U0010ffff", first)]
            for g, s in _most(begun, self.people, k + 1):
                shown[g] = Keyword(str(self.texts[g]), float(s), "completes")
        alike, likeness = asked.alike(RELATED)
        d = asked.demand
        best = np.argsort(-d.clicked, kind="stable")[:20]
        strongest, clicked = d.chosen[best], d.clicked[best]
        norm = float(np.linalg.norm(clicked)) or 1.0
        led, score = self.askers.best(strongest, np.float32(d.trust / norm) * clicked)
        at = positions(led, alike)
        both = at >= 0
        score[at[both]] = np.maximum(score[at[both]], likeness[both])
        led, score = np.concatenate([led, alike[~both]]), np.concatenate([score, likeness[~both]])
        shows = (self.people[led] > 0) & (score >= 0.1)
        led, score = led[shows], score[shows]
        for i in np.lexsort((led, -score))[: 2 * k + 1].tolist():
            if len(shown) > k:  # one of them may be what was typed
                break
            shown.setdefault(int(led[i]), Keyword(str(self.texts[led[i]]), float(score[i]), "related"))
        return [w for g, w in shown.items() if self._key_of[g] != typed][:k]

    def exhibitions(self, query: str | Question, k: int, *, allowed: np.ndarray | None = None) -> list[Exhibition]:
        """Collections whose title or whose products match; where none does, those with the most popular products.

        allowed: mask over collection_ids (None: all)
        """
        if not len(self.collection_ids) or (allowed is not None and not allowed.any()):
            return []
        asked = self._asked(query)
        product, score, _ = self._matches(asked, MOST_MATCHES, self._everything, by_popularity=False)
        inside = self.members.score(product, score)
        titled = self.exhibited.score(*asked.terms)
        titled[titled < self.config.least] = 0
        if allowed is not None:
            titled[~allowed], inside[~allowed] = 0, 0
        total = titled + inside
        if not total.any():
            total, titled, inside = self._popular_exhibitions, titled * 0, inside * 0
        shown = np.flatnonzero((total > 0) & (True if allowed is None else allowed))

        def code(i: int) -> Literal["title", "products", "popular"]:
            return "title" if titled[i] > inside[i] else "products" if inside[i] > 0 else "popular"

        return [Exhibition(str(self.collection_ids[i]), s, code(i)) for i, s in _most(shown, total, k)]

    def _terms(self, catalogue: Catalogue) -> Terms:
        """Of the products' texts; where there are too many, of those that are most popular."""
        c = self.config
        read = np.sort(np.argsort(-self.popularity, kind="stable")[: c.most_products]).astype(np.int32)
        if len(read) < len(catalogue):
            log.warning("search reads the texts of the %d most popular of %d products", len(read), len(catalogue))
        fields = (catalogue.title, c.title), (catalogue.brand, c.brand), (catalogue.category, c.category)
        found = terms_of(*((texts[read], strength) for texts, strength in fields))
        return replace(found, documents=len(catalogue), document=read[found.document])

    def _asked(self, query: str | Question) -> Question:
        return self.question(query) if isinstance(query, str) else query

    def _matches(
        self, asked: Question, k: int, allowed: np.ndarray, *, by_popularity: bool
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """The k best allowed products that match, their scores, and how far by clicks and by their text.

        Scores compare within a query: about 1 where all of it is found or most people chose it.
        by_popularity: whether what is popular is better
        """
        c, d = self.config, asked.demand
        popular, most = (self._popular, self._most_popular) if by_popularity else (self._nothing, 0.0)
        product, text, clicked = asked.matching(k, allowed, most)
        at, score = blended(product, text, clicked, d.trust, popular, allowed, c.least, c.near, k)
        if not d.known and not len(at):
            product, text, clicked = asked.matching(k, allowed, most, other_keyboard=True)
            at, score = blended(product, text, clicked, d.trust, popular, allowed, c.least, c.near, k)
        return product[at], score, (clicked[at], text[at])

    def _vectors(self, texts: np.ndarray) -> sp.csr_matrix:
        """queries x terms, of length 1 with what the catalogue hasn't."""
        rows = [unit(self.text.query(text)) for text in texts]
        start = np.r_[0, np.cumsum([len(terms) for terms, _ in rows])]
        empty = np.zeros(0, np.int64), np.zeros(0, np.float32)
        terms, weights = (np.concatenate(column) for column in zip(empty, *rows, strict=True))
        return sp.csr_matrix((weights, terms, start), (len(texts), len(self.text.codes)))

    def _shortened(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        length = np.asarray(matrix.sum(axis=1)).ravel()
        mean = length[length > 0].mean() if (length > 0).any() else 1.0
        b = self.config.length
        return (sp.diags(1 / (1 - b + b * length / mean)) @ matrix).tocsr()

    @cached_property
    def _popular(self) -> np.ndarray:
        return (self.config.popular * np.sqrt(np.maximum(self.popularity, 0))).astype(np.float32)

    @cached_property
    def _most_popular(self) -> float:
        return float(self._popular.max(initial=0))

    @cached_property
    def _nothing(self) -> np.ndarray:
        return np.zeros_like(self.popularity)

    @cached_property
    def _everything(self) -> np.ndarray:
        return np.ones(len(self.product_ids), dtype=bool)

    @cached_property
    def _popular_exhibitions(self) -> np.ndarray:
        return self.members.score(np.arange(len(self.product_ids)), self.popularity) + np.float32(1e-9)

    @cached_property
    def _clicks(self) -> np.ndarray:
        """Weighted clicks by query."""
        start = np.r_[0, self.chosen.value.cumsum(dtype=np.float64)]
        return np.diff(start[self.chosen.start])

    @cached_property
    def _public(self) -> np.ndarray:
        return np.flatnonzero(self.people > 0)

    @cached_property
    def _key_of(self) -> np.ndarray:
        return np.array([key(text) for text in self.texts.tolist()], dtype=object)

    @cached_property
    def _by_typed(self) -> np.ndarray:
        return self._public[np.argsort(self._key_of[self._public], kind="stable")]

    @cached_property
    def _typed(self) -> list[str]:
        return list(self._key_of[self._by_typed].tolist())

    def _state(self) -> State:
        state = {
            "product_ids": self.product_ids, "collection_ids": self.collection_ids, "popularity": self.popularity,
            "texts": self.texts, "people": self.people, "hashes": self.hashes, **self.text.state(),
        }  # fmt: skip
        for name in INDEXES:
            state |= getattr(self, name).state(name)
        return state

    def _restore(self, state: State) -> None:
        for name in ("product_ids", "collection_ids", "popularity", "texts", "people", "hashes"):
            setattr(self, name, state[name])
        self.text = Text.restored(state)
        for name in INDEXES:
            setattr(self, name, Index.restored(state, name))


CODES = {
    known: np.array(["query_text", code], object) for known, code in ((True, "query_clicks"), (False, "alike_clicks"))
}
INDEXES = ("products", "queries", "chosen", "askers", "exhibited", "members")


def _codes(asked: Question, clicked: np.ndarray, text: np.ndarray) -> np.ndarray:
    """The code of what speaks most for each product."""
    d = asked.demand
    by_demand = d.trust * clicked > (1 - d.trust) * text
    return CODES[d.known][by_demand.view(np.uint8)]


def _most(which: np.ndarray, score: np.ndarray, k: int) -> list[tuple[int, float]]:
    """The k of `which` with the highest scores, best first."""
    if len(which) > k:
        least = np.partition(score[which], len(which) - k)[len(which) - k]
        which = which[score[which] >= least]
    best = which[np.lexsort((which, -score[which]))[:k]]
    return list(zip(best.tolist(), score[best].tolist(), strict=True))
