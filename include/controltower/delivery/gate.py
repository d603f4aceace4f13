"""Whether a provider may be called now, and for how much: what the ledger knows of it, held against the rules."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta

import sqlalchemy as sa

from controltower import clock
from controltower.delivery import circuit
from controltower.delivery.limits import Allotment, Limits, Wanted, allot, returned
from controltower.delivery.providers.base import UNAUTHORIZED, Provider, Result
from controltower.delivery.providers.registry import check_rules
from controltower.ledger import providers, suppressions, work
from controltower.ledger.database import begin
from controltower.ledger.providers import FOREVER, Standing
from controltower.profiles.contacts import Contact
from controltower.settings import Settings
from controltower.shop import Shop

log = logging.getLogger(__name__)


class Gate:
    """Of one dispatcher; others have theirs, and the ledger holds them together. BadSettings for rules of nobody."""

    def __init__(self, settings: Settings, shop: Shop) -> None:
        check_rules(shop)
        self._settings, self._shop = settings, shop
        self._key = settings.signing_key()
        self._standings: dict[str, Standing] = {}

    def look(self, ledger: sa.Connection) -> None:
        """Learn how the providers stand now."""
        self._standings = providers.standings(ledger)

    def standing(self, name: str) -> Standing:
        """As it was when last looked at."""
        return self._standings.get(name) or Standing(name)

    def reopen(self, provider: Provider, now: datetime) -> None:
        """End the pause of a provider whose credentials were refused, where they are others now."""
        with begin(self._settings) as ledger:
            refused = providers.lock(ledger, provider.name).refused
            if refused and refused != self._proof(provider):
                providers.resume(ledger, provider.name, "new credentials", now)
                self._standings[provider.name] = Standing(provider.name)

    def note(self, ledger: sa.Connection, provider: Provider, results: Sequence[Result], messages: int) -> None:
        """Keep what results say of a provider; in the transaction in which they are written down."""
        if not circuit.tells(results, self.standing(provider.name)):
            return
        before = providers.lock(ledger, provider.name)
        after = circuit.after(before, results, messages, self._shop.rules_of(provider.name))
        if before.waits < FOREVER and any(r.reason == UNAUTHORIZED for r in results):
            after = after._replace(refused=self._proof(provider))
        providers.write(ledger, after)
        self._standings[provider.name] = after
        if after.waits > before.waits:
            log.warning("%s is paused for %.0f s: %s", provider.name, after.waits, after.why)

    def limits(self, name: str) -> Limits | None:
        return Limits.of(self._shop.rules_of(name), clock.today(self._settings, self._shop))

    def wanted(self, limits: Limits, message: work.Message, contact: Contact, channel: str) -> Wanted:
        """What a message takes of the limits: a push as much as it has devices."""
        if channel != "email":
            return Wanted(message.seq, n=max(len(contact.devices), 1) if channel == "push" else 1)
        domain = (contact.email or "").rpartition("@")[2].lower()
        if limits.of_domain(domain) is None:
            return Wanted(message.seq)
        # A rare domain tells who somebody is: the ledger names those that the shop's file does.
        named = domain in limits.rates
        return Wanted(message.seq, domain, domain if named else suppressions.address_hash(self._key, domain))

    def take(self, name: str, limits: Limits, wanted: Collection[Wanted], batch: work.Batch, token: str) -> Allotment:
        """Take what may leave now of the limits; defer what waits for its domain or for tomorrow."""
        with begin(self._settings) as ledger:
            found = allot(limits, wanted, providers.usage(ledger, name, limits.day, limits.buckets(wanted)))
            providers.take(ledger, name, limits.day, found.taken, found.buckets)
        if found.later or found.tomorrow:
            now = clock.now(self._settings)
            today = date.fromisoformat(limits.day) if limits.day else clock.today(self._settings, self._shop)
            tomorrow = clock.start_of(today + timedelta(days=1), self._shop)
            with begin(self._settings) as ledger:
                for wait, seqs in found.later:
                    work.defer(ledger, batch, token, seqs, now + timedelta(seconds=wait))
                if found.tomorrow:
                    work.defer(ledger, batch, token, found.tomorrow, tomorrow)
        return found

    def give_back(self, name: str, limits: Limits, unused: Collection[Wanted]) -> None:
        """Give back what was taken for messages that didn't leave."""
        with begin(self._settings) as ledger:
            rest = returned(limits, unused, providers.usage(ledger, name, limits.day, limits.buckets(unused)))
            providers.take(ledger, name, limits.day, rest.taken, rest.buckets)

    def told(self, name: str) -> str:
        """Why a provider is paused and what ends it, in one sentence."""
        standing = self.standing(name)
        if standing.waits == FOREVER:
            return f"{name} is paused until `controltower provider resume {name}`: {standing.why}"
        return f"{name} is paused for {standing.waits:.0f} s: {standing.why}"

    def _proof(self, provider: Provider) -> str:
        return suppressions.address_hash(self._key, provider.secret)
