"""What customers looked at, bought and searched for: items in the order in which they came, each with its words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from controltower.profiles.facts import gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.portable import DAY
from controltower.profiles.words import title_words, words_of
from controltower.shop import Shop

HISTORY = 365 * DAY  # what is older may have been for somebody else, or for another time of life
LOOKED_AT = ("view_item", "add_to_cart")


@dataclass(frozen=True)
class Histories:
    """Items by customer. An item is a product that a customer looked at or bought, or a text searched for: once each.

    `customer` and `item` are positions, sorted by customer and by `second` (epoch), when the item first came; `place`
    counts a customer's items from 0. `words` (items x len(vocabulary)) is 1 where an item has a word: a product's id,
    its category and those above it, brand and title, a search's text.
    """

    customer_ids: np.ndarray
    customer: np.ndarray
    item: np.ndarray
    place: np.ndarray
    second: np.ndarray
    words: sp.csr_matrix
    vocabulary: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Items by customer."""
        return np.bincount(self.customer, minlength=len(self.customer_ids))

    @property
    def counts(self) -> sp.csr_matrix:
        """customers x vocabulary: how many items have the word."""
        ones = np.ones(len(self.customer), dtype=np.float32)
        shape = len(self.customer_ids), self.words.shape[0]
        return sp.csr_matrix((ones, (self.customer, self.item)), shape) @ self.words

    def first(self, most: int) -> Histories:
        """As they were when each customer had `most` items."""
        return self._kept(self.place < most)

    def until(self, time: datetime) -> Histories:
        """As they were at a moment."""
        return self._kept(self.second <= time.timestamp())

    def of_customers(self, customers: pa.Array | pa.ChunkedArray) -> Histories:
        """Some customers, by their ids, sorted."""
        return self.of(np.searchsorted(self.customer_ids, np.array(customers.to_pylist(), dtype=np.str_)))

    def of(self, rows: np.ndarray) -> Histories:
        """Some customers, by their positions in rising order."""
        at = np.full(len(self.customer_ids), -1)
        at[rows] = np.arange(len(rows))
        kept = self._kept(at[self.customer] >= 0)
        return replace(kept, customer_ids=self.customer_ids[rows], customer=at[kept.customer])

    def _kept(self, keep: np.ndarray) -> Histories:
        columns = {name: getattr(self, name)[keep] for name in ("customer", "item", "place", "second")}
        return replace(self, **columns)


def read(tables: Tables, as_of: datetime, shop: Shop, customers: Collection[str]) -> Histories:
    """The items of these customers that were known as of a moment; nothing of others is read."""
    ids = np.unique(np.array(list(customers), dtype=np.str_))
    rows = once(tables, as_of, shop, ibis.memtable(pa.table({"customer_id": pa.array(ids, pa.string())})))
    return of_rows(ids, rows.to_pyarrow(), words_of_products(tables))


def once(tables: Tables, as_of: datetime, shop: Shop, wanted: ir.Table) -> ir.Table:
    """customer_id, key, second (when it first came) of the items of the customers that `wanted` (customer_id) lists."""
    facts = gather(tables, as_of, shop)
    events = facts.events.filter(facts.events.age < HISTORY).semi_join(wanted, "customer_id")
    looked = events.filter(events.event_name.isin(LOOKED_AT), events.product_id.notnull())
    bought = facts.lines.filter(facts.lines.bought, facts.lines.age < HISTORY).semi_join(wanted, "customer_id")
    searched = events.filter(events.event_name == "search", events["query"].notnull())
    rows: ir.Table = ibis.union(
        looked.select("customer_id", "second", key=ibis.literal("p:") + looked.product_id),
        bought.select("customer_id", "second", key=ibis.literal("p:") + bought.product_id),
        searched.select("customer_id", "second", key=ibis.literal("q:") + searched["query"].lower()),
    )
    return rows.group_by("customer_id", "key").aggregate(second=rows.second.min())


def words_of_products(tables: Tables) -> dict[str, list[str]]:
    """By key."""
    products = tables("products").select("product_id", "category", "brand", "title").to_pyarrow().to_pylist()
    return {f"p:{row['product_id']}": words_of_product(row) for row in products}


def of_rows(ids: np.ndarray, rows: pa.Table, told: Mapping[str, list[str]]) -> Histories:
    """Histories of the customers `ids` (sorted) from the rows of `once`."""
    whose, keys = (rows[name].combine_chunks() for name in ("customer_id", "key"))
    return from_arrays(ids, whose, keys, rows["second"].to_numpy(), told)


def from_arrays(
    ids: np.ndarray, customers: pa.Array, keys: pa.Array, second: np.ndarray, told: Mapping[str, list[str]]
) -> Histories:
    """Histories of the customers `ids` (sorted) from aligned columns: no other customer stands in them.

    A key is `p:` with a product's id, or `q:` with a search's text; `told` has the words of products.
    """
    encoded = keys.dictionary_encode()
    names = np.array(encoded.dictionary.to_pylist(), dtype=np.str_)
    rank = np.argsort(names)
    item = np.argsort(rank)[encoded.indices.to_numpy()]
    items = names[rank].tolist()
    words = [told.get(v, [v]) if v[0] == "p" else [f"w:{w}" for w in words_of(v[2:])] for v in items]
    vocabulary, column = np.unique(np.array([w for some in words for w in some], np.str_), return_inverse=True)
    row = np.repeat(np.arange(len(items)), [len(some) for some in words])
    shape = len(items), len(vocabulary)
    has = sp.csr_matrix((np.ones(len(row), dtype=np.float32), (row, column)), shape)
    has.data[:] = 1.0  # a word may come twice
    customer = pc.index_in(customers, pa.array(ids, pa.string())).to_numpy()
    order = np.lexsort((item, second, customer))
    customer = customer[order]
    place = np.arange(len(order)) - np.searchsorted(customer, customer)
    return Histories(ids, customer, item[order], place, second[order], has, vocabulary)


def words_of_product(row: dict[str, str | None]) -> list[str]:
    """`p:` its id, `c:` each level of its category, `b:` its brand, `w:` the words of its title."""
    levels = [level.strip() for level in (row["category"] or "").split(">") if level.strip()]
    brand = (row["brand"] or "").strip().lower()
    return [
        f"p:{row['product_id']}",
        *(f"c:{' > '.join(levels[:depth])}" for depth in range(1, len(levels) + 1)),
        *([f"b:{brand}"] if brand else []),
        *(f"w:{word}" for word in title_words(row["title"], brand)),
    ]


NOBODY = from_arrays(np.array([], np.str_), pa.array([], pa.string()), pa.array([], pa.string()), np.arange(0), {})
