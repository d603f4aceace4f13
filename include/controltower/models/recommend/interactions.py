"""Who had to do with which product, and when: orders, carts and views as aligned arrays."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from controltower.profiles.facts import gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.local_time import epoch
from controltower.profiles.portable import DAY, seconds
from controltower.profiles.told import told
from controltower.shop import Shop

if TYPE_CHECKING:
    from controltower.models.recommend.catalogue import Catalogue

log = logging.getLogger("controltower")

ORDER, CART, VIEW = 0, 1, 2
KINDS = {"add_to_cart": CART, "view_item": VIEW}
MOST_ENTRIES = 2000  # of a customer, the latest: who has more is a bot or a reseller, and would drown the others
EVENT_DAYS = 180  # older carts and views tell nothing about what comes next


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
    def ordered(self) -> sp.csr_matrix:
        """customers x products: 1 where the customer bought it."""
        return self._ever(self.kind == ORDER)

    @cached_property
    def looked_at(self) -> sp.csr_matrix:
        """customers x products: 1 where the customer viewed it or put it into the cart."""
        return self._ever(self.kind != ORDER)

    def rows_of(self, customers: np.ndarray) -> np.ndarray:
        """Positions of customer ids, -1 where unknown."""
        return positions(self.customer_ids, customers)

    def _ever(self, keep: np.ndarray) -> sp.csr_matrix:
        ones = np.ones(int(keep.sum()), dtype=np.float32)
        matrix = sp.csr_matrix((ones, (self.customer[keep], self.product[keep])), self.shape)
        matrix.data[:] = 1.0
        return matrix


def read(tables: Tables, as_of: datetime, shop: Shop, product_ids: np.ndarray | None = None) -> Interactions:
    """The interactions known as of a date.

    The products are those of the catalogue and of all orders, unless `product_ids` (sorted) gives them: then what else
    was bought or viewed is left out. Customers are all known ones. Returned and cancelled lines don't count.
    """
    from controltower.models.recommend.catalogue import read_catalogue

    facts = gather(tables, as_of, shop)
    lines = facts.lines.filter(facts.lines.bought, ~facts.lines.returned)
    orders = lines.select("customer_id", "product_id", "second", kind=ibis.literal(ORDER, "int64")).distinct()
    since = as_of - timedelta(days=EVENT_DAYS)
    events = tables("events")
    events = events.filter(
        events.customer_id.notnull(),
        events.product_id.notnull(),
        events.event_name.isin(list(KINDS)),
        events.occurred_at <= as_of,
        events.occurred_at > since,
    )
    kind = ibis.ifelse(events.event_name == "view_item", VIEW, CART).cast("int64")
    looked = events.select("customer_id", "product_id", second=seconds(events.occurred_at), kind=kind)
    daily = looked.group_by("customer_id", "product_id", "kind", day=looked.second // DAY).aggregate(
        second=looked.second.max()
    )
    everything = ibis.union(orders, daily.select("customer_id", "product_id", "second", "kind"))
    rows = everything.to_pyarrow()
    customers = _strings(facts.customers.select("customer_id").to_pyarrow()["customer_id"])
    if product_ids is None:
        catalogue = _strings(tables("products").select("product_id").to_pyarrow()["product_id"])
        bought = rows.filter(pa.compute.equal(rows["kind"], ORDER))["product_id"]
        product_ids = np.unique(np.concatenate([catalogue, _strings(bought)]))
    found = from_arrays(
        np.unique(customers),
        product_ids,
        _strings(rows["customer_id"]),
        _strings(rows["product_id"]),
        rows["second"].to_numpy(),
        rows["kind"].to_numpy(),
        epoch(as_of),
    )
    return replace(
        found,
        catalogue=read_catalogue(tables, product_ids),
        segments=read_segments(tables, as_of, found.customer_ids),
    )


def read_segments(tables: Tables, as_of: datetime, customer_ids: np.ndarray) -> np.ndarray:
    """customers x 2: the site, and site, gender and decade of age, as the customers told them."""
    given = tables("customers")
    rows = given.select("customer_id", "site").join(told(given, as_of), "customer_id").to_pyarrow()
    at = positions(customer_ids, _strings(rows["customer_id"]))
    site = [s or "" for s in rows["site"].to_pylist()]
    decades = [f"{age // 10 * 10}" if age is not None else "" for age in rows["told_age"].to_pylist()]
    genders = [gender or "" for gender in rows["told_gender"].to_pylist()]
    closer = ["|".join(parts) if any(parts[1:]) else "" for parts in zip(site, genders, decades, strict=True)]
    segments = np.full((len(customer_ids), 2), "", dtype=f"<U{max(map(len, [*site, *closer]), default=0) or 1}")
    known = at >= 0
    segments[at[known]] = np.array([site, closer], dtype=np.str_).T.reshape(-1, 2)[known]
    return segments


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
    customer, product = positions(customer_ids, customers), positions(product_ids, products)
    keep = (customer >= 0) & (product >= 0)
    order = np.lexsort((kind[keep], product[keep], second[keep], customer[keep]))
    pick = np.flatnonzero(keep)[order]
    left = np.searchsorted(customer[pick], customer[pick], side="right") - np.arange(len(pick))
    if (left > MOST_ENTRIES).any():
        many = len(np.unique(customer[pick[left > MOST_ENTRIES]]))
        log.warning("%d customers have over %d entries: only their latest count", many, MOST_ENTRIES)
        pick = pick[left <= MOST_ENTRIES]
    return Interactions(
        customer_ids, product_ids, customer[pick], product[pick], second[pick].astype(np.int64), kind[pick], until
    )


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


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=np.str_)


def catalogue_mask(tables: Tables, as_of: datetime, product_ids: np.ndarray, *, in_stock: bool = True) -> np.ndarray:
    """Which products may be shown: in the catalogue, available, in stock, not a service, not opted out.

    A product is left out by `in_stock` false, `available_from` later than as_of, a category "service" (or below it:
    postage, fees, vouchers), or `{"recommend": false}` in its attributes. Unknown stock counts as in stock; with
    `in_stock` false the stock of today doesn't matter, as in validation.
    """
    products = tables("products")
    category = products.category.fill_null("").lower()
    service = (category == "service") | category.startswith("service >")
    opted_out = products.attributes.fill_null("").re_search('"recommend": *false')
    shown: ir.Table = products.filter(
        products.in_stock.fill_null(True) | (not in_stock),
        products.available_from.isnull() | (products.available_from <= as_of),
        ~service,
        ~opted_out,
    )
    at = positions(product_ids, _strings(shown.select("product_id").to_pyarrow()["product_id"]))
    mask = np.zeros(len(product_ids), dtype=bool)
    mask[at[at >= 0]] = True
    return mask
