"""Work on batches: claiming under a lease, requests to providers, outcomes.

Every write names the lease's token, so that a worker that woke late changes nothing. A request is committed as `open`
before the call; one that is still open when the lease has run out was cut short, and is `unknown` from then on.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, reduce
from operator import or_
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from controltower.ledger import holds, providers
from controltower.ledger.database import Epoch
from controltower.ledger.members import pack, unpack_bits
from controltower.ledger.tables import batches, campaign_runs, messages, occurrences, outcomes, requests

LEASE_SECONDS = 60.0  # renewed with every write
_RESULT = ("state", "http_status", "reason", "provider_message_id")

State = Literal["open", "sent", "retry", "rejected", "unknown"]


class LeaseLost(Exception):
    """Another worker has taken the batch: this one must stop writing."""


class RunHeld(Exception):
    """The run was paused, cancelled or replaced meanwhile: no further call for its messages may begin."""


class Message(NamedTuple):
    seq: int
    message_id: str
    subject_id: int
    customer_id: str


@dataclass(frozen=True)
class Call:
    """A request of a batch; `members` has bit n for the message with seq first_seq + n. An e-mail has no device."""

    request_id: int
    provider: str
    device_id: str | None
    members: int
    state: State
    reason: str | None
    opened_at: datetime


# What several devices' last calls come to: one that was sent outweighs all others, and so on.
_WEIGHT: tuple[State, ...] = ("sent", "open", "retry", "unknown", "rejected")


@dataclass(frozen=True)
class Batch:
    """A batch as the ledger has it; `unsettled` lists the messages that still want a request."""

    batch_id: int
    run_id: int
    channel: str
    variant: str
    due_at: datetime
    expires_at: datetime
    first_seq: int
    attempts: int  # how often it was claimed
    messages: tuple[Message, ...]
    settled: Mapping[int, str]  # seq -> last outcome; those reopened have none yet
    calls: tuple[Call, ...]  # the oldest first
    reopened: frozenset[int] = frozenset()  # sent before, with an answer that was lost: see unknowns.py

    @cached_property
    def _standing(self) -> Mapping[State, int]:
        """By state, the messages whose last calls come to it, as bits."""
        last: dict[str | None, dict[State, int]] = {}  # by device
        for call in self.calls:
            bits = last.setdefault(call.device_id, dict.fromkeys(_WEIGHT, 0))
            for state in _WEIGHT:
                bits[state] &= ~call.members
            bits[call.state] |= call.members
        standing, seen = {}, 0
        for state in _WEIGHT:
            found = reduce(or_, (bits[state] for bits in last.values()), 0) & ~seen
            standing[state] = found
            seen |= found
        return standing

    def _among(self, bits: int) -> list[Message]:
        return [m for m in self.messages if bits >> (m.seq - self.first_seq) & 1 and m.seq not in self.settled]

    @property
    def unsettled(self) -> list[Message]:
        ended = self._standing["sent"] | self._standing["unknown"] | self._standing["rejected"]
        if not ended and not self.settled:
            return list(self.messages)
        return self._among(~ended)

    @property
    def calling(self) -> list[int]:
        """The messages with a call under way, that no provider took yet."""
        return [m.seq for m in self._among(self._standing["open"])]

    @property
    def unsent(self) -> list[int]:
        """The unsettled messages for which no call is under way."""
        calling = set(self.calling)
        return [m.seq for m in self.unsettled if m.seq not in calling]

    def ended(self, seq: int, state: str) -> str:
        """How a message ends that doesn't leave any more; unknown where a call for it may have arrived."""
        lost = any(call.state == "unknown" for call in self.attempts_of(seq).values())  # to one of its devices
        return "unknown" if lost or seq in self.reopened else state

    @property
    def accepted(self) -> list[int]:
        """The messages that a provider took, by their requests."""
        return [m.seq for m in self._among(self._standing["sent"])]

    @property
    def tried(self) -> set[int]:
        """The messages that a call was written down for."""
        return set(unpack_bits(reduce(or_, (call.members for call in self.calls), 0), self.first_seq))

    def attempts_of(self, seq: int) -> dict[str | None, Call]:
        """A message's last call to each device."""
        return {c.device_id: c for c in self.calls if c.members >> (seq - self.first_seq) & 1}

    def ends(self) -> list[tuple[int, str, str, int]]:
        """What calls have come to for messages without an outcome that weren't sent: seq, state, reason, request."""
        found = []
        for state in ("unknown", "rejected"):
            for m in self._among(self._standing[state]):
                call = next(c for c in reversed(self.attempts_of(m.seq).values()) if c.state == state)
                found.append((m.seq, self.ended(m.seq, state), call.reason or state, call.request_id))
        return found


