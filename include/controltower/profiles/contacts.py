"""How to reach a customer: address, name, language, zone and devices. Personal data: never logged, never stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from controltower.data.lake import Reading
from controltower.settings import Shop

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
        return frozenset([*["email"] * bool(self.email), *["push"] * bool(self.devices)])


def contact_of(reading: Reading, shop: Shop, customer_id: str) -> Contact | None:
    """One customer's contact as of the reading; None where the shop has no such customer."""
    return contacts(reading, shop, [customer_id]).get(customer_id)


def contacts(reading: Reading, shop: Shop, customers: Sequence[str]) -> dict[str, Contact]:
    """The contacts of the customers given, as of the reading. Devices come newest first."""
    table, devices = reading.table("customers"), reading.table("devices")
    wanted = list(customers)
    devices_of: dict[str, list[Device]] = {}
    found = devices.filter(devices.customer_id.isin(wanted), devices.push_token.notnull())
    for row in reading.arrow(
        found.order_by(found.last_seen_at.desc(nulls_first=False), found.device_id).select(
            "customer_id", "device_id", "push_token", "platform"
        )
    ).to_pylist():
        device = Device(row["device_id"], row["push_token"], row["platform"])
        devices_of.setdefault(row["customer_id"], []).append(device)
    columns = ("customer_id", "email", "locale", "country", "timezone", *_ATTRIBUTES)
    rows = reading.arrow(table.filter(table.customer_id.isin(wanted)).select(*columns)).to_pylist()
    return {
        row["customer_id"]: Contact(
            row["customer_id"],
            row["email"],
            row["locale"] or "",
            row["country"] or shop.country,
            _zone(row["timezone"], shop),
            {name: row[name] for name in _ATTRIBUTES},
            tuple(devices_of.get(row["customer_id"], ())),
        )
        for row in rows
    }


def _zone(name: str | None, shop: Shop) -> ZoneInfo:
    """A customer's zone; none, or one that this machine doesn't know, counts as the shop's."""
    try:
        return ZoneInfo(name) if name else shop.zone
    except (KeyError, ValueError, OSError):
        return shop.zone
