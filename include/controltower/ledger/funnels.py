"""Counting what became of a run's messages: where each stands, and what came back for it.

Each message is counted once, whatever the order and number of its events; the counting is the database's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger import work
from controltower.ledger.sends import UNDELIVERED
from controltower.ledger.tables import batches, decisions, delivery_events, messages, outcomes

# What shows that a message arrived: its events may come in any order, and some are lost.
ARRIVED = ("delivered", "opened", "clicked", "complained", "unsubscribed")
FLAGS = (
    "delivered", "bounced", "opened", "opened_by_machine", "clicked", "clicked_by_machine", "unsubscribed", "complained"
)  # fmt: skip
_AT_ONCE = 1000


@dataclass(frozen=True)
class Cell:
    """How many messages of a channel and variant stand alike, and how many of them each flag is true of.

    `state` is accepted, waiting, not_sent, rejected, unknown or cancelled; `reason` is given with the last four.
    """

    channel: str
    variant: str
    state: str
    reason: str | None
    messages: int
    flags: Mapping[str, int]


def audience(connection: sa.Connection, run_id: int) -> list[tuple[str, str | None, int]]:
    """The frozen audience: (outcome, reason, members)."""
    d = decisions.c
    rows = sa.select(d.outcome, d.reason, sa.func.count()).where(d.run_id == run_id).group_by(d.outcome, d.reason)
    return list(connection.execute(rows).tuples())


def cells(connection: sa.Connection, run_id: int, as_of: datetime) -> list[Cell]:
    """The run's messages as they stand now, with what came back for them by `as_of`."""
    each = _each(run_id, as_of).subquery()
    found = [_cell(row) for row in connection.execute(_grouped(each))]
    return found + _left_of_pending(connection, run_id, each)


def _cell(row: Any, factor: int = 1, state: str | None = None) -> Cell:
    state = state or _STATES.get(row.state, row.state)
    flags = {name: factor * int(getattr(row, name)) for name in FLAGS}
    return Cell(row.channel, row.variant, state, row.reason, factor * int(row.messages), flags)


_STATES = {"done": "accepted", "pending": "waiting"}


def _left_of_pending(connection: sa.Connection, run_id: int, each: sa.Subquery) -> list[Cell]:
    """Corrections for what left already out of batches that still wait: they move from waiting to accepted."""
    corrections = []
    for batch, _ in work.half_sent(connection, run_id):
        seqs = [
            m.seq
            for m in batch.messages
            if m.seq not in batch.settled and (verdict := batch.verdict(m.seq)) and verdict[0] == "sent"
        ]
        for start in range(0, len(seqs), _AT_ONCE):
            for row in connection.execute(_grouped(each, seqs[start : start + _AT_ONCE])):
                corrections += [_cell(row, -1, "waiting"), _cell(row, 1, "accepted")]
    return corrections


def _grouped(each: sa.Subquery, seqs: Sequence[int] | None = None) -> sa.Select[Any]:
    keys = (each.c.channel, each.c.variant, each.c.state, each.c.reason)
    query = sa.select(
        *keys, sa.func.count().label("messages"), *(sa.func.sum(each.c[name]).label(name) for name in FLAGS)
    ).group_by(*keys)
    return query if seqs is None else query.where(each.c.seq.in_(seqs))


def _each(run_id: int, as_of: datetime) -> sa.Select[Any]:
    """One row a message: channel, variant, state (its last outcome's, else its batch's), reason and flags (0 or 1).

    One whose answer was lost was taken after all if something came back for it.
    """
    m, o = messages.c, outcomes.c
    mine = sa.select(m.seq).where(m.run_id == run_id)
    last = (
        sa.select(o.seq, sa.func.max(o.outcome_id).label("outcome_id")).where(o.seq.in_(mine)).group_by(o.seq)
    ).subquery()
    back = _came_back(run_id, as_of).subquery()
    state = sa.func.coalesce(o.state, batches.c.state)
    proved = sa.and_(o.state == "unknown", back.c.message_id.is_not(None))
    return (
        sa.select(
            m.seq, m.channel, m.variant,
            sa.case((proved, "done"), else_=state).label("state"),
            sa.case((proved, None), else_=o.reason).label("reason"),
            *(sa.func.coalesce(back.c[name], 0).label(name) for name in FLAGS),
        )
        .join(batches, batches.c.batch_id == m.batch_id)
        .outerjoin(last, last.c.seq == m.seq)
        .outerjoin(outcomes, o.outcome_id == last.c.outcome_id)
        .outerjoin(back, back.c.message_id == m.message_id)
        .where(m.run_id == run_id)
    )  # fmt: skip


def _came_back(run_id: int, as_of: datetime) -> sa.Select[Any]:
    """One row a message of which anything came back. A bounce outweighs a delivery: it may follow one by hours."""
    e = delivery_events.c

    def any_of(*events: str, machine: bool | None = None) -> sa.ColumnElement[int]:
        fits: sa.ColumnElement[bool] = e.event.in_(events)
        if machine is not None:
            fits = sa.and_(fits, e.machine if machine else ~e.machine)
        return sa.func.max(sa.case((fits, 1), else_=0))

    bounced = any_of(*UNDELIVERED)
    return (
        sa.select(
            e.message_id,
            (any_of(*ARRIVED) * (1 - bounced)).label("delivered"),
            bounced.label("bounced"),
            any_of("opened", machine=False).label("opened"),
            (any_of("opened", machine=True) * (1 - any_of("opened", machine=False))).label("opened_by_machine"),
            any_of("clicked", machine=False).label("clicked"),
            (any_of("clicked", machine=True) * (1 - any_of("clicked", machine=False))).label("clicked_by_machine"),
            any_of("unsubscribed").label("unsubscribed"),
            any_of("complained").label("complained"),
        )
        .join(messages, messages.c.message_id == e.message_id)
        .where(messages.c.run_id == run_id, e.received_at <= as_of, e.event != "unknown")
        .group_by(e.message_id)
    )
