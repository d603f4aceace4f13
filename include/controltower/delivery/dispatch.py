"""Sending what is due: claim a batch, check each message once more, note the requests, send, note the results."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controltower import clock
from controltower.campaigns import specs
from controltower.campaigns.composing import Composer
from controltower.content.splitting import SplitEmail
from controltower.data.lake import Reading
from controltower.delivery import last_check
from controltower.delivery.circuit import MOST, at_once
from controltower.delivery.gate import Gate
from controltower.delivery.limits import Limits, Wanted
from controltower.delivery.people import People
from controltower.delivery.policy import unfit_to_send
from controltower.delivery.providers.base import REFUSED_TOGETHER, Envelope, Outgoing, Parcel, Provider, Result
from controltower.delivery.providers.registry import CHANNELS, name_of, provider_of
from controltower.errors import BadSettings, BadSpec, ProviderDown
from controltower.ledger import providers, reports, runs, suppressions, work
from controltower.ledger.database import begin, reading
from controltower.profiles.contacts import Contact
from controltower.settings import Settings
from controltower.shop import Shop

log = logging.getLogger(__name__)

_FRESH = 2.0  # seconds: what leaves later than this after its last check is checked again
_PAUSE = 30.0  # seconds before a message is tried again that a provider didn't take, doubled with each time
_LONGEST_PAUSE = 3600.0
_THREADS = 64  # at most so many calls under way
_REFUSALS = 8  # refused messages in a row are our fault rather than the messages'

Checked = tuple[work.Message, Contact]  # one that may leave
Leaving = deque[Checked]


@dataclass
class Report:
    """What one dispatch did; `trouble` says per channel why it stopped."""

    requests: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    deferred: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    trouble: dict[str, str] = field(default_factory=dict)


@dataclass
class Work:
    """A claimed batch in hand."""

    batch: work.Batch
    token: str
    composer: Composer
    provider: Provider
    who: Mapping[str, Contact]
    chosen: Mapping[str, Mapping[str, Any]]
    limits: Limits | None  # of the provider
    refusals: int = 0  # in a row
    wait: float = 0.0  # seconds until what must be sent again may be
    room_in: float = 0.0  # seconds until the provider's rate leaves room for more
    taken: dict[int, Wanted] = field(default_factory=dict)  # by seq: what may leave by the limits, and hasn't yet


class Stop(Exception):
    """This batch can't go on now; `retry_in` seconds later it may. `room_in`: nor can its channel, for so long."""

    def __init__(self, retry_in: float, room_in: float = 0.0) -> None:
        self.retry_in, self.room_in = retry_in, room_in


