"""One claimed batch on its way out: check each message once more, note the requests, send, note the results."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass, field
from datetime import datetime

from controltower import clock
from controltower.campaigns.composing import Composer
from controltower.content.message import Context, Email, SplitEmail
from controltower.delivery import last_check
from controltower.delivery.circuit import MOST, messages_at_once
from controltower.delivery.gate import Gate
from controltower.delivery.limits import Wanted
from controltower.delivery.people import People, Picks
from controltower.delivery.providers.base import REFUSED_TOGETHER, Envelope, Outgoing, Parcel, Provider, Result
from controltower.errors import BadSpec
from controltower.ledger import providers, suppressions, work
from controltower.ledger.database import begin, reading
from controltower.profiles.contacts import Contact
from controltower.settings import Settings
from controltower.shop import Shop

log = logging.getLogger(__name__)

FIRST_PAUSE = 30.0  # seconds before a message is tried again that a provider didn't take, doubled with each time
LONGEST_PAUSE = 3600.0
_DOUBLINGS = 10
_FRESH = 2.0  # seconds: what leaves later than this after its last check is checked again
_REFUSALS = 8  # refused messages in a row are our fault rather than the messages'

Checked = tuple[work.Message, Contact]  # one that may leave
Leaving = deque[Checked]
Dropped = Sequence[tuple[int, str, str]]  # seq, state, reason


@dataclass
class Report:
    """What one dispatch did; `trouble` says why a channel stopped, `held_up` how many of a batch wait for a rate."""

    requests: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    deferred: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    trouble: dict[str, str] = field(default_factory=dict)
    held_up: dict[int, int] = field(default_factory=dict)
    turns: list[float] = field(default_factory=list)  # when what waits for its domain can go, by the monotonic clock


class Stop(Exception):
    """This batch can't go on now; `retry_in` seconds later it may. `room_in`: nor can its channel, for so long."""

    def __init__(self, retry_in: float, room_in: float = 0.0) -> None:
        self.retry_in, self.room_in = retry_in, room_in


@dataclass
class Means:
    """What the batches of one dispatcher share."""

    settings: Settings
    shop: Shop
    people: People
    gate: Gate
    pool: Executor  # for calls
    report: Report

    @property
    def now(self) -> datetime:
        return clock.now(self.settings)


def end(means: Means, batch: work.Batch, token: str, dropped: Dropped) -> None:
    """End messages of a batch that don't leave."""
    means.report.refused.update(reason for _, _, reason in dropped)
    with begin(means.settings) as ledger:
        work.drop(ledger, batch, token, dropped, means.now)


