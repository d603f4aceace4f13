"""Messages whose answer was lost: `unknown`, until something comes back or their time is over.

What came back settles a message: an outcome `accepted` says that it left after all. Without it, the message stays
unknown for good (reason `grace_over`), or is reopened: it waits again, in a batch of its own. From then on it ends as
accepted or unknown, never as not sent: its first call may have arrived.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from controltower.ledger import work
from controltower.ledger.insert import batched
from controltower.ledger.members import unpack
from controltower.ledger.tables import batches, delivery_events, messages, outcomes, requests

GRACE_OVER = "grace_over"
TWICE = "twice"
_ASKED_AT_ONCE = 500  # ids a query: SQLite takes no more than so many parameters

_later = outcomes.alias()
_is_last = ~sa.exists().where(_later.c.seq == outcomes.c.seq, _later.c.outcome_id > outcomes.c.outcome_id)
_is_open = sa.and_(outcomes.c.state == "unknown", outcomes.c.reason != GRACE_OVER, _is_last)


class Lost(NamedTuple):
    """A message whose answer was lost, and for which nothing has been decided yet."""

    outcome_id: int
    since: datetime  # when that was written down
    seq: int
    message_id: str
    batch_id: int
    channel: str
    expires_at: datetime


def runs(connection: sa.Connection) -> Sequence[int]:
    """The runs with such messages."""
    rows = sa.select(batches.c.run_id).join(messages, messages.c.batch_id == batches.c.batch_id)
    rows = rows.join(outcomes, outcomes.c.seq == messages.c.seq).where(_is_open).distinct()
    return connection.execute(rows.order_by(batches.c.run_id)).scalars().all()


def lost(connection: sa.Connection, run_id: int, after: int, most: int) -> list[Lost]:
    """Such messages of a run whose outcome came `after`, in order; theirs until the transaction ends."""
    o, m, b = outcomes.c, messages.c, batches.c
    rows = (
        sa.select(o.outcome_id, o.at, m.seq, m.message_id, b.batch_id, b.channel, b.expires_at)
        .join(messages, m.seq == o.seq)
        .join(batches, b.batch_id == m.batch_id)
        .where(b.run_id == run_id, o.outcome_id > after, _is_open)
        .order_by(o.outcome_id)
        .limit(most)
    )
    _lock(connection, [row.seq for row in connection.execute(rows)])
    return [Lost(*row) for row in connection.execute(rows)]  # as they are by the lock


def settle(connection: sa.Connection, ids: Iterable[str]) -> set[str]:
    """Accept those of these messages that are unknown, or wait to be sent again, and of which something came back.

    Each from when that was received. Returns their ids.
    """
    settled: set[str] = set()
    for chunk in batched(sorted(set(ids)), _ASKED_AT_ONCE):
        if found := _proved(connection, chunk):
            _lock(connection, [row.seq for row in found])
            found = _proved(connection, chunk)
            _write(connection, found, "event")
            settled.update(row.message_id for row in found)
    return settled


class _Proved(NamedTuple):
    seq: int
    message_id: str
    request_id: int | None  # the last call whose answer was lost
    at: datetime


def _proved(connection: sa.Connection, ids: Sequence[str]) -> list[_Proved]:
    m, o, e, every = messages.c, outcomes.c, delivery_events.c, outcomes.alias()
    call = sa.select(sa.func.max(every.c.request_id)).where(every.c.seq == m.seq).correlate(messages).scalar_subquery()
    rows = (
        sa.select(m.seq, m.message_id, call, sa.func.min(e.received_at))
        .join(outcomes, o.seq == m.seq)
        .join(delivery_events, e.message_id == m.message_id)
        .where(m.message_id.in_(ids), o.state.in_(("unknown", "reopened")), _is_last, e.event != "unknown")
        .group_by(m.seq, m.message_id)
    )
    return [_Proved(*row) for row in connection.execute(rows)]


def give_up(connection: sa.Connection, seqs: Iterable[int], now: datetime) -> None:
    """Let messages stay unknown for good; what comes back later settles them all the same."""
    work.write_outcome(connection, seqs, "unknown", GRACE_OVER, now)


def reopen(connection: sa.Connection, batch_id: int, seqs: Collection[int], now: datetime) -> None:
    """Let messages of a batch, whose run is planned, leave again: due now, after the same checks as before."""
    work.write_outcome(connection, seqs, "reopened", GRACE_OVER, now)
    work.part(connection, work.read(connection, batch_id), seqs, now)


def reopened(connection: sa.Connection, ids: Iterable[str]) -> set[str]:
    """Those of the messages that were to be sent again."""
    found: set[str] = set()
    for chunk in batched(sorted(set(ids)), _ASKED_AT_ONCE):
        rows = sa.select(messages.c.message_id).join(outcomes, outcomes.c.seq == messages.c.seq)
        rows = rows.where(messages.c.message_id.in_(chunk), outcomes.c.state == "reopened")
        found.update(connection.execute(rows).scalars())
    return found


def tell_apart(connection: sa.Connection, ids: Iterable[str]) -> int:
    """Note which of these reopened messages left twice. Returns how many weren't known to have.

    A provider names its call in an event's detail (`call`) as it did in its answer: an event of another call than the
    one that was answered is of the one whose answer was lost.
    """
    found = []
    for chunk in batched(sorted(set(ids)), _ASKED_AT_ONCE):
        answered = _answered(connection, chunk)
        e = delivery_events.c
        told = sa.select(e.message_id, e.detail, e.received_at).where(e.message_id.in_(chunk))
        for message_id, detail, at in connection.execute(told.order_by(e.event_id)):
            call = (detail or {}).get("call")
            if call and message_id in answered and not call.startswith(tuple(answered[message_id][1])):
                found.append(_Proved(answered.pop(message_id)[0], message_id, None, at))
    _lock(connection, [row.seq for row in found])
    known = sa.select(outcomes.c.seq).where(outcomes.c.seq.in_([r.seq for r in found]), outcomes.c.reason == TWICE)
    before = set(connection.execute(known).scalars())
    new = [row for row in found if row.seq not in before]
    _write(connection, new, TWICE)
    return len(new)


def _answered(connection: sa.Connection, ids: Sequence[str]) -> dict[str, tuple[int, list[str]]]:
    """By message: its seq, and the provider's names of the calls that took it, of its present batch."""
    m, r = messages.c, requests.c
    rows = (
        sa.select(m.message_id, m.seq, batches.c.first_seq, r.members, r.provider_message_id)
        .join(batches, batches.c.batch_id == m.batch_id)
        .join(requests, r.batch_id == m.batch_id)
        .where(m.message_id.in_(ids), r.state == "sent", r.provider_message_id.is_not(None))
    )
    found: dict[str, tuple[int, list[str]]] = {}
    for message_id, seq, first, members, name in connection.execute(rows):
        if seq in unpack(members, first):
            found.setdefault(message_id, (seq, []))[1].append(name)
    return found


def _lock(connection: sa.Connection, seqs: Iterable[int]) -> None:
    """Nobody else settles or reopens these messages until the transaction ends."""
    rows = sa.select(messages.c.seq).where(messages.c.seq.in_(sorted(seqs))).order_by(messages.c.seq)
    connection.execute(rows.with_for_update(key_share=True)).all()


def _write(connection: sa.Connection, found: Iterable[_Proved], reason: str) -> None:
    rows = [
        {"seq": p.seq, "state": "accepted", "reason": reason, "request_id": p.request_id, "at": p.at} for p in found
    ]
    if rows:
        connection.execute(sa.insert(outcomes), rows)
