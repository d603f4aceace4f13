"""What a search asks of the text and of what others searched for: worked out once, for all that answers it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from controltower.models.recommend.searches import hashed
from controltower.models.recommend.text import MOST_QUERY, clean, key, words

if TYPE_CHECKING:
    from controltower.models.recommend.search import Search

NEIGHBOURS = 10  # queries like this one that lend it their clicks
RELATED = 0.3  # cosine from which on a query is shown as a keyword
MOST_MATCHES = 200  # products looked at for exhibitions

Matching = tuple[np.ndarray, np.ndarray, np.ndarray]
Query = tuple[np.ndarray, np.ndarray, float]  # what Text.query gives


@dataclass(frozen=True)
class Demanded:
    """What was chosen for a query that is `known`, or for those like it.

    chosen: the products that were clicked, sorted, and aligned `clicked` how much, 0..1; trust: how far to trust that,
    0..1
    """

    known: bool
    chosen: np.ndarray
    clicked: np.ndarray
    trust: float


class Question:
    """A query, and what its products, keywords and exhibitions all need of it: worked out once, where it is needed."""

    def __init__(self, search: Search, typed: str) -> None:
        self.search, self.text = search, clean(typed, MOST_QUERY)
        self._matching: dict[bool, tuple[int, np.ndarray, float, Matching]] = {}

    @property
    def unanswered(self) -> str:
        """Why, if nothing is found: `no_match`, or `no_query` where there are no words in it."""
        return "no_match" if words(self.text) else "no_query"

    @cached_property
    def key(self) -> str:
        return key(self.text)

    @cached_property
    def terms(self) -> Query:
        return self.search.text.query(self.text)

    @cached_property
    def demand(self) -> Demanded:
        """What was chosen for it."""
        s, c = self.search, self.search.config
        wanted = hashed(self.key)
        own = int(s.hashes.searchsorted(wanted))
        own = own if own < len(s.hashes) and s.hashes[own] == wanted else -1
        lent, likeness = self.alike(c.alike)
        if own >= 0:
            lent, likeness = lent[lent != own], likeness[lent != own]
        weight = likeness**2
        total = float(weight @ s._clicks[lent])
        weight = weight * min(1.0, c.shrinkage / total) if total else weight  # lent clicks don't drown own ones
        number = min(total, c.shrinkage)
        if own >= 0:
            lent, weight, number = np.r_[lent, own], np.r_[weight, 1.0], number + s._clicks[own]
        chosen, clicked = s.chosen.best(lent, weight)
        if len(chosen):
            clicked /= clicked.max()
        return Demanded(own >= 0, chosen, clicked, c.most * number / (number + c.shrinkage))

    @cached_property
    def _near(self) -> tuple[np.ndarray, np.ndarray]:
        s = self.search
        near, likeness = s.queries.best(*unit(self.terms), want=NEIGHBOURS, least=min(RELATED, s.config.alike))
        best = np.argsort(-likeness, kind="stable")[:NEIGHBOURS]
        return near[best], likeness[best]

    def alike(self, least: float) -> tuple[np.ndarray, np.ndarray]:
        """The queries that are most like it, by cosine, and how much; least: that of the config, or RELATED."""
        near, likeness = self._near
        many = int(np.count_nonzero(likeness >= least))  # they are sorted
        return near[:many], np.minimum(likeness[:many], 1)

    def matching(self, k: int, allowed: np.ndarray, most: float, *, other_keyboard: bool = False) -> Matching:
        """Products (sorted) that may be among the k best allowed, the share of the query that their text has, clicks.

        most: what popularity adds at most; other_keyboard: as if typed with the keyboard in the other language
        """
        s, c, d = self.search, self.search.config, self.demand
        if (kept := self._matching.get(other_keyboard)) is not None:
            many, those, added, found = kept
            if k <= many and most <= added and (allowed is those or allowed is s._everything):
                return found
        terms = s.text.query(self.text, other_keyboard=True) if other_keyboard else self.terms
        many = max(k, MOST_MATCHES)  # the same do for exhibitions
        product, text = s.products.best(
            *terms, want=many, least=c.least, near=c.near, more=most / (1 - d.trust) if d.trust < 1 else np.inf,
            allowed=allowed, chosen=d.chosen,
        )  # fmt: skip
        clicked = np.zeros(len(product), np.float32)
        clicked[np.searchsorted(product, d.chosen)] = d.clicked
        found = product, text, clicked
        self._matching[other_keyboard] = many, allowed, most, found
        return found


def unit(query: Query) -> tuple[np.ndarray, np.ndarray]:
    """A query's terms and weights, of length 1 with those that nothing has."""
    terms, weights, unknown = query
    return terms, weights / max(float(np.hypot(np.linalg.norm(weights), unknown)), 1e-9)
