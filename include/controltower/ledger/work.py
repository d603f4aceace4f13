"""Work on batches: claiming under a lease, requests to providers, outcomes.

Every write names the lease's token, so that a worker that woke late changes nothing. A request is committed as `open`
before the call; one that is still open when the lease has run out was cut short, and is `unknown` from then on.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from controltower.ledger import holds
from controltower.ledger.database import epoch
from controltower.ledger.tables import batches, campaign_runs, messages, occurrences, outcomes, requests

LEASE_SECONDS = 60.0  # renewed with every write

State = Literal["open", "sent", "retry", "rejected", "unknown"]


class LeaseLost(Exception):
    """Another worker has taken the batch: this one must stop writing."""


class RunHeld(Exception):
    """The run was paused, cancelled or replaced meanwhile: no further call for these messages may begin."""


@dataclass(frozen=True)
class Message:
    seq: int
    message_id: str
    subject_id: int
    customer_id: str
    variant: str


@dataclass(frozen=True)
class Attempt:
    """The last request for a message to one device (an e-mail has none: device None)."""

    state: State
    reason: str | None
    request_id: int


@dataclass(frozen=True)
class Batch:
    """A batch as the ledger has it; `unsettled` lists the messages that still want a request."""

    batch_id: int
    run_id: int
    channel: str
    due_at: datetime
    expires_at: datetime
    first_seq: int
    attempts: int
    messages: tuple[Message, ...]
    settled: Mapping[int, str]  # seq -> last outcome
    attempted: Mapping[int, Mapping[str | None, Attempt]]  # seq -> device -> last request
    provider: str | None  # of its requests

    @property
    def unsettled(self) -> list[Message]:
        return [m for m in self.messages if m.seq not in self.settled and self.verdict(m.seq) is None]

    @property
    def accepted(self) -> list[int]:
        """The messages that a provider took, by their requests."""
        verdicts = {m.seq: self.verdict(m.seq) for m in self.messages if m.seq not in self.settled}
        return [seq for seq, verdict in verdicts.items() if verdict and verdict[0] == "sent"]

    @property
    def touched(self) -> bool:
        return bool(self.attempted)

    @property
    def unsent(self) -> list[int]:
        """The unsettled messages for which no call is under way."""
        calling = {seq for seq, last in self.attempted.items() if any(a.state == "open" for a in last.values())}
        return [m.seq for m in self.unsettled if m.seq not in calling]

    def verdict(self, seq: int) -> tuple[str, str, int] | None:
        """What the requests say of a message: its state, reason and request; None while it may be sent (again)."""
        last = list(self.attempted.get(seq, {}).values())
        for state in ("sent", "open", "retry", "unknown", "rejected"):
            for attempt in last:
                if attempt.state == state:
                    if state in ("open", "retry"):
                        return None
                    return state, attempt.reason or state, attempt.request_id
        return None


def read(connection: sa.Connection, batch_id: int) -> Batch:
    """A batch with its messages, their last outcomes and their last requests."""
    head = connection.execute(sa.select(batches).where(batches.c.batch_id == batch_id)).one()
    found = connection.execute(
        sa.select(*(messages.c[n] for n in ("seq", "message_id", "subject_id", "customer_id", "variant")))
        .where(messages.c.batch_id == batch_id)
        .order_by(messages.c.seq)
    )
    rows = tuple(Message(**row._mapping) for row in found)
    of_batch = sa.select(messages.c.seq).where(messages.c.batch_id == batch_id)
    last_outcomes = connection.execute(
        sa.select(outcomes.c.seq, outcomes.c.state).where(outcomes.c.seq.in_(of_batch)).order_by(outcomes.c.outcome_id)
    )
    attempted: dict[int, dict[str | None, Attempt]] = {}
    provider = None
    for r in connection.execute(
        sa.select(requests).where(requests.c.batch_id == batch_id).order_by(requests.c.request_id)
    ):
        provider = r.provider
        for seq in unpack(r.members, head.first_seq):
            attempted.setdefault(seq, {})[r.device_id] = Attempt(r.state, r.reason, r.request_id)
    return Batch(
        head.batch_id, head.run_id, head.channel, head.due_at, head.expires_at, head.first_seq, head.attempts, rows,
        dict(last_outcomes.tuples().all()), attempted, provider,
    )  # fmt: skip


def claim(connection: sa.Connection, now: datetime, channels: Collection[str]) -> tuple[Batch, str] | None:
    """Take the batch that is due longest and that nobody holds: it and the lease's token; None if there is none.

    What an earlier worker left open in it becomes `unknown`. Batches of a run that is held back (holds.py) are left
    alone until they are too late: then they are taken, so that their messages end.
    """
    b, r, o = batches.c, campaign_runs.c, occurrences.c
    while True:
        clock = epoch(connection)
        batch_id = connection.execute(
            sa.select(b.batch_id)
            .join(campaign_runs, r.run_id == b.run_id)
            .join(occurrences, o.occurrence_id == r.occurrence_id)
            .where(b.state == "pending", b.due_at <= now, b.not_before <= clock, b.channel.in_(channels))
            .where(sa.or_(b.lease_token.is_(None), b.lease_until < clock))
            .where(sa.or_(holds.HELD.is_(None), r.state != "planned", b.expires_at < now))
            .order_by(b.due_at, b.batch_id)
            .limit(1)
            .with_for_update(skip_locked=True, of=batches)
        ).scalar_one_or_none()
        if batch_id is None:
            return None
        token = uuid.uuid4().hex
        connection.execute(
            sa.update(batches)
            .where(b.batch_id == batch_id)
            .values(lease_token=token, lease_until=clock + LEASE_SECONDS, attempts=b.attempts + 1)
        )
        recover(connection, batch_id, now)
        batch = read(connection, batch_id)
        if _run_state(connection, batch) == "planned":
            return batch, token
        release(connection, batch, token, now)  # its run was stopped while a worker that is gone held it


def _run_state(connection: sa.Connection, batch: Batch) -> str:
    state = sa.select(campaign_runs.c.state).where(campaign_runs.c.run_id == batch.run_id)
    return str(connection.execute(state).scalar_one())


def recover(connection: sa.Connection, batch_id: int, now: datetime) -> None:
    """Settle what a worker that is gone left open: its open requests are `unknown`."""
    connection.execute(
        sa.update(requests)
        .where(requests.c.batch_id == batch_id, requests.c.state == "open")
        .values(state="unknown", reason="worker_lost", closed_at=now)
    )
    _settle(connection, read(connection, batch_id), now)


def _hold(connection: sa.Connection, batch_id: int, token: str) -> None:
    """Renew the lease, or raise LeaseLost."""
    held = connection.execute(
        sa.update(batches)
        .where(batches.c.batch_id == batch_id, batches.c.lease_token == token)
        .values(lease_until=epoch(connection) + LEASE_SECONDS)
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

    RunHeld where the run was paused, cancelled or replaced meanwhile. The occurrence is locked until this commits, so
    that whoever stops it (holds.lock) knows: no call begins once that is committed but those written down before.
    """
    r, o = campaign_runs.c, occurrences.c
    occurrence_id = sa.select(r.occurrence_id).where(r.run_id == batch.run_id).scalar_subquery()
    paused = connection.execute(
        sa.select(o.paused).where(o.occurrence_id == occurrence_id).with_for_update(read=True)
    ).scalar_one()
    run = connection.execute(sa.select(r.state, r.hold).where(r.run_id == batch.run_id)).one()  # as it is by the lock
    if paused or run.hold or run.state != "planned":
        raise RunHeld(f"run {batch.run_id}")
    _hold(connection, batch.batch_id, token)
    rows = [
        {
            "batch_id": batch.batch_id, "lease_token": token, "provider": provider, "device_id": device,
            "members": _pack(seqs, batch.first_seq), "state": "open", "opened_at": now,
        }
        for seqs, device in sends
    ]  # fmt: skip
    inserted = connection.execute(
        sa.insert(requests).returning(requests.c.request_id, sort_by_parameter_order=True), rows
    )
    return [int(i) for i in inserted.scalars()]


