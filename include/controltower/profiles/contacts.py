"""How to reach a customer: address, name, language, zone and devices. Personal data: never logged, never stored."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from controltower.data.lake import Reading
from controltower.profiles.local_time import zone_of
from controltower.shop import Shop

_DEVICES = 20  # of a customer, the newest: who has more isn't one person
_NEWEST = [("last_seen_at", "descending", "at_end"), ("device_id", "ascending", "at_end")]
_ATTRIBUTES = ("first_name", "last_name", "gender", "loyalty_tier", "points", "home_store", "site")


@dataclass(frozen=True)
class Device:
    device_id: str
    push_token: str = field(repr=False)
    platform: str | None


@dataclass(frozen=True)
class Contact:
    """A customer as a sender knows them; `attributes` are what a template may use."""

    customer_id: str
    email: str | None = field(repr=False)
    locale: str
    country: str
    zone: ZoneInfo
    attributes: dict[str, Any] = field(repr=False)
    devices: tuple[Device, ...] = ()

    @property
    def channels(self) -> frozenset[str]:
        """The ways to reach them; an app can fetch messages for any customer."""
        return frozenset(["in_app", *["email"] * bool(self.email), *["push"] * bool(self.devices)])


def contact_of(reading: Reading, shop: Shop, customer_id: str) -> Contact | None:
    """One customer's contact as of the reading; None where the shop has no such customer."""
    return contacts(reading, shop, [customer_id]).get(customer_id)


def contacts(
    reading: Reading, shop: Shop, customers: Collection[str], attributes: Sequence[str] = _ATTRIBUTES
) -> dict[str, Contact]:
    """The contacts of the customers given, as of the reading, with these attributes. Devices come newest first."""
    devices_of: dict[str, list[Device]] = {}
    seen = ("customer_id", "device_id", "push_token", "platform", "last_seen_at")
    known = reading.of("devices", "customer_id", customers, seen)
    for customer, device_id, token, platform, _ in _rows(known.sort_by(_NEWEST)):
        theirs = devices_of.setdefault(customer, [])
        if token and not token.isspace() and len(theirs) < _DEVICES:
            theirs.append(Device(device_id, token, platform))
    columns = ("customer_id", "email", "locale", "country", "timezone", *attributes)
    zones: dict[tuple[str | None, str | None], ZoneInfo] = {}
    found = {}
    for customer, email, locale, country, zone, *about in _rows(
        reading.of("customers", "customer_id", customers, columns)
    ):
        if (zone, country) not in zones:
            zones[zone, country] = zone_of(zone, country, shop)
        found[customer] = Contact(
            customer, email, locale or "", country or shop.country, zones[zone, country],
            dict(zip(attributes, about, strict=True)), tuple(devices_of.get(customer, ())),
        )  # fmt: skip
    return found


def places(reading: Reading, shop: Shop, customers: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Each customer's email, zone and country, in their order; whom the shop doesn't know has no email, and its own."""
    columns = ("customer_id", "email", "country", "timezone")
    known = reading.of("customers", "customer_id", customers.to_pylist(), columns)
    theirs = known.take(pc.index_in(customers, known["customer_id"])).combine_chunks()
    zone, country = (
        theirs[name].fill_null("").dictionary_encode().unify_dictionaries().combine_chunks()
        for name in ("timezone", "country")
    )
    many = max(len(country.dictionary), 1)
    both, which = np.unique(zone.indices.to_numpy() * many + country.indices.to_numpy(), return_inverse=True)
    named = [
        zone_of(zone.dictionary[z].as_py(), country.dictionary[c].as_py(), shop).key
        for z, c in (divmod(code, many) for code in both.tolist())
    ]
    return {
        "email": theirs["email"],
        "zone": pa.DictionaryArray.from_arrays(pa.array(which, pa.int32()), pa.array(named, pa.string())),
        "country": pc.if_else(pc.equal(theirs["country"], ""), None, theirs["country"]).fill_null(shop.country),
    }


def devices(reading: Reading, customers: pa.ChunkedArray) -> pa.Table:
    """The newest devices of customers that a push can go to: device_id, push_token, and `place` among the customers."""
    seen = ("customer_id", "device_id", "push_token", "last_seen_at")
    found = reading.of("devices", "customer_id", customers.to_pylist(), seen)
    token = found["push_token"]
    found = found.filter(pc.and_(pc.not_equal(token, ""), pc.invert(pc.utf8_is_space(token))))
    found = found.append_column("place", pc.index_in(found["customer_id"], customers))
    found = found.sort_by([("place", "ascending"), *_NEWEST]).select(["device_id", "push_token", "place"])
    place = found["place"].to_numpy()
    before = np.arange(len(place)) - np.searchsorted(place, place)
    return found.filter(pa.array(before < _DEVICES))


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Row by row, column-wise made: half of what a dictionary for each costs."""
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