class Dispatcher:
    """Sends what is due until nothing is, or each channel is in trouble. It waits up to `stay` seconds for limits."""

    def __init__(self, settings: Settings, shop: Shop, lake: Reading) -> None:
        self.settings = settings
        self.shop = shop
        self.report = Report()
        self._key = settings.signing_key()
        self._people = People(settings, shop, lake)
        self._providers: dict[str, Provider] = {}
        self._composers: dict[int, Composer] = {}
        self._gate = Gate(settings, shop)
        self._back_at: dict[str, float] = {}  # by channel: when it can go on, by the monotonic clock
        self._turns: list[float] = []  # when what waits for its domain can
        self._sleep = time.sleep
        self._held_up: dict[int, int] = {}  # by batch: how many messages wait for the provider's rate

    def run(self, stay: float = 0.0) -> Report:
        until = time.monotonic() + stay
        with ThreadPoolExecutor(_THREADS) as pool:
            self._pool = pool
            try:
                self._reopen()
                while True:
                    if claimed := self._claim():
                        self._dispatch(*claimed)
                    elif not self._wait(until):
                        break
            finally:
                for provider in self._providers.values():
                    provider.close()
        self._tell()
        return self.report

    def _reopen(self) -> None:
        """Call providers again that refused our credentials, where those are others now."""
        with reading(self.settings) as ledger:
            self._gate.look(ledger)
        for channel in CHANNELS:
            if self._gate.standing(name_of(self.settings, channel)).refused:
                with suppress(BadSettings):
                    self._gate.reopen(self._provider(channel), self._now())

    def _claim(self) -> tuple[work.Batch, str] | None:
        with begin(self.settings) as ledger:
            self._gate.look(ledger)
            return work.claim(ledger, self._now(), [c for c in CHANNELS if self._is_open(c)])

    def _is_open(self, channel: str) -> bool:
        paused = self._gate.standing(name_of(self.settings, channel)).waits
        return not (paused or channel in self.report.trouble or channel in self._back_at)

    def _wait(self, until: float) -> bool:
        """Wait until there is room for more, if that is soon enough."""
        soonest = min((*self._back_at.values(), *self._turns), default=math.inf)
        if soonest > until:
            return False
        self._sleep(max(soonest - time.monotonic(), 0.0))
        self._back_at = {channel: at for channel, at in self._back_at.items() if at > soonest}
        self._turns = [at for at in self._turns if at > soonest]
        return True

    def _tell(self) -> None:
        """Report what is still held up: by limits of ours, which is no trouble, or since a provider is paused."""
        if held_up := sum(self._held_up.values()):
            self.report.deferred["rate_limit"] = held_up
        with reading(self.settings) as ledger:
            self._gate.look(ledger)
            for channel in CHANNELS:
                name = name_of(self.settings, channel)
                if self._gate.standing(name).waits and reports.is_waiting(ledger, channel, self._now()):
                    self.report.trouble.setdefault(channel, self._gate.told(name))

    def _dispatch(self, batch: work.Batch, token: str) -> None:
        self.report.batches += 1
        stopped = Stop(0.0)
        try:
            try:
                self._work_on(batch, token)
            except Stop as stop:
                stopped = stop
            with begin(self.settings) as ledger:
                done = work.release(ledger, batch, token, self._now(), retry_in=stopped.retry_in)
            if stopped.room_in:
                self._back_at[batch.channel] = time.monotonic() + stopped.room_in
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

    def _work_on(self, batch: work.Batch, token: str) -> None:
        """Send what can be sent of a batch. Stop: the rest waits."""
        if self._now() > batch.expires_at:  # asks for neither template nor credentials, so that all messages end
            self._drop(batch, token, [(m.seq, "not_sent", "expired") for m in batch.unsettled])
            return
        try:
            provider = self._provider(batch.channel)
            composer = self._composer(batch.run_id)
        except BadSettings as e:
            self.report.trouble[batch.channel] = str(e)
            raise Stop(_PAUSE) from None
        except BadSpec as e:
            self.report.trouble[f"run {batch.run_id}"] = str(e)
            raise Stop(_LONGEST_PAUSE) from None
        limits = self._gate.limits(provider.name)
        job = Work(batch, token, composer, provider, *self._people.fetch(batch), limits)
        unchecked = batch.unsettled
        try:
            while unchecked:
                leaving: Leaving = deque(self._within_limits(job, self._check(job, unchecked)))
                checked_at = time.monotonic()
                while leaving and time.monotonic() - checked_at < _FRESH:
                    self._send(job, self._compose(job, leaving), MOST)
                unchecked = [message for message, _ in leaving]
        finally:
            if limits and job.taken:
                self._gate.give_back(provider.name, limits, job.taken.values())
        if job.wait or job.room_in:
            raise Stop(max(job.wait, job.room_in), job.room_in)

    def _check(self, job: Work, some: Sequence[work.Message]) -> list[Checked]:
        """Ask the ledger once more; what may not leave gets its outcome or its new time here."""
        now, spec, batch = self._now(), job.composer.spec, job.batch
        who = {m.customer_id: job.who[m.customer_id] for m in some if m.customer_id in job.who}
        hashes = {
            c: suppressions.address_hash(self._key, contact.email)
            for c, contact in who.items()
            if batch.channel == "email" and contact.email
        }
        with reading(self.settings) as ledger:
            facts = last_check.gather(ledger, self.shop, spec.purpose, batch, who, hashes, now, self._key)
        found = last_check.check(batch, some, who, hashes, facts, spec, self.shop, now)
        if found.dropped:
            self._drop(batch, job.token, found.dropped)
        if found.deferred:
            with begin(self.settings) as ledger:
                for (until, reason), seqs in found.deferred.items():
                    self.report.deferred[reason] += len(seqs)
                    work.defer(ledger, batch, job.token, seqs, until)
        return found.may_leave

    def _within_limits(self, job: Work, leaving: list[Checked]) -> list[Checked]:
        """Those that may leave by the provider's limits. The others wait: with their batch for the provider's rate, in
        batches of their own for their domain's turn, or for tomorrow.
        """
        if job.limits is None:
            return leaving
        channel, name = job.batch.channel, job.provider.name
        new = [self._gate.wanted(job.limits, m, c, channel) for m, c in leaving if m.seq not in job.taken]
        if not new:
            return leaving
        found = self._gate.take(name, job.limits, new, job.batch, job.token)
        job.taken |= {one.seq: one for one in found.allowed}
        self.report.deferred += Counter(domain_limit=sum(len(s) for _, s in found.later), warm_up=len(found.tomorrow))
        self._held_up[job.batch.batch_id] = len(found.waiting)
        job.room_in = max(job.room_in, found.wait)
        self._turns += [time.monotonic() + wait for wait, _ in found.later]
        return [(m, c) for m, c in leaving if m.seq in job.taken]

    def _drop(self, batch: work.Batch, token: str, dropped: Sequence[tuple[int, str, str]]) -> None:
        self.report.refused.update(reason for _, _, reason in dropped)
        with begin(self.settings) as ledger:
            work.drop(ledger, batch, token, dropped, self._now())

    def _compose(self, job: Work, leaving: Leaving) -> list[Outgoing]:
        """As many of the messages as go out together: all that come in halves, of others the calls at once."""
        composed: list[Outgoing] = []
        whole = 0
        most = at_once(self._gate.standing(job.provider.name))
        while leaving and whole < job.provider.at_once and len(composed) < most:
            message, contact = leaving.popleft()
            try:
                for one in self._composed(job, message, contact):
                    composed.append(one)
                    whole += type(one.content) is not SplitEmail
            except BadSpec as e:
                log.warning("message %s can't be composed: %s", message.message_id, e.what)
                self._drop(job.batch, job.token, [(message.seq, "rejected", "not_composed")])
        return composed

    def _composed(self, job: Work, message: work.Message, contact: Contact) -> Iterator[Outgoing]:
        composer, batch = job.composer, job.batch
        picks = job.chosen[message.customer_id].get("products", ())
        context = composer.context(contact, picks, self._people.items, message.message_id)
        if batch.channel == "email":
            assert contact.email is not None  # policy refuses those without
            email = composer.split_email if job.provider.splits else composer.email
            yield Outgoing(message.seq, message.message_id, contact.email, email(context, batch.variant))
            return
        if batch.channel == "in_app":
            yield Outgoing(
                message.seq, message.message_id, message.customer_id, composer.in_app(context, batch.variant)
            )
            return
        push = composer.push(context, batch.variant)
        tried = batch.attempts_of(message.seq)
        for device in contact.devices:
            if device.device_id not in tried or tried[device.device_id].state == "retry":
                yield Outgoing(message.seq, message.message_id, device.push_token, push, device.device_id)

    def _send(self, job: Work, outgoing: Sequence[Outgoing], most: int) -> None:
        """Send messages, written down before and after. Stop, where this batch must."""
        provider, batch = job.provider, job.batch
        if stop := provider.trouble():
            self.report.trouble[batch.channel] = stop
            raise Stop(_pause(batch))
        envelope = Envelope(self.shop, job.composer.spec.name, batch.variant, batch.expires_at - self._now())
        parcels = list(provider.pack(outgoing, envelope, most))
        if not parcels:
            return
        try:
            with begin(self.settings) as ledger:
                calls = [(p.members, p.device_id) for p in parcels]
                ids = work.open_requests(ledger, batch, job.token, provider.name, calls, self._now())
        except work.RunHeld:
            log.info("run %d was paused, cancelled or replaced: batch %d is given back", batch.run_id, batch.batch_id)
            raise Stop(0.0) from None
        except providers.Paused:
            raise Stop(job.wait) from None
        for one in outgoing:
            job.taken.pop(one.seq, None)
        posts = [self._pool.submit(_post, provider, p) for p in parcels]
        try:
            wait(posts)
        finally:  # also when interrupted: what was asked is written down
            results = [_told_apart(p, post.result()) for p, post in zip(parcels, posts, strict=True)]
            rows = [{"request_id": i, **vars(r)} for i, r in zip(ids, results, strict=True)]
            with begin(self.settings) as ledger:
                work.close_requests(ledger, batch, job.token, rows, self._now())
                self._gate.note(ledger, provider, results, len({one.seq for one in outgoing}))
                for parcel, result in zip(parcels, results, strict=True):
                    if result.suppress:
                        dead = suppressions.address_hash(self._key, parcel.outgoing[0].to)
                        suppressions.add(
                            ledger, "address", dead, channel=batch.channel, reason=result.suppress,
                            source=provider.name, now=self._now(),
                        )  # fmt: skip
        self.report.requests.update(r.state for r in results)
        self._stop_in_trouble(job, results)
        for parcel, result in zip(parcels, results, strict=True):
            if result.reason == REFUSED_TOGETHER:
                half = len(parcel.outgoing) // 2
                for part in (parcel.outgoing[:half], parcel.outgoing[half:]):
                    self._send(job, part, len(part))

    def _stop_in_trouble(self, job: Work, results: Sequence[Result]) -> None:
        """Stop where the provider can't be used now, or refuses one message after the other."""
        for r in results:  # dead addresses come in rows: old customers
            refused = r.state == "rejected" and not r.of_address
            job.refusals = job.refusals + 1 if refused else 0 if r.state in ("sent", "rejected") else job.refusals
        again = [r for r in results if r.state == "retry" and r.reason != REFUSED_TOGETHER]
        job.wait = max([job.wait, *(r.retry_in or _pause(job.batch) for r in again)])
        if job.refusals >= _REFUSALS:
            self.report.trouble[job.batch.channel] = f"{job.provider.name}: {results[-1].reason}"
            raise Stop(_pause(job.batch))
        if wait := self._gate.standing(job.provider.name).waits:
            raise Stop(job.wait, wait)

    def _provider(self, channel: str) -> Provider:
        if channel not in self._providers:
            provider = provider_of(self.settings, channel)
            if unfit := unfit_to_send(self.settings, self.shop, provider):
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


def _told_apart(parcel: Parcel, result: Result) -> Result:
    """One bad message must not take its request's others with it: they are sent again in halves."""
    if result.state == "rejected" and len(parcel.outgoing) > 1:
        return Result("retry", REFUSED_TOGETHER, result.http_status)
    return result


def _post(provider: Provider, parcel: Parcel) -> Result:
    """Post, and whatever goes wrong in our own code is an unknown outcome too; its text could quote an address."""
    if parcel.refused:
        return parcel.refused
    try:
        return provider.post(parcel)
    except Exception as e:
        log.error("%s: %s while posting", provider.name, type(e).__name__)
        return Result("unknown", f"error:{type(e).__name__}")


def _pause(batch: work.Batch) -> float:
    times = len({call.opened_at for call in batch.calls if call.state == "retry"})
    return float(min(_PAUSE * 2**times, _LONGEST_PAUSE))


def raise_trouble(report: Report) -> None:
    """One error for the channels that couldn't be served."""
    if report.trouble:
        what = "; ".join(f"{channel}: {why}" for channel, why in report.trouble.items())
        raise ProviderDown(
            f"Not everything that is due could be sent: {what}", "The rest is sent by the next dispatch."
        )