def close_requests(
    connection: sa.Connection, batch: Batch, token: str, results: Iterable[Mapping[str, Any]], now: datetime
) -> None:
    """Write how calls ended: mappings of request_id, state, http_status, reason, provider_message_id."""
    _hold(connection, batch.batch_id, token)
    for result in results:
        values = {k: v for k, v in result.items() if k != "request_id"}
        connection.execute(
            sa.update(requests)
            .where(requests.c.request_id == result["request_id"], requests.c.lease_token == token)
            .values(closed_at=now, **values)
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
    for seq, state, reason in refused:
        if seq not in ended:
            write_outcome(connection, seq, state, reason, now)


def defer(connection: sa.Connection, batch: Batch, token: str, seqs: Sequence[int], until: datetime) -> None:
    """Let messages wait until a later moment.

    Those without a request move to a batch of their own. One that was tried stays with its requests, which tell what
    may have arrived already; then its whole batch waits. Those that were cancelled meanwhile have ended.
    """
    _hold(connection, batch.batch_id, token)
    ended = _ended(connection, seqs)
    seqs = [seq for seq in seqs if seq not in ended]
    moved = [seq for seq in seqs if seq not in batch.attempted]
    if len(moved) < len(seqs):
        connection.execute(sa.update(batches).where(batches.c.batch_id == batch.batch_id).values(due_at=until))
    if moved:
        later = connection.execute(
            sa.insert(batches)
            .values(
                run_id=batch.run_id, channel=batch.channel, due_at=until, expires_at=batch.expires_at,
                first_seq=min(moved), size=len(moved), state="pending",
            )
            .returning(batches.c.batch_id)
        ).scalar_one()  # fmt: skip
        connection.execute(sa.update(messages).where(messages.c.seq.in_(moved)).values(batch_id=later))


def release(connection: sa.Connection, batch: Batch, token: str, now: datetime, *, retry_in: float = 0.0) -> bool:
    """Give the batch back: done when each message has a verdict, else due again in `retry_in` seconds.

    Of a run that was superseded or cancelled meanwhile, what is left is a message whose call was under way then and
    came to nothing: it is cancelled. Returns whether the batch is done.
    """
    _hold(connection, batch.batch_id, token)
    _settle(connection, read(connection, batch.batch_id), now)
    left = read(connection, batch.batch_id)
    run_state = _run_state(connection, left)
    if run_state != "planned":
        for m in left.unsettled:
            write_outcome(connection, m.seq, "cancelled", run_state, now)
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
            not_before=0.0 if done else epoch(connection) + retry_in,
        )
    )
    return done


