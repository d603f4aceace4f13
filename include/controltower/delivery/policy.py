"""The last check before a message leaves: may it still, now? A function of values."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from controltower.campaigns import timing
from controltower.campaigns.specs import Window
from controltower.delivery.providers.base import Provider
from controltower.profiles.contacts import Contact
from controltower.settings import Settings
from controltower.shop import QuietHours, Shop


@dataclass(frozen=True)
class Facts:
    """What holds at this moment for the customers of one batch, as sets of customer ids, and one of devices."""

    granted: AbstractSet[str]
    night: AbstractSet[str]
    suppressed: AbstractSet[str]  # themselves, or by their address
    suppressed_devices: AbstractSet[str]
    capped: AbstractSet[str]
    unprofiled: AbstractSet[str] = frozenset()  # chosen by what was inferred of them, and don't agree to that now
    doubled: AbstractSet[str] = frozenset()  # whom another message of the occasion reaches, by another of their ids


@dataclass(frozen=True)
class Refusal:
    """Why a message may not leave now; with `until` it is deferred, else it is dropped."""

    reason: str
    until: datetime | None = None


def without_suppressed_devices(contact: Contact, facts: Facts) -> Contact:
    return replace(contact, devices=tuple(d for d in contact.devices if d.device_id not in facts.suppressed_devices))


@dataclass(frozen=True)
class Check:
    """What messages are judged by that share a channel, a window and an end, at one moment."""

    channel: str
    facts: Facts
    now: datetime
    expires_at: datetime
    window: Window
    quiet: QuietHours | None
    _by_hours: dict[tuple[ZoneInfo, bool], Refusal | None] = field(default_factory=dict, init=False, repr=False)

    def refusal(self, contact: Contact | None) -> Refusal | None:
        """The first reason that holds, in a fixed order; None: it may leave."""
        if self.now > self.expires_at:
            return Refusal("expired")
        if contact is None:
            return Refusal("customer_gone")
        customer, facts = contact.customer_id, self.facts
        if customer in facts.doubled:
            return Refusal("merged")
        if customer not in facts.granted:
            return Refusal("no_consent")
        if customer in facts.unprofiled:
            return Refusal("no_profiling_consent")
        if customer in facts.suppressed:
            return Refusal("suppressed")
        if not (contact.email if self.channel == "email" else self.channel in contact.channels):
            return Refusal("no_address" if self.channel == "email" else "no_device")
        if customer in facts.capped:
            return Refusal("frequency_cap")
        avoid_night = timing.night_rule_applies(self.channel, contact.country, contact.zone)
        clock = contact.zone, avoid_night and customer not in facts.night
        if clock not in self._by_hours:  # many share one
            self._by_hours[clock] = self._refusal_by_hours(*clock)
        return self._by_hours[clock]

    def _refusal_by_hours(self, zone: ZoneInfo, avoid_night: bool) -> Refusal | None:
        hours = timing.Hours(self.window, zone, avoid_night, self.quiet)
        if why := hours.refusal(self.now):
            until = hours.next_allowed(self.now)
            return Refusal("expired") if until is None or until > self.expires_at else Refusal(why, until=until)
        return None


def unfit_to_send(settings: Settings, shop: Shop, provider: Provider) -> str | None:
    """Why messages may not leave this machine yet; None where they may, or go to this machine's own sandbox.

    The law wants a sender who can be reached, and mailbox providers an https link to unsubscribe (RFC 8058).
    """
    if provider.local:
        return None
    sender = shop.sender
    if sender.email.endswith(".example") or "(postal address)" in sender.postal_address:
        return f"The sender in {settings.shop_file} is still a placeholder."
    if not settings.public_url.startswith("https://"):
        return "CONTROLTOWER_PUBLIC_URL must be an https address: unsubscribe links lead there."
    return None


def is_local(url: str) -> bool:
    """Whether a provider's address is this machine or a container beside it (one label, no dot): the sandbox."""
    host = urlsplit(url).hostname or ""
    return host.startswith("127.") or host == "::1" or re.fullmatch(r"[a-z][a-z0-9-]*", host) is not None
