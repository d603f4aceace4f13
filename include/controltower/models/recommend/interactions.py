"""Who had to do with which product, and when: orders, carts and views as aligned arrays."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend import mixing
from controltower.profiles.portable import DAY

if TYPE_CHECKING:
    from controltower.models.recommend.catalogue import Catalogue

log = logging.getLogger("controltower")

ORDER, CART, VIEW = 0, 1, 2
MOST_ENTRIES = 2000  # of a customer, the latest: who has more is a bot or a reseller, and would drown the others


@dataclass(frozen=True)
class Weights:
    """What an interaction counts, and after how many days half of it (0: never)."""

    order: float = 1.0
    cart: float = 0.5
    view: float = 0.2
    order_half_life: float = 180.0
    event_half_life: float = 30.0


@dataclass(frozen=True)
class Interactions:
    """One entry per customer, product, kind and order (or day of events), sorted by customer, second, product.

    `customer` and `product` are positions in the sorted `customer_ids` and `product_ids`; `second` is epoch seconds
    (UTC); `kind` is ORDER, CART or VIEW; `until` is as_of.
    """

    customer_ids: np.ndarray
    product_ids: np.ndarray
    customer: np.ndarray
    product: np.ndarray
    second: np.ndarray
    kind: np.ndarray
    until: int
    catalogue: Catalogue | None = None  # of these product_ids, where the algorithms may read it
    segments: np.ndarray | None = None  # customers x 2, text: the site; site, gender and age. "" where nothing is told
    capped: int = 0  # customers of whom only the latest MOST_ENTRIES are here
    _matrices: dict[Weights, sp.csr_matrix] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.customer)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.customer_ids), len(self.product_ids)

    def where(self, keep: np.ndarray, until: int | None = None) -> Interactions:
        """The entries of a mask, seen from `until`."""
        return replace(
            self,
            customer=self.customer[keep],
            product=self.product[keep],
            second=self.second[keep],
            kind=self.kind[keep],
            until=self.until if until is None else until,
            _matrices={},
        )

    def weight(self, weights: Weights) -> np.ndarray:
        """Weight of each entry by its kind and age."""
        by_kind = np.array([weights.order, weights.cart, weights.view])[self.kind]
        half_life = np.where(self.kind == ORDER, weights.order_half_life, weights.event_half_life)
        age = (self.until - self.second) / DAY
        return np.where(half_life > 0, by_kind * np.exp2(-age / np.maximum(half_life, 1e-9)), by_kind)

    def matrix(self, weights: Weights) -> sp.csr_matrix:
        """customers x products: summed weights."""
        if weights not in self._matrices:
            values = self.weight(weights)
            self._matrices[weights] = sp.csr_matrix((values, (self.customer, self.product)), self.shape)
        return self._matrices[weights]

    @cached_property
    def entries(self) -> np.ndarray:
        """How many entries each customer has."""
        return np.bincount(self.customer, minlength=self.shape[0])

    @cached_property
    def ordered(self) -> sp.csr_matrix:
        """customers x products: 1 where the customer bought it."""
        return self._ever(self.kind == ORDER)

    @cached_property
    def looked_at(self) -> sp.csr_matrix:
        """customers x products: 1 where the customer viewed it or put it into the cart."""
        return self._ever(self.kind != ORDER)

    @cached_property
    def digest(self) -> np.ndarray:
        """64 bits (uint64) of what is known of each customer: the entries and the segments."""
        entry = mixing.mixed(self.product.astype(np.uint64) << np.uint64(2) | self.kind.astype(np.uint64))
        found = mixing.summed(mixing.mixed(entry + self.second.astype(np.uint64)), self.entries)
        if self.segments is None or not len(self.segments):
            return found
        texts, at = np.unique(self.segments, return_inverse=True)
        site, closer = mixing.of_texts(texts.tolist())[at].reshape(-1, 2).T
        return found + mixing.mixed(site) + closer

    def rows_of(self, customers: np.ndarray) -> np.ndarray:
        """Positions of customer ids, -1 where unknown."""
        return positions(self.customer_ids, customers)

    def sites_of(self, rows: np.ndarray) -> np.ndarray:
        """The site of each row (-1: unknown), "" where none is told."""
        if self.segments is None or not len(self.segments):
            return np.full(len(rows), "")
        return np.where(rows >= 0, self.segments[np.maximum(rows, 0), 0], "")

    def _ever(self, keep: np.ndarray) -> sp.csr_matrix:
        ones = np.ones(int(keep.sum()), dtype=np.float32)
        matrix = sp.csr_matrix((ones, (self.customer[keep], self.product[keep])), self.shape)
        matrix.data[:] = 1.0
        return matrix


def from_arrays(
    customer_ids: np.ndarray,
    product_ids: np.ndarray,
    customers: np.ndarray,
    products: np.ndarray,
    second: np.ndarray,
    kind: np.ndarray,
    until: int,
) -> Interactions:
    """Interactions from ids; entries of unknown customers or products are left out, and all but a customer's latest."""
    return from_positions(
        customer_ids, product_ids, positions(customer_ids, customers), positions(product_ids, products), second, kind,
        until,
    )  # fmt: skip


def from_positions(
    customer_ids: np.ndarray,
    product_ids: np.ndarray,
    customer: np.ndarray,
    product: np.ndarray,
    second: np.ndarray,
    kind: np.ndarray,
    until: int,
) -> Interactions:
    """Interactions from positions in the sorted ids; entries of -1 are left out, and all but a customer's latest."""
    keep = (customer >= 0) & (product >= 0)
    order = np.lexsort((kind[keep], product[keep], second[keep], customer[keep]))
    pick = np.flatnonzero(keep)[order]
    left = np.searchsorted(customer[pick], customer[pick], side="right") - np.arange(len(pick))
    capped = len(np.unique(customer[pick[left > MOST_ENTRIES]]))
    if capped:
        log.warning("customers with over %d entries, of which only the latest count: %d", MOST_ENTRIES, capped)
        pick = pick[left <= MOST_ENTRIES]
    return Interactions(
        customer_ids, product_ids, customer[pick], product[pick], second[pick].astype(np.int64), kind[pick], until,
        capped=capped,
    )  # fmt: skip


def holds(matrix: sp.csr_matrix, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Whether the matrix has something above 0 at pairs of row and column; not for rows of -1."""
    found = np.zeros(len(row), dtype=bool)
    known = row >= 0
    if known.any():
        found[known] = np.asarray(matrix[row[known], column[known]]).ravel() > 0
    return found


def positions(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each wanted id stands in the sorted ids, -1 where it doesn't."""
    if not len(ids):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[at] == wanted, at, -1)