def half_sent(
    connection: sa.Connection, run_ids: Collection[int] | None = None
) -> Iterator[tuple[Batch, dict[int, datetime]]]:
    """Batches still pending of which something left already, with those messages' seqs and when their call began.

    They are few: what a worker holds, and what waits for a retry.
    """
    touched = sa.select(requests.c.batch_id).where(requests.c.state.in_(("sent", "open", "unknown")))
    wanted = sa.select(batches.c.batch_id).where(batches.c.state == "pending", batches.c.batch_id.in_(touched))
    if run_ids is not None:
        wanted = wanted.where(batches.c.run_id.in_(run_ids))
    for batch_id in connection.execute(wanted.order_by(batches.c.batch_id)).scalars().all():
        batch = read(connection, batch_id)
        opened = dict(
            connection.execute(
                sa.select(requests.c.request_id, requests.c.opened_at).where(requests.c.batch_id == batch_id)
            )
            .tuples()
            .all()
        )
        yield (
            batch,
            {
                seq: max(opened[a.request_id] for a in attempts.values())
                for seq, attempts in batch.attempted.items()
                if any(a.state in ("sent", "open", "unknown") for a in attempts.values())
            },
        )


def _settle(connection: sa.Connection, batch: Batch, now: datetime) -> None:
    for m in batch.messages:
        verdict = batch.verdict(m.seq)
        if verdict and verdict[0] != "sent" and m.seq not in batch.settled:
            write_outcome(connection, m.seq, verdict[0], verdict[1], now, verdict[2])


def _ended(connection: sa.Connection, seqs: Sequence[int]) -> set[int]:
    """Those of the messages that have an outcome."""
    return set(connection.execute(sa.select(outcomes.c.seq).where(outcomes.c.seq.in_(seqs))).scalars())


def write_outcome(
    connection: sa.Connection, seq: int, state: str, reason: str, now: datetime, request_id: int | None = None
) -> None:
    connection.execute(sa.insert(outcomes).values(seq=seq, state=state, reason=reason, request_id=request_id, at=now))


def _pack(seqs: Sequence[int], first: int) -> bytes:
    bits = 0
    for seq in seqs:
        bits |= 1 << (seq - first)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def unpack(members: bytes, first: int) -> list[int]:
    bits, seqs = int.from_bytes(members, "little"), []
    while bits:
        low = bits & -bits
        seqs.append(first + low.bit_length() - 1)
        bits ^= low
    return seqs
