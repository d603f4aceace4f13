"""Who a batch is for and what it shows them, read from the lake for many batches at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from controltower.campaigns.composing import CatalogueItem, catalogue
from controltower.data.lake import Reading
from controltower.ledger import plans, suppressions, work
from controltower.ledger.database import reading
from controltower.profiles.contacts import Contact, contacts
from controltower.settings import Settings
from controltower.shop import Shop

_AHEAD = 20_000  # messages whose customers are looked up together: a look costs as much for one as for thousands


class People:
    """The customers of the batches at hand and of those that follow; `items` is the catalogue as far as it is shown."""

    def __init__(self, settings: Settings, shop: Shop, lake: Reading) -> None:
        self._settings, self._shop, self._lake = settings, shop, lake
        self._key = settings.signing_key()
        self._looked_up: set[str] = set()
        self._contacts: dict[str, Contact] = {}
        self.items: dict[str, CatalogueItem] = {}

    def fetch(self, batch: work.Batch) -> tuple[dict[str, Contact], Mapping[str, Mapping[str, Any]]]:
        """The contacts of a batch's unsettled messages, and what its run chose for them, by customer."""
        customers = [m.customer_id for m in batch.unsettled]
        with reading(self._settings) as ledger:
            chosen = plans.choices(ledger, batch.run_id, customers)
            if not self._looked_up.issuperset(customers):
                self._look_up({*customers, *work.following(ledger, batch, _AHEAD)})
        self._show({p["product_id"] for choice in chosen.values() for p in choice.get("products", ())})
        return {c: self._contacts[c] for c in customers if c in self._contacts}, chosen

    def address_hash(self, contact: Contact) -> str | None:
        return suppressions.address_hash(self._key, contact.email) if contact.email else None

    def _look_up(self, customers: Collection[str]) -> None:
        """Those looked up before make room: memory must not grow with the audience."""
        self._contacts = {}
        self._contacts = contacts(self._lake, self._shop, customers)
        self._looked_up = set(customers)

    def _show(self, products: set[str]) -> None:
        if missing := products - self.items.keys():
            self.items.update(catalogue(self._lake, sorted(missing)))
