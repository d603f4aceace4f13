"""What a request says of its session, and the lists that come of it: a person's own, and those of its products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
NO_PRODUCT = np.zeros(0, np.int32)
NOTHING = Candidates.of(NO_PRODUCT, OWN, "", "")


class Session:
    """What a request says, looked up where it is needed: many answers need little of it."""

    def __init__(self, published: Published, request: Request) -> None:
        self.published, self.request = published, request
        self.told = bool(request.product or request.cart or request.recent)

    @cached_property
    def row(self) -> int:
        """The person's, -1: none."""
        customer, visitor = self.request.customer, self.request.visitor
        row = self.published.row(customer=customer) if customer is not None else -1
        return self.published.row(visitor=visitor) if row < 0 and visitor is not None else row

    @cached_property
    def of(self) -> dict[str, np.ndarray]:
        """Positions of the known products, the newest first."""
        product = [self.request.product] if self.request.product else []
        told = {"product": product, "recent": self.request.recent, "cart": self.request.cart}
        ids = {name: list(dict.fromkeys(some)) for name, some in told.items()}
        found = self.published.positions([i for some in ids.values() for i in some])
        made = {}
        for name, some in ids.items():
            mine, found = found[: len(some)], found[len(some) :]
            made[name] = mine[mine >= 0]
        return made

    @cached_property
    def here(self) -> np.ndarray:
        """What is in front of the customer already."""
        beside = self.request.product or self.request.cart
        return np.concatenate([self.of["product"], self.of["cart"]]) if beside else NO_PRODUCT

    @cached_property
    def latest(self) -> np.ndarray:
        return np.concatenate(list(self.of.values())) if self.told else NO_PRODUCT

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
    entry, of = items.entries(seeds)
    product, value, seed = items.product[entry], items.score[entry] * weights[of], seeds[of]
    at = np.flatnonzero(~among(product, seeds))
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
