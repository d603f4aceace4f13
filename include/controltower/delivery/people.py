"""Who a batch is for and what it shows them, read from the lake for many batches at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

from controltower.campaigns.composing import CatalogueItem, catalogue
from controltower.data.lake import Reading
from controltower.ledger import plans, work
from controltower.ledger.database import reading
from controltower.profiles.contacts import Contact, contacts
from controltower.settings import Settings
from controltower.shop import Shop

Picks = Sequence[Mapping[str, Any]]

_AHEAD = 20_000  # messages whose customers are looked up together: a look costs as much for one as for thousands


class People:
    """The customers of the batches at hand and of those that follow; `items` is the catalogue as far as it is shown."""

    def __init__(self, settings: Settings, shop: Shop, lake: Reading) -> None:
        self._settings, self._shop, self._lake = settings, shop, lake
        self._looked_up: set[str] = set()
        self._contacts: dict[str, Contact] = {}
        self._following: dict[int, list[str]] = {}  # by run, the customers whose choices may be read ahead
        self._picks: dict[int, Mapping[str, Picks]] = {}  # by run and customer: they never change
        self.items: dict[str, CatalogueItem] = {}

    def fetch(self, batch: work.Batch) -> tuple[dict[str, Contact], Mapping[str, Picks]]:
        """The contacts of a batch's unsettled messages, and the products that its run picked for them, by customer."""
        customers = [m.customer_id for m in batch.unsettled]
        if not self._looked_up.issuperset(customers):
            self._look_up(batch, customers)
        picks: Mapping[str, Picks] = self._picks.get(batch.run_id, {})
        if not picks.keys() >= set(customers):
            following = self._following.pop(batch.run_id, ())
            with reading(self._settings) as ledger:
                picks = plans.picks(ledger, batch.run_id, {*customers, *following})
            if following:  # the others' are read batch by batch, and not kept
                self._picks[batch.run_id] = picks
            different = {id(pick): pick for pick in chain.from_iterable(picks.values())}
            self._show({pick["product_id"] for pick in different.values()})
        return {c: self._contacts[c] for c in customers if c in self._contacts}, picks

    def _look_up(self, batch: work.Batch, customers: Collection[str]) -> None:
        """Those looked up before make room: memory must not grow with the audience."""
        following: dict[int, list[str]] = {}
        with reading(self._settings) as ledger:
            for customer, run_id in work.following(ledger, batch, _AHEAD):
                following.setdefault(run_id, []).append(customer)
        self._contacts, self._picks, self._following = {}, {}, following
        together = set(customers).union(*following.values())
        self._contacts = contacts(self._lake, self._shop, together)
        self._looked_up = together

    def _show(self, products: set[str]) -> None:
        if missing := products - self.items.keys():
            self.items.update(catalogue(self._lake, sorted(missing)))
