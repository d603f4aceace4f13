"""Which of the shop's collections (exhibitions, offers, events) suits whom: recommenders that are asked of collections.

Who bought or viewed a product took all running collections that hold it. So a collection that began today has a past,
and every algorithm can rank it. Collections change faster than models are trained: at each scoring, those that the
training chose learn again from the collections of the day.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.history import Allowed
from controltower.models.recommend.interactions import MOST_ENTRIES, Interactions, from_positions, positions
from controltower.models.recommend.searches import Collections, read_collections
from controltower.models.recommend.today import Known, Today


def taken(products: Interactions, collections: Collections) -> Interactions:
    """Entries of products as entries of the collections that hold them; a product in none is left out."""
    at = positions(products.product_ids, collections.product_ids)
    held = at >= 0
    holders = sp.csr_matrix(
        (np.ones(int(held.sum()), np.int8), (at[held], collections.collection[held])),
        (len(products.product_ids), len(collections.collection_ids)),
    )
    holders.sum_duplicates()
    count = np.diff(holders.indptr)[products.product]
    kept = _latest(products, count)
    products, count = products.where(kept), count[kept]
    entry = np.repeat(np.arange(len(products)), count)
    within = np.arange(len(entry)) - np.repeat(count.cumsum() - count, count)
    collection = holders.indices[holders.indptr[products.product[entry]] + within]
    made = from_positions(
        products.customer_ids, collections.collection_ids, products.customer[entry], collection,
        products.second[entry], products.kind[entry], products.until,
    )  # fmt: skip
    columns = made.customer, made.second, made.product, made.kind
    again = np.r_[False, np.all([np.diff(c) == 0 for c in columns], axis=0)][: len(made)]  # of one order, of one day
    return replace(made.where(~again), segments=products.segments)


def _latest(products: Interactions, count: np.ndarray) -> np.ndarray:
    """Mask of the entries of which something is left where a customer's latest MOST_ENTRIES are kept.

    Where any are left out, those that are left count more than MOST_ENTRIES: `from_positions` cuts, and says so.

    count: as how many each counts
    """
    so_far = np.r_[0, count.cumsum()]
    moment = np.r_[np.diff(products.customer), 1][: len(products)] != 0
    moment |= np.r_[np.diff(products.second), 1][: len(products)] != 0
    ends = np.flatnonzero(moment)
    end_of_moment = ends[np.searchsorted(ends, np.arange(len(products)))]
    end_of_customer = np.searchsorted(products.customer, products.customer, side="right") - 1
    return np.asarray(so_far[end_of_customer + 1] - so_far[end_of_moment + 1] <= MOST_ENTRIES)


class Offers(Known):
    """What is known over the running collections; `product_ids` are their ids."""

    collections: Collections

    @classmethod
    def of(cls, today: Today) -> Offers:
        collections = read_collections(today.tables, today.as_of)
        made = cls(today, collections.collection_ids)
        made.__dict__["collections"] = collections
        return made

    @cached_property
    def _products(self) -> Known:
        return self.today.of(np.unique(self.collections.product_ids))

    @cached_property
    def customers(self) -> Interactions:
        return taken(self._products.customers, self.collections)

    @cached_property
    def visitors(self) -> Interactions:
        return taken(self._products.visitors, self.collections)

    @cached_property
    def catalogue(self) -> Catalogue:
        count = len(self.product_ids)
        nothing, unknown = np.full(count, "", dtype=object), np.full(count, np.nan)
        titles = np.array([title or "" for title in self.collections.titles.tolist()], dtype=object)
        return Catalogue(
            self.product_ids, titles, nothing, nothing, unknown, unknown, np.full(count, np.datetime64("NaT"), "M8[us]")
        )

    @cached_property
    def allowed(self) -> dict[str, Allowed]:
        """By site: its collections and those of all sites; these alone where the site isn't known."""
        rows = self.today.tables("collections").select("collection_id", "site").to_pyarrow()
        at = positions(self.product_ids, np.array(rows["collection_id"].to_pylist(), dtype=np.str_))
        site = np.full(len(self.product_ids), "", dtype=object)
        site[at[at >= 0]] = np.array([s or "" for s in rows["site"].to_pylist()], dtype=object)[at >= 0]
        masks = {name: (site == "") | (site == name) for name in {"", *site.tolist()}}
        return {name: Allowed(mask, mask) for name, mask in masks.items()}

    @property
    def messages_ago(self) -> None:
        """Messages show products."""

    @cached_property
    def subscribed(self) -> sp.csr_matrix:
        return sp.csr_matrix(self.customers.shape, dtype=np.uint8)
