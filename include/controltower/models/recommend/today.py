"""All that lists are made of on one day, read once for all placements of products, and once for offers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.history import Allowed, read, read_allowed, read_visitors
from controltower.models.recommend.interactions import Interactions, positions
from controltower.profiles.facts.tables import Tables
from controltower.shop import Shop


@dataclass(frozen=True)
class Today:
    """What is known as of a date. `of` reads it over the products that models were trained on, the same ones once.

    shown: which products customers' last messages showed (rows of `ledger.shown.SCHEMA`); None: that isn't asked
    """

    tables: Tables
    as_of: datetime
    shop: Shop
    shown: pa.Table | None = None

    def of(self, product_ids: np.ndarray) -> Known:
        """Over these sorted product_ids: models trained together have the same."""
        for known in self._read:
            if np.array_equal(known.product_ids, product_ids):
                return known
        self._read.append(Known(self, product_ids))
        return self._read[-1]

    @cached_property
    def _read(self) -> list[Known]:
        return []


@dataclass(frozen=True)
class Known:
    """What is known over some sorted product_ids, each part read when it is asked for."""

    today: Today
    product_ids: np.ndarray

    @cached_property
    def customers(self) -> Interactions:
        """The history of all known customers."""
        return read(self.today.tables, self.today.as_of, self.today.shop, self.product_ids)

    @cached_property
    def visitors(self) -> Interactions:
        """The history of who was here lately and isn't known to be a customer."""
        return read_visitors(self.today.tables, self.today.as_of, self.product_ids)

    @cached_property
    def catalogue(self) -> Catalogue:
        catalogue = self.customers.catalogue
        assert catalogue is not None  # `read` brings it
        return catalogue

    @cached_property
    def allowed(self) -> dict[str, Allowed]:
        """What may be shown by site, "" everywhere."""
        return read_allowed(self.today.tables, self.today.as_of, self.product_ids)

    @cached_property
    def subscribed(self) -> sp.csr_matrix:
        """customers x products: 1 where the customer gets it by subscription."""
        rows = self.today.tables("subscriptions")
        active = rows.filter(rows.status.fill_null("active").lower() == "active")
        ids = active.select("customer_id", "product_id").to_pyarrow()
        who, what = (np.array(ids[name].to_pylist(), dtype=np.str_) for name in ("customer_id", "product_id"))
        customer, product = self.customers.rows_of(who), positions(self.product_ids, what)
        known = (customer >= 0) & (product >= 0)
        ones = np.ones(int(known.sum()), np.uint8)
        matrix = sp.csr_matrix((ones, (customer[known], product[known])), self.customers.shape)
        matrix.data[:] = 1
        return matrix

    @cached_property
    def messages_ago(self) -> sp.csr_matrix | None:
        """customers x products: how many messages ago it was last shown, 1 is the last; None: that isn't asked."""
        rows = self.today.shown
        if rows is None:
            return None
        who, what = (np.array(rows[name].to_pylist(), dtype=np.str_) for name in ("customer_id", "product_id"))
        customer, product = self.customers.rows_of(who), positions(self.product_ids, what)
        known = (customer >= 0) & (product >= 0)
        ago = rows["ago"].to_numpy()[known]
        return sp.csr_matrix((ago, (customer[known], product[known])), self.customers.shape)
