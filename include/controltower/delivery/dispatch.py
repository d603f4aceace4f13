"""Sending what is due: claim a batch, check each message once more, note the requests, send, note the results."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa

from controltower import clock
from controltower.campaigns import specs
from controltower.campaigns.composing import CatalogueItem, Composer, catalogue
from controltower.data.lake import Reading
from controltower.delivery.policy import Facts, refusal, unfit_to_send, without_suppressed_devices
from controltower.delivery.providers import fcm, sendgrid
from controltower.delivery.providers.base import Provider, Result
from controltower.errors import BadSettings, BadSpec, ProviderDown
from controltower.ledger import caps, consents, plans, runs, suppressions, work
from controltower.ledger.database import begin, reading
from controltower.profiles.contacts import Contact, contacts
from controltower.settings import Settings, Shop

log = logging.getLogger(__name__)
T = TypeVar("T")

PROVIDERS: dict[str, Callable[[Settings], Provider]] = {"email": sendgrid.SendGrid, "push": fcm.Fcm}
_AT_ONCE = 8  # calls in flight; as many are unknown if the worker dies
_CHECKED_AT_ONCE = 40  # messages whose permissions are looked up together, just before they leave
_PAUSE = 30.0  # seconds before a provider in trouble is tried again, doubled with each attempt
_LONGEST_PAUSE = 3600.0


@dataclass(frozen=True)
class Send:
    """One call to a provider: one message, to one device where it is a push."""

    seq: int
    payload: Mapping[str, Any]
    device_id: str | None = None


@dataclass(frozen=True)
class People:
    """Who a batch is for and what it shows them, by customer id; `items` by product id."""

    who: Mapping[str, Contact]
    hashes: Mapping[str, str]
    picks: Mapping[str, Sequence[Mapping[str, Any]]]
    items: Mapping[str, CatalogueItem]


@dataclass
class Report:
    """What one dispatch did; `trouble` says per channel why it stopped."""

    requests: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    deferred: int = 0
    batches: int = 0
    trouble: dict[str, str] = field(default_factory=dict)


class Dispatcher:
    """Sends what is due until nothing is, or each channel is in trouble."""

    def __init__(self, settings: Settings, shop: Shop, lake: Reading) -> None:
        self.settings = settings
        self.shop = shop
        self.lake = lake
        self.report = Report()
        self._providers: dict[str, Provider] = {}
        self._composers: dict[int, Composer] = {}

    def run(self) -> Report:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                while claimed := self._claim():
                    self._dispatch(*claimed, pool)
            finally:
                for provider in self._providers.values():
                    provider.close()
        return self.report

    def _claim(self) -> tuple[work.Batch, str] | None:
        channels = [c for c in PROVIDERS if c not in self.report.trouble]
        with begin(self.settings) as ledger:
            return work.claim(ledger, self._now(), channels) if channels else None

    def _dispatch(self, batch: work.Batch, token: str, pool: ThreadPoolExecutor) -> None:
        self.report.batches += 1
        try:
            retry_in = self._work_on(batch, token, pool)
            with begin(self.settings) as ledger:
                done = work.release(ledger, batch, token, self._now(), retry_in=retry_in)
        except work.LeaseLost:
            log.warning("batch %d was taken over by another worker", batch.batch_id)
            return
        except BaseException:  # interrupted: the next worker need not wait for the lease to run out
            with suppress(work.LeaseLost), begin(self.settings) as ledger:
                work.release(ledger, batch, token, self._now())
            raise
        log.info(
            "batch %d of %d messages: %s", batch.batch_id, len(batch.messages), "done" if done else "to be resumed"
        )

    def _work_on(self, batch: work.Batch, token: str, pool: ThreadPoolExecutor) -> float:
        """Send what can be sent of a batch. Returns the pause wanted before what is left."""
        if self._now() > batch.expires_at:  # asks for neither template nor credentials, so that all messages end
            self._drop(batch, token, [(m.seq, "not_sent", "expired") for m in batch.unsettled])
            return 0.0
        try:
            provider = self._provider(batch.channel)
            composer = self._composer(batch.run_id)
        except BadSettings as e:
            self.report.trouble[batch.channel] = str(e)
            return _PAUSE
        except BadSpec as e:
            self.report.trouble[f"run {batch.run_id}"] = str(e)
            return _LONGEST_PAUSE
        people = self._people(batch)
        for some in _groups(batch.unsettled, _CHECKED_AT_ONCE):
            sends = self._check(batch, token, composer, people, some)
            for group in _groups(sends, _AT_ONCE):
                pause = self._send(batch, token, provider, group, pool)
                if pause is not None:
                    return pause
        return _PAUSE

    def _people(self, batch: work.Batch) -> People:
        """Who a batch is for and what it shows them."""
        customers = [m.customer_id for m in batch.unsettled]
        who = contacts(self.lake, self.shop, customers)
        key = self.settings.signing_key()
        with reading(self.settings) as ledger:
            picks = plans.picks(ledger, batch.run_id, customers)
        items = catalogue(self.lake, sorted({p["product_id"] for ps in picks.values() for p in ps}))
        hashes = {c.customer_id: suppressions.address_hash(key, c.email) for c in who.values() if c.email}
        return People(who, hashes, picks, items)

    def _check(
        self, batch: work.Batch, token: str, composer: Composer, people: People, some: Sequence[work.Message]
    ) -> list[Send]:
        """Check and compose a few messages; refused ones get their outcome here."""
        now, spec = self._now(), composer.spec
        who = {m.customer_id: people.who[m.customer_id] for m in some if m.customer_id in people.who}
        with reading(self.settings) as ledger:
            hashes = [people.hashes[c] for c in who if c in people.hashes]
            key = self.settings.signing_key()
            facts = gather(ledger, self.shop, spec.purpose, batch.channel, who, hashes, now, key)
        sends: list[Send] = []
        dropped: list[tuple[int, str, str]] = []
        deferred: dict[datetime, list[int]] = {}
        for message in some:
            contact = who.get(message.customer_id)
            if contact is not None:
                contact = without_suppressed_devices(contact, facts)
            refused = refusal(
                contact, batch.channel, people.hashes.get(message.customer_id), facts,
                now=now, expires_at=batch.expires_at, window=spec.window,
            )  # fmt: skip
            if refused and refused.until:
                deferred.setdefault(refused.until, []).append(message.seq)
                continue
            if refused or contact is None:
                dropped.append((message.seq, "not_sent", refused.reason if refused else "customer_gone"))
                continue
            try:
                sends.extend(_compose(composer, batch, message, contact, people, now))
            except BadSpec as e:
                log.warning("message %s can't be composed: %s", message.message_id, e.what)
                dropped.append((message.seq, "rejected", "not_composed"))
        self._drop(batch, token, dropped)
        self.report.deferred += sum(len(seqs) for seqs in deferred.values())
        with begin(self.settings) as ledger:
            for until, seqs in deferred.items():
                work.defer(ledger, batch, token, seqs, until)
        return sends

    def _drop(self, batch: work.Batch, token: str, dropped: Sequence[tuple[int, str, str]]) -> None:
        self.report.refused.update(reason for _, _, reason in dropped)
        with begin(self.settings) as ledger:
            work.drop(ledger, batch, token, dropped, self._now())

    def _send(
        self, batch: work.Batch, token: str, provider: Provider, group: Sequence[Send], pool: ThreadPoolExecutor
    ) -> float | None:
        """Send a small group, written down before and after. Returns when to go on, where this batch must stop."""
        if stop := provider.trouble():
            self.report.trouble[batch.channel] = stop
            return _pause(batch)
        members = [([s.seq], s.device_id) for s in group]
        try:
            with begin(self.settings) as ledger:
                ids = work.open_requests(ledger, batch, token, provider.name, members, self._now())
        except work.RunHeld:
            log.info("run %d was paused, cancelled or replaced: batch %d is given back", batch.run_id, batch.batch_id)
            return 0.0
        calls = [pool.submit(_post, provider, s.payload) for s in group]
        try:
            wait(calls)
        finally:  # also when interrupted: what was asked is written down
            results = [call.result() for call in calls]
            rows = [_row(i, r) for i, r in zip(ids, results, strict=True)]
            with begin(self.settings) as ledger:
                work.close_requests(ledger, batch, token, rows, self._now())
                self._bury(ledger, provider, group, results)
        self.report.requests.update(r.state for r in results)
        stop = next((r.stop for r in results if r.stop), None)
        none_left = all(r.state in ("retry", "unknown") for r in results)
        # Eight refusals in a row are our fault rather than eight messages'. But dead tokens come in rows: old devices.
        all_refused = len(results) == _AT_ONCE and all(
            r.state == "rejected" and r.reason not in fcm.DEAD_TOKEN for r in results
        )
        if not (stop or none_left or all_refused):
            return None
        self.report.trouble[batch.channel] = stop or f"{provider.name}: {results[0].reason}"
        return max((r.retry_in for r in results if r.retry_in), default=_pause(batch))

    def _bury(
        self, ledger: sa.Connection, provider: Provider, group: Sequence[Send], results: Sequence[Result]
    ) -> None:
        """Suppress the push tokens that the provider called dead; a new token of the same device works again."""
        key = self.settings.signing_key()
        for send, result in zip(group, results, strict=True):
            if send.device_id is not None and result.reason in fcm.DEAD_TOKEN:
                dead = suppressions.address_hash(key, send.payload["message"]["token"])
                suppressions.add(
                    ledger, "address", dead, channel="push", reason="dead_token", source=provider.name, now=self._now()
                )

    def _provider(self, channel: str) -> Provider:
        if channel not in self._providers:
            provider = PROVIDERS[channel](self.settings)
            if unfit := unfit_to_send(self.settings, self.shop, channel):
                raise BadSettings(unfit, "`controltower doctor` tells all that is amiss.")
            self._providers[channel] = provider
        return self._providers[channel]

    def _composer(self, run_id: int) -> Composer:
        if run_id not in self._composers:
            with reading(self.settings) as ledger:
                run = runs.known(ledger, run_id)
            composer = Composer.of(self.settings, self.shop, specs.validate(dict(run.spec), f"run {run_id}"))
            if composer.template.content_hash != run.content_hash:
                raise BadSpec(
                    f"The template {run.spec['template']!r} has changed since run {run_id} was planned.",
                    f"Plan {run.campaign} again: a new version takes the place of what is unsent.",
                )
            self._composers[run_id] = composer
        return self._composers[run_id]

    def _now(self) -> datetime:
        return clock.now(self.settings)


def gather(
    ledger: sa.Connection,
    shop: Shop,
    purpose: str,
    channel: str,
    who: Mapping[str, Contact],
    hashes: Sequence[str],
    now: datetime,
    key: bytes,
) -> Facts:
    """What the ledger says at this moment of the customers of a batch."""
    customers = list(who)
    tokens = {d.device_id: suppressions.address_hash(key, d.push_token) for c in who.values() for d in c.devices}
    capped: set[str] = set()
    for cap in shop.frequency_caps:
        if cap.channel in (None, channel):
            since = now - timedelta(days=cap.days)
            sent = caps.counts(ledger, since, now, customers=customers, channel=cap.channel, with_planned=False)
            capped.update(customer for customer, n in sent.items() if n >= cap.most)
    return Facts(
        granted=consents.granted(ledger, channel, purpose, now, customers),
        night=consents.granted(ledger, channel, "night_marketing", now, customers),
        suppressed_customers=suppressions.held(ledger, "customer", channel, purpose, now, customers),
        suppressed_addresses=suppressions.held(ledger, "address", channel, purpose, now, hashes),
        suppressed_devices=suppressions.held(ledger, "device", channel, purpose, now, tokens)
        | suppressions.dead_devices(ledger, tokens, purpose, now),
        capped=capped,
    )


def _compose(
    composer: Composer, batch: work.Batch, message: work.Message, contact: Contact, people: People, now: datetime
) -> Iterator[Send]:
    context = composer.context(contact, people.picks[message.customer_id], people.items, message.message_id)
    campaign = composer.spec.name
    if batch.channel == "email":
        email = composer.email(context, message.variant)
        assert contact.email is not None  # policy refuses those without
        yield Send(
            message.seq,
            sendgrid.payload(
                email, to=contact.email, shop=composer.shop, message_id=message.message_id,
                campaign=campaign, variant=message.variant,
            ),
        )  # fmt: skip
        return
    push = composer.push(context, message.variant)
    tried = batch.attempted.get(message.seq, {})
    for device in contact.devices:
        if device.device_id not in tried or tried[device.device_id].state == "retry":
            body = fcm.payload(push, token=device.push_token, campaign=campaign, ttl=batch.expires_at - now)
            yield Send(message.seq, body, device.device_id)


def _post(provider: Provider, payload: Mapping[str, Any]) -> Result:
    """Post, and whatever goes wrong in our own code is an unknown outcome too; its text could quote an address."""
    try:
        return provider.post(payload)
    except Exception as e:
        log.error("%s: %s while posting", provider.name, type(e).__name__)
        return Result("unknown", f"error:{type(e).__name__}")


def _pause(batch: work.Batch) -> float:
    return min(_PAUSE * 2**batch.attempts, _LONGEST_PAUSE)


def _row(request_id: int, result: Result) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "state": result.state,
        "reason": result.reason,
        "http_status": result.http_status,
        "provider_message_id": result.provider_message_id,
    }


def _groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def raise_trouble(report: Report) -> None:
    """One error for the channels that couldn't be served."""
    if report.trouble:
        what = "; ".join(f"{channel}: {why}" for channel, why in report.trouble.items())
        raise ProviderDown(
            f"Not everything that is due could be sent: {what}", "The rest is sent by the next dispatch."
        )
