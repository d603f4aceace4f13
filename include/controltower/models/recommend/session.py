"""What a request says of its session, and the lists that come of it: a person's own, and those of its products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controltower.models.recommend.published import Published
from controltower.models.recommend.version import POPULAR, ItemLists, PersonalLists

DECAY = 0.8  # of a product viewed before the next newer one
RRF = 60  # Cormack, Clarke and Buettcher, SIGIR 2009
SOURCES = ("own", "for_you", "session", "category", POPULAR)
OWN, FOR_YOU, SESSION, CATEGORY, POPULARITY = range(len(SOURCES))


@dataclass(frozen=True)
class Request:
    """Who asks for what.

    recent: what this session viewed, the newest first; k: 1 or more; site: where it is shown (None: the person's own)
    """

    placement: str
    k: int = 12
    customer: str | None = None
    visitor: str | None = None
    product: str | None = None
    cart: Sequence[str] = ()
    recent: Sequence[str] = ()
    query: str | None = None
    site: str | None = None


@dataclass(frozen=True)
class Candidates:
    """Products with their reasons, aligned, best first; `about` is a product, or -1."""

    product: np.ndarray
    source: np.ndarray
    algorithm: np.ndarray
    code: np.ndarray
    about: np.ndarray

    def taken(self, at: np.ndarray) -> Candidates:
        return Candidates(*(getattr(self, name)[at] for name in _FIELDS))

    @classmethod
    def of(cls, product: np.ndarray, source: int, algorithm: Any, code: Any, about: Any = -1) -> Candidates:
        size = len(product)
        algorithm, code = (np.full(size, v, object) if isinstance(v, str) else v for v in (algorithm, code))
        return cls(
            product, np.full(size, source), algorithm, code, np.full(size, about) if np.isscalar(about) else about
        )


_FIELDS = tuple(Candidates.__dataclass_fields__)
NOTHING = Candidates.of(np.zeros(0, np.int32), OWN, "", "")


class Session:
    """What a request says: the person's row (-1: none), positions of the known products, newest first."""

    def __init__(self, published: Published, request: Request) -> None:
        self.row = published.row(customer=request.customer) if request.customer is not None else -1
        if self.row < 0 and request.visitor is not None:
            self.row = published.row(visitor=request.visitor)
        told = {"product": [request.product] if request.product else [], "cart": request.cart, "recent": request.recent}
        found = published.positions([i for ids in told.values() for i in ids])
        self.told = any(told.values())
        self.of: dict[str, np.ndarray] = {}
        for name, ids in told.items():
            some, found = found[: len(ids)], found[len(ids) :]
            some = some[some >= 0]
            self.of[name] = distinct(some)
        self.here = np.concatenate([self.of["product"], self.of["cart"]])  # in front of the customer already
        self.latest = np.concatenate([self.of["product"], self.of["recent"], self.of["cart"]])

    def seeds(self, first: str) -> tuple[np.ndarray, np.ndarray]:
        """Seeds and their weights: what the placement is about, else what else the session has."""
        if first == "cart" and (len(self.of["cart"]) or len(self.of["product"])):
            both = distinct(np.concatenate([self.of["cart"], self.of["product"]]))
            return both, np.ones(len(both))
        if first == "product" and len(self.of["product"]):
            return self.of["product"], np.ones(1)
        latest = distinct(self.latest)
        return latest, DECAY ** np.arange(len(latest))


def own_list(
    lists: PersonalLists, request: Request, session: Session, source: int = OWN
) -> tuple[Candidates, str | None]:
    row = session.row
    if row < 0:
        return NOTHING, "nobody" if request.customer is None and request.visitor is None else "unknown_person"
    product = lists.product[row]
    at = np.flatnonzero(product >= 0)
    if not len(at):
        return NOTHING, "no_list"
    algorithm = np.array(lists.algorithms, object)[lists.algorithm[row, at]]
    code = np.array(lists.codes, object)[lists.code[row, at]]
    return Candidates.of(product[at], source, algorithm, code, lists.about[row, at]), None


def together(items: ItemLists, session: Session, first: str, source: int) -> Candidates:
    """The sums of the seeds' lists, each product with the seed that says most for it; seeds are left out."""
    seeds, weights = session.seeds(first)
    if not len(seeds):
        return NOTHING
    product = items.product[seeds].ravel()
    value = (items.score[seeds] * weights[:, None]).ravel()
    seed = np.repeat(seeds, items.product.shape[1])
    at = np.flatnonzero((product >= 0) & ~among(product, seeds))
    if not len(at):
        return NOTHING
    at = at[np.lexsort((-value[at], product[at]))]  # of each product its strongest seed first
    first_of = np.flatnonzero(np.diff(product[at], prepend=-1))
    total = np.add.reduceat(value[at], first_of)
    at = at[first_of]
    best = np.lexsort((product[at], -total))
    at = at[best]
    return Candidates.of(product[at], source, items.algorithm, items.reason, seed[at])


def fused(own: Candidates, clicked: Candidates) -> Candidates:
    """Two lists by the sum of reciprocal ranks; what is in both keeps the reason of the session, which is fresher."""
    if not len(own.product) or not len(clicked.product):
        return own if len(own.product) else clicked
    both = joined(clicked, own)
    both.source[:] = OWN
    score = np.concatenate([1 / (RRF + 1 + np.arange(len(c.product))) for c in (clicked, own)])
    product, first, back = np.unique(both.product, return_index=True, return_inverse=True)
    total = np.bincount(back, score, len(product))
    return both.taken(first[np.lexsort((first, -total))])


def joined(*parts: Candidates) -> Candidates:
    return Candidates(*(np.concatenate([getattr(c, name) for c in parts]) for name in _FIELDS))


def firsts(products: np.ndarray) -> np.ndarray:
    """Where each product stands for the first time, in this order."""
    return np.sort(np.unique(products, return_index=True)[1])


def distinct(products: np.ndarray) -> np.ndarray:
    return products[firsts(products)]


def among(products: np.ndarray, few: np.ndarray) -> np.ndarray:
    """Mask of the products that are some of a few; np.isin takes longer to begin."""
    return (products[:, None] == few).any(axis=1)