def read(connection: sa.Connection, batch_id: int) -> Batch:
    """A batch with its messages, their last outcomes and their calls."""
    head = connection.execute(sa.select(batches).where(batches.c.batch_id == batch_id)).one()
    return refreshed(connection, _untouched(connection, head))


def _untouched(connection: sa.Connection, head: Any) -> Batch:
    """A batch of which nothing was ever tried, by its row."""
    m = messages.c
    columns = (m.seq, sa.cast(m.message_id, sa.String), m.subject_id, m.customer_id)  # a UUID object costs more
    rows = connection.execute(sa.select(*columns).where(m.batch_id == head.batch_id).order_by(m.seq)).all()
    return Batch(
        head.batch_id, head.run_id, head.channel, head.variant, head.due_at, head.expires_at, head.first_seq,
        head.attempts, tuple([Message(seq, i and i.replace("-", ""), s, c) for seq, i, s, c in rows]), {}, (),
    )  # fmt: skip


def refreshed(connection: sa.Connection, batch: Batch) -> Batch:
    """The batch with what was written down by now: messages that were deferred have left it, others have ended."""
    m, o, r = messages.c, outcomes.c, requests.c
    here = sa.select(sa.func.count()).where(m.batch_id == batch.batch_id)
    if connection.execute(here).scalar_one() < len(batch.messages):
        mine = set(connection.execute(sa.select(m.seq).where(m.batch_id == batch.batch_id)).scalars())
        batch = replace(batch, messages=tuple(one for one in batch.messages if one.seq in mine))
    ended = sa.select(o.seq, o.state).join(messages, m.seq == o.seq).where(m.batch_id == batch.batch_id)
    history = connection.execute(ended.order_by(o.outcome_id)).tuples().all()
    settled = {seq: state for seq, state in dict(history).items() if state != "reopened"}
    reopened = frozenset(seq for seq, state in history if state == "reopened")
    columns = (r.request_id, r.provider, r.device_id, r.members, r.state, r.reason, r.opened_at)
    rows = connection.execute(sa.select(*columns).where(r.batch_id == batch.batch_id).order_by(r.request_id))
    calls = [Call(id_, via, device, int.from_bytes(bits, "little"), *how) for id_, via, device, bits, *how in rows]
    return replace(batch, settled=settled, calls=tuple(calls), reopened=reopened)


def claim(connection: sa.Connection, now: datetime, channels: Collection[str]) -> tuple[Batch, str] | None:
    """Take the batch that is due longest and that nobody holds: it and the lease's token; None if there is none.

    What an earlier worker left open in it becomes `unknown`. Other channels' batches, and those of a run that is held
    back (holds.py), are left alone until they are too late: then they are taken, so that their messages end.
    """
    b, r, o = batches.c, campaign_runs.c, occurrences.c
    may_leave = sa.or_(holds.HELD.is_(None), r.state != "planned")
    free = sa.or_(b.lease_token.is_(None), b.lease_until < Epoch())
    next_due = (
        sa.select(b.batch_id)
        .join(campaign_runs, r.run_id == b.run_id)
        .join(occurrences, o.occurrence_id == r.occurrence_id)
        .where(b.state == "pending", b.due_at <= now, b.not_before <= Epoch(), free)
        .where(sa.or_(sa.and_(b.channel.in_(channels), may_leave), b.expires_at < now))
        .order_by(b.due_at, b.batch_id)
        .limit(1)
        .with_for_update(skip_locked=True, of=batches)
    )
    token = uuid.uuid4().hex
    take = (
        sa.update(batches)
        .where(b.batch_id == next_due.scalar_subquery())
        .values(lease_token=token, lease_until=Epoch() + LEASE_SECONDS, attempts=b.attempts + 1)
        .returning(batches)
    )
    while (head := connection.execute(take).one_or_none()) is not None:
        batch = _untouched(connection, head)
        if head.attempts > 1:
            batch = recover(connection, batch, now)
        if _run_state(connection, batch) == "planned":
            return batch, token
        release(connection, batch, token, now)  # its run was stopped while a worker that is gone held it
    return None