class Sending:
    """A claimed batch in hand."""

    def __init__(self, means: Means, batch: work.Batch, token: str, provider: Provider, composer: Composer) -> None:
        self.means, self.batch, self.token = means, batch, token
        self.provider, self.composer = provider, composer
        self._key = composer.key
        self._who: Mapping[str, Contact]
        self._picks: Mapping[str, Picks]
        self._who, self._picks = means.people.fetch(batch)
        self._limits = means.gate.limits(provider.name)
        self._taken: dict[int, Wanted] = {}  # by seq: what may leave by the limits, and hasn't yet
        self._split: dict[int, SplitEmail | None] = {}  # by seq: e-mails in two halves, None where one stays whole
        self._refusals = 0  # in a row
        self._retry_in = 0.0  # seconds until what must be sent again may be
        self._room_in = 0.0  # seconds until the provider's rate leaves room for more

    def run(self) -> None:
        """Send what can be sent. Stop: the rest waits."""
        groups = deque([self.batch.unsettled])  # each is checked, and then sent as far as nobody is kept waiting by it
        try:
            while groups:
                leaving: Leaving = deque(self._within_limits(self._check(groups.popleft())))
                checked_at = time.monotonic()
                while leaving and time.monotonic() - checked_at < _FRESH:
                    groups.extend(self._send(self._compose(leaving)))
                if leaving:
                    groups.append([message for message, _ in leaving])
        finally:
            if self._limits and self._taken:
                self.means.gate.give_back(self.provider.name, self._limits, self._taken.values())
        if self._retry_in or self._room_in:
            raise Stop(max(self._retry_in, self._room_in), self._room_in)

    def _check(self, some: Sequence[work.Message]) -> list[Checked]:
        """Ask the ledger once more; what may not leave gets its outcome or its new time here."""
        now, spec, batch = self.means.now, self.composer.spec, self.batch
        who = {m.customer_id: self._who[m.customer_id] for m in some if m.customer_id in self._who}
        with reading(self.means.settings) as ledger:
            facts = last_check.gather(ledger, self.means.shop, spec, batch, who, now, self._key)
        found = last_check.check(batch, some, who, facts, spec, self.means.shop, now)
        if found.dropped:
            self._drop(found.dropped)
        if found.deferred:
            with begin(self.means.settings) as ledger:
                for (until, reason), seqs in found.deferred.items():
                    self.means.report.deferred[reason] += len(seqs)
                    work.defer(ledger, batch, self.token, seqs, until)
        return found.may_leave

    def _within_limits(self, leaving: list[Checked]) -> list[Checked]:
        """Those that may leave by the provider's limits. The others wait: with their batch for the provider's rate, in
        batches of their own for their domain's turn, or for tomorrow.
        """
        if self._limits is None:
            return leaving
        channel, name = self.batch.channel, self.provider.name
        new = [self.means.gate.wanted(self._limits, m, c, channel) for m, c in leaving if m.seq not in self._taken]
        if not new:
            return leaving
        found = self.means.gate.take(name, self._limits, new, self.batch, self.token)
        self._taken |= {one.seq: one for one in found.allowed}
        self.means.report.deferred += Counter(
            domain_limit=sum(len(s) for _, s in found.later), warm_up=len(found.tomorrow)
        )
        self.means.report.held_up[self.batch.batch_id] = len(found.waiting)
        self._room_in = max(self._room_in, found.wait)
        self.means.report.turns += [time.monotonic() + wait for wait, _ in found.later]
        return [(m, c) for m, c in leaving if m.seq in self._taken]

    def _drop(self, dropped: Dropped) -> None:
        end(self.means, self.batch, self.token, dropped)

    def _compose(self, leaving: Leaving) -> list[Outgoing]:
        """As many of the messages as go out together: in as many calls as may be under way at once."""
        composed: list[Outgoing] = []
        calls: set[object] = set()
        most = messages_at_once(self.means.gate.standing(self.provider.name))
        if self.batch.channel == "email":
            self._split_together([one for one in leaving if one[0].seq not in self._split])
        while leaving and len(calls) < self.provider.calls_at_once and len(composed) < most:
            message, contact = leaving.popleft()
            try:
                made = list(self._composed(message, contact))
            except BadSpec as e:
                log.warning("message %s can't be composed: %s", message.message_id, e.what)
                self._drop([(message.seq, "rejected", "not_composed")])
                continue
            if not made:  # each of its devices was tried, or is gone
                self._drop([(message.seq, "rejected", "no_device")])
            composed += made
            calls.update(o.content.layout if isinstance(o.content, SplitEmail) else (o.seq, o.device_id) for o in made)
        return composed

    def _split_together(self, some: Sequence[Checked]) -> None:
        """Make the e-mails of customers in two halves: in columns that costs a fraction of one after the other."""
        split = self.composer.split(self._contexts(some), self.batch.variant) if some else []
        self._split |= {message.seq: email for (message, _), email in zip(some, split, strict=True)}

    def _contexts(self, some: Sequence[Checked]) -> list[Context]:
        picks = [self._picks[message.customer_id] for message, _ in some]
        ids = [message.message_id for message, _ in some]
        return self.composer.contexts([contact for _, contact in some], picks, self.means.people.items, ids)

    def _composed(self, message: work.Message, contact: Contact) -> Iterator[Outgoing]:
        composer, batch = self.composer, self.batch
        if batch.channel == "email":
            assert contact.email is not None  # policy refuses those without
            email: SplitEmail | Email | None = self._split[message.seq]
            if isinstance(email, SplitEmail) and not self.provider.splits:
                email = email.whole()
            if email is None:
                email = composer.email(self._contexts([(message, contact)])[0], batch.variant)
            yield Outgoing(message.seq, message.message_id, contact.email, email)
            return
        (context,) = self._contexts([(message, contact)])
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

    def _send(self, outgoing: Sequence[Outgoing]) -> list[list[work.Message]]:
        """Send messages, written down before and after. Stop, where this batch must.

        Gives the halves of what was refused together: to be checked again, and sent by themselves.
        """
        provider, batch = self.provider, self.batch
        if stop := provider.trouble():
            self.means.report.trouble[batch.channel] = stop
            raise Stop(_pause(batch))
        envelope = Envelope(self.means.shop, self.composer.spec.name, batch.variant, batch.expires_at - self.means.now)
        parcels = list(provider.pack(outgoing, envelope, MOST))
        if not parcels:
            return []
        try:
            with begin(self.means.settings) as ledger:
                calls = [(p.members, p.device_id) for p in parcels]
                ids = work.open_requests(ledger, batch, self.token, provider.name, calls, self.means.now)
        except work.RunHeld:
            log.info("run %d was paused, cancelled or replaced: batch %d is given back", batch.run_id, batch.batch_id)
            raise Stop(0.0) from None
        except providers.Paused:
            raise Stop(self._retry_in) from None
        for one in outgoing:
            self._taken.pop(one.seq, None)
        posts = [self.means.pool.submit(_post, provider, p) for p in parcels]
        try:
            wait(posts)
        finally:  # also when interrupted: what was asked is written down
            results = [_told_apart(p, post.result()) for p, post in zip(parcels, posts, strict=True)]
            rows = [{"request_id": i, **vars(r)} for i, r in zip(ids, results, strict=True)]
            with begin(self.means.settings) as ledger:
                work.close_requests(ledger, batch, self.token, rows, self.means.now)
                self.means.gate.note(ledger, provider, results, len({one.seq for one in outgoing}))
                for parcel, result in zip(parcels, results, strict=True):
                    if result.suppress:
                        dead = suppressions.address_hash(self._key, parcel.outgoing[0].to)
                        suppressions.add(
                            ledger, "address", dead, channel=batch.channel, reason=result.suppress,
                            source=provider.name, now=self.means.now,
                        )  # fmt: skip
        self.means.report.requests.update(r.state for r in results)
        self._stop_in_trouble(results)
        together = [p.members for p, r in zip(parcels, results, strict=True) if r.reason == REFUSED_TOGETHER]
        message = {m.seq: m for m in batch.messages} if together else {}
        return [
            [message[seq] for seq in half]
            for members in together
            for half in (members[: len(members) // 2], members[len(members) // 2 :])
        ]

    def _stop_in_trouble(self, results: Sequence[Result]) -> None:
        """Stop where the provider can't be used now, or refuses one message after the other."""
        for r in results:  # dead addresses come in rows: old customers
            refused = r.state == "rejected" and not r.of_address
            self._refusals = self._refusals + 1 if refused else 0 if r.state in ("sent", "rejected") else self._refusals
        again = [r for r in results if r.state == "retry" and r.reason != REFUSED_TOGETHER]
        self._retry_in = max([self._retry_in, *(r.retry_in or _pause(self.batch) for r in again)])
        if self._refusals >= _REFUSALS:
            self.means.report.trouble[self.batch.channel] = f"{self.provider.name}: {results[-1].reason}"
            raise Stop(_pause(self.batch))
        if wait := self.means.gate.standing(self.provider.name).waits:
            raise Stop(self._retry_in, wait)


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
    """By how often the message that waits first was tried."""
    first = next(iter(batch.unsettled), None)
    its = [c for c in batch.calls if first and c.members >> (first.seq - batch.first_seq) & 1]
    tries = len({c.opened_at for c in its if c.state == "retry" and c.reason != REFUSED_TOGETHER})
    return float(min(FIRST_PAUSE * 2 ** min(tries, _DOUBLINGS), LONGEST_PAUSE))
