"""Work on batches: claiming under a lease, requests to providers, outcomes.

Every write names the lease's token, so that a worker that woke late changes nothing. A request is committed as `open`
before the call; one that is still open when the lease has run out was cut short, and is `unknown` from then on.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from controltower.ledger.database import epoch
from controltower.ledger.tables import batches, messages, outcomes, requests

LEASE_SECONDS = 60.0  # renewed with every write

State = Literal["open", "sent", "retry", "rejected", "unknown"]


class LeaseLost(Exception):
    """Another worker has taken the batch: this one must stop writing."""


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
    """A batch as the ledger has it; `open` lists the messages that still want a request."""

    batch_id: int
    run_id: int
    channel: str
    due_at: datetime
    first_seq: int
    attempts: int
    messages: tuple[Message, ...]
    settled: Mapping[int, str]  # seq -> last outcome
    attempted: Mapping[int, Mapping[str | None, Attempt]]  # seq -> device -> last request

    @property
    def unsettled(self) -> list[Message]:
        return [m for m in self.messages if m.seq not in self.settled and self.verdict(m.seq) is None]

    @property
    def touched(self) -> bool:
        return bool(self.attempted)

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
    for r in connection.execute(
        sa.select(requests).where(requests.c.batch_id == batch_id).order_by(requests.c.request_id)
    ):
        for seq in _unpack(r.members, head.first_seq):
            attempted.setdefault(seq, {})[r.device_id] = Attempt(r.state, r.reason, r.request_id)
    return Batch(
        head.batch_id, head.run_id, head.channel, head.due_at, head.first_seq, head.attempts, rows,
        dict(last_outcomes.tuples().all()), attempted,
    )  # fmt: skip


def claim(connection: sa.Connection, now: datetime, channels: Collection[str]) -> tuple[Batch, str] | None:
    """Take the batch that is due longest and that nobody holds: it and the lease's token; None if there is none.

    What an earlier worker left open in it becomes `unknown`.
    """
    clock = epoch(connection)
    b = batches.c
    batch_id = connection.execute(
        sa.select(b.batch_id)
        .where(b.state == "pending", b.due_at <= now, b.not_before <= clock, b.channel.in_(channels))
        .where(sa.or_(b.lease_token.is_(None), b.lease_until < clock))
        .order_by(b.due_at, b.batch_id)
        .limit(1)
        .with_for_update(skip_locked=True)
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
    return read(connection, batch_id), token


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
    """Commit to calls about to be made, each given as its messages' seqs and the device. Returns the request ids."""
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
    """End messages without a request: (seq, state, reason), the state `not_sent`, `rejected` or `cancelled`."""
    _hold(connection, batch.batch_id, token)
    for seq, state, reason in refused:
        write_outcome(connection, seq, state, reason, now)


def defer(connection: sa.Connection, batch: Batch, token: str, seqs: Sequence[int], until: datetime) -> None:
    """Move messages to a batch of their own that is due later."""
    _hold(connection, batch.batch_id, token)
    later = connection.execute(
        sa.insert(batches)
        .values(
            run_id=batch.run_id, channel=batch.channel, due_at=until, first_seq=min(seqs), size=len(seqs),
            state="pending",
        )
        .returning(batches.c.batch_id)
    ).scalar_one()  # fmt: skip
    connection.execute(sa.update(messages).where(messages.c.seq.in_(seqs)).values(batch_id=later))


def release(connection: sa.Connection, batch: Batch, token: str, now: datetime, *, retry_in: float = 0.0) -> bool:
    """Give the batch back: done when each message has a verdict, else due again in `retry_in` seconds.

    Returns whether it is done.
    """
    _hold(connection, batch.batch_id, token)
    _settle(connection, read(connection, batch.batch_id), now)
    left = read(connection, batch.batch_id)
    done = not left.unsettled
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


def _settle(connection: sa.Connection, batch: Batch, now: datetime) -> None:
    for m in batch.messages:
        verdict = batch.verdict(m.seq)
        if verdict and verdict[0] != "sent" and m.seq not in batch.settled:
            write_outcome(connection, m.seq, verdict[0], verdict[1], now, verdict[2])


def write_outcome(
    connection: sa.Connection, seq: int, state: str, reason: str, now: datetime, request_id: int | None = None
) -> None:
    connection.execute(sa.insert(outcomes).values(seq=seq, state=state, reason=reason, request_id=request_id, at=now))


def _pack(seqs: Sequence[int], first: int) -> bytes:
    bits = 0
    for seq in seqs:
        bits |= 1 << (seq - first)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _unpack(members: bytes, first: int) -> list[int]:
    bits, seqs = int.from_bytes(members, "little"), []
    while bits:
        low = bits & -bits
        seqs.append(first + low.bit_length() - 1)
        bits ^= low
    return seqs