def _run_state(connection: sa.Connection, batch: Batch) -> str:
    state = sa.select(campaign_runs.c.state).where(campaign_runs.c.run_id == batch.run_id)
    return str(connection.execute(state).scalar_one())


def recover(connection: sa.Connection, batch: Batch, now: datetime) -> Batch:
    """Settle what a worker that is gone left open: its open requests are `unknown`."""
    connection.execute(
        sa.update(requests)
        .where(requests.c.batch_id == batch.batch_id, requests.c.state == "open")
        .values(state="unknown", reason="worker_lost", closed_at=now)
    )
    return _settle(connection, refreshed(connection, batch), now)


def _hold(connection: sa.Connection, batch_id: int, token: str) -> None:
    """Renew the lease, or raise LeaseLost."""
    held = connection.execute(
        sa.update(batches)
        .where(batches.c.batch_id == batch_id, batches.c.lease_token == token)
        .values(lease_until=Epoch() + LEASE_SECONDS)
    )
    if held.rowcount != 1:
        raise LeaseLost(f"batch {batch_id}")


def open_requests(
    connection: sa.Connection,
    batch: Batch,
    token: str,
    provider: str,
    sends: Sequence[tuple[Sequence[int], str | None]],
    now: datetime,
) -> list[int]:
    """Commit to calls about to be made, each given as its messages' seqs and the device. Returns the request ids.

    RunHeld where the run was stopped meanwhile, providers.Paused where the provider is. The occurrence is locked until
    this commits: whoever stops it (holds.lock) knows that afterwards no call begins but those written down before.
    """
    r, o = campaign_runs.c, occurrences.c
    occurrence_id = sa.select(r.occurrence_id).where(r.run_id == batch.run_id).scalar_subquery()
    paused = connection.execute(
        sa.select(o.paused).where(o.occurrence_id == occurrence_id).with_for_update(read=True)
    ).scalar_one()
    standing = sa.select(r.state, r.hold, providers.is_paused(provider)).where(r.run_id == batch.run_id)
    run = connection.execute(standing).one()  # as it is by the lock
    if paused or run.hold or run.state != "planned":
        raise RunHeld(f"run {batch.run_id}")
    if run.is_paused:
        raise providers.Paused(provider)
    _hold(connection, batch.batch_id, token)
    rows = [
        {
            "batch_id": batch.batch_id, "lease_token": token, "provider": provider, "device_id": device,
            "members": pack(seqs, batch.first_seq), "state": "open", "opened_at": now,
        }
        for seqs, device in sends
    ]  # fmt: skip
    new = sa.insert(requests).returning(requests.c.request_id, sort_by_parameter_order=True)
    return [int(i) for i in connection.execute(new, rows).scalars()]


def close_requests(
    connection: sa.Connection, batch: Batch, token: str, results: Iterable[Mapping[str, Any]], now: datetime
) -> None:
    """Write how calls ended: mappings of request_id, state, http_status, reason, provider_message_id."""
    _hold(connection, batch.batch_id, token)
    rows = [{"id": r["request_id"], **{f"new_{name}": r.get(name) for name in _RESULT}} for r in results]
    if not rows:
        return
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in _RESULT}
    connection.execute(
        sa.update(requests)
        .where(requests.c.request_id == sa.bindparam("id"), requests.c.lease_token == token)
        .values(closed_at=now, **values),
        rows,
    )


def drop(
    connection: sa.Connection, batch: Batch, token: str, refused: Iterable[tuple[int, str, str]], now: datetime
) -> None:
    """End messages without a request: (seq, state, reason), the state `not_sent`, `rejected` or `cancelled`.

    Those that were cancelled meanwhile have ended already.
    """
    _hold(connection, batch.batch_id, token)
    refused = list(refused)
    ended = _ended(connection, [seq for seq, _, _ in refused])
    ends = [(seq, batch.ended(seq, state), reason, None) for seq, state, reason in refused if seq not in ended]
    _write_outcomes(connection, ends, now)


def defer(connection: sa.Connection, batch: Batch, token: str, seqs: Collection[int], until: datetime) -> None:
    """Let messages wait until a later moment.

    Those without a request move to a batch of their own. One that was tried stays with its requests, which tell what
    may have arrived already; then its whole batch waits. Those that were cancelled meanwhile have ended.
    """
    _hold(connection, batch.batch_id, token)
    batch = refreshed(connection, batch)
    waiting = set(seqs) - batch.settled.keys()
    moved = sorted(waiting - batch.tried)
    if len(moved) < len(waiting):
        connection.execute(sa.update(batches).where(batches.c.batch_id == batch.batch_id).values(due_at=until))
    if moved:
        part(connection, batch, moved, until)


def part(connection: sa.Connection, batch: Batch, seqs: Collection[int], due_at: datetime) -> None:
    """Give messages a batch of their own, due then. Its attempts go on where one was reopened: it isn't untouched."""
    new = sa.insert(batches).values(
        run_id=batch.run_id, channel=batch.channel, variant=batch.variant, due_at=due_at, expires_at=batch.expires_at,
        first_seq=min(seqs), size=len(seqs), state="pending",
        attempts=batch.attempts if batch.reopened.intersection(seqs) else 0,
    )  # fmt: skip
    batch_id = connection.execute(new.returning(batches.c.batch_id)).scalar_one()
    connection.execute(sa.update(messages).where(messages.c.seq.in_(seqs)).values(batch_id=batch_id))


def release(connection: sa.Connection, batch: Batch, token: str, now: datetime, *, retry_in: float = 0.0) -> bool:
    """Give the batch back: done when each message has a verdict, else due again in `retry_in` seconds.

    Of a run that was superseded or cancelled meanwhile, what is left is a message whose call was under way then and
    came to nothing: it is cancelled. Returns whether the batch is done.
    """
    _hold(connection, batch.batch_id, token)
    left = refreshed(connection, batch)
    cut_short = any(call.state == "open" for call in left.calls)  # the answer could not be written down
    left = recover(connection, left, now) if cut_short else _settle(connection, left, now)
    run_state = _run_state(connection, batch)
    if run_state != "planned":
        cancel(connection, left, [m.seq for m in left.unsettled], run_state, now)
    done = run_state != "planned" or not left.unsettled
    connection.execute(
        sa.update(batches)
        .where(batches.c.batch_id == batch.batch_id)
        .values(
            lease_token=None,
            lease_until=None,
            state="done" if done else "pending",
            done_at=now if done else None,
            size=len(left.messages),
            not_before=0.0 if done else Epoch() + retry_in,
        )
    )
    return done


def following(connection: sa.Connection, batch: Batch, most: int) -> Sequence[tuple[str, int]]:
    """Customer and run of the messages planned next to a batch's, which are likely to be due soon."""
    m, b = messages.c, batches.c
    near = sa.select(m.customer_id, b.run_id).join(batches, b.batch_id == m.batch_id)
    return connection.execute(near.where(m.seq.between(batch.first_seq, batch.first_seq + most - 1))).tuples().all()


def _settle(connection: sa.Connection, batch: Batch, now: datetime) -> Batch:
    """Write down what the calls have come to for messages that have no outcome yet, but for those that were sent."""
    _write_outcomes(connection, new := batch.ends(), now)
    return replace(batch, settled={**batch.settled, **{seq: state for seq, state, _, _ in new}}) if new else batch


def _ended(connection: sa.Connection, seqs: Sequence[int]) -> set[int]:
    """Those of the messages that have an outcome, not counting what was reopened since."""
    o = outcomes.c
    history = connection.execute(sa.select(o.seq, o.state).where(o.seq.in_(seqs)).order_by(o.outcome_id))
    return {seq for seq, state in dict(history.tuples().all()).items() if state != "reopened"}


def cancel(connection: sa.Connection, batch: Batch, seqs: Iterable[int], reason: str, now: datetime) -> None:
    """End messages of a batch whose run was stopped."""
    _write_outcomes(connection, [(seq, batch.ended(seq, "cancelled"), reason, None) for seq in seqs], now)


def write_outcome(connection: sa.Connection, seqs: Iterable[int], state: str, reason: str, now: datetime) -> None:
    """End messages alike."""
    _write_outcomes(connection, [(seq, state, reason, None) for seq in seqs], now)


def _write_outcomes(connection: sa.Connection, ends: Iterable[tuple[int, str, str, int | None]], now: datetime) -> None:
    """(seq, state, reason, request) each."""
    rows = [
        {"seq": seq, "state": state, "reason": why, "request_id": call, "at": now} for seq, state, why, call in ends
    ]
    if rows:
        connection.execute(sa.insert(outcomes), rows)
