"""Counting what became of runs' messages: where each stands, and what came back for it.

Each message is counted once, whatever the order and number of its events; the counting is the database's. All pages and
reports count with this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger import underway
from controltower.ledger.sends import UNDELIVERED
from controltower.ledger.states import known_by
from controltower.ledger.tables import batches, decisions, delivery_events, messages, outcomes, requests

# What shows that a message arrived: its events may come in any order, and some are lost.
ARRIVED = ("delivered", "opened", "clicked", "complained", "unsubscribed")
FLAGS = (
    "delivered", "bounced", "opened", "opened_by_machine", "clicked", "clicked_by_machine", "unsubscribed", "complained"
)  # fmt: skip
_AT_ONCE = 1000


@dataclass(frozen=True)
class Cell:
    """How many messages of a channel and variant stand alike, and how many of them each flag is true of.

    `state` is accepted, waiting, not_sent, rejected, unknown or cancelled; `reason` is given with the last four, and
    where an answer was lost. Cells are there to be summed: several may be of the same kind, and one that takes back
    what another counts is negative.
    """

    channel: str
    variant: str
    provider: str | None  # none: no call was made yet for any message of its batch
    state: str
    reason: str | None
    messages: int
    flags: Mapping[str, int]


def audience(connection: sa.Connection, run_ids: Collection[int]) -> dict[int, list[tuple[str, str | None, int]]]:
    """Each run's frozen audience: (outcome, reason, members)."""
    d = decisions.c
    rows = (
        sa.select(d.run_id, d.outcome, d.reason, sa.func.count())
        .where(d.run_id.in_(run_ids))
        .group_by(d.run_id, d.outcome, d.reason)
    )
    found: dict[int, list[tuple[str, str | None, int]]] = {run_id: [] for run_id in run_ids}
    for run_id, outcome, reason, members in connection.execute(rows):
        found[run_id].append((outcome, reason, members))
    return found


def cells(
    connection: sa.Connection, run_ids: Collection[int], as_of: datetime | None = None, flags: Sequence[str] = FLAGS
) -> dict[int, list[Cell]]:
    """Each run's messages as they stand now, with what came back for them by `as_of` (default: so far).

    Whoever reads no flags asks for none: they cost a look at every event.
    """
    found: dict[int, list[Cell]] = {run_id: [] for run_id in run_ids}
    for row in connection.execute(_counted(run_ids, as_of, flags)):
        found[row.run_id].append(_cell(row, flags))
    # What left already out of batches that still wait moves from waiting to accepted.
    left = [seq for batch, _ in underway.half_sent(connection, run_ids) for seq in batch.accepted]
    for start in range(0, len(left), _AT_ONCE):
        for row in connection.execute(_counted(run_ids, as_of, flags, left[start : start + _AT_ONCE])):
            found[row.run_id] += [_cell(row, flags, -1), _cell(row, flags, 1, "accepted")]
    return found


_STATES = {"done": "accepted", "pending": "waiting"}


def _cell(row: Any, flags: Sequence[str], factor: int = 1, state: str | None = None) -> Cell:
    state = state or _STATES.get(row.state, row.state)
    flagged = {name: factor * int(getattr(row, name)) for name in flags}
    return Cell(row.channel, row.variant, row.provider, state, row.reason, factor * int(row.messages), flagged)


def _counted(
    run_ids: Collection[int], as_of: datetime | None, flags: Sequence[str], seqs: Sequence[int] | None = None
) -> sa.Select[Any]:
    """Messages of these runs, or only `seqs`, by batch, state (their last outcome's, else their batch's) and
    reason.
    """
    m, o, b = messages.c, outcomes.c, batches.c
    theirs = sa.select(b.batch_id).where(b.run_id.in_(run_ids))
    mine = m.batch_id.in_(theirs) if seqs is None else m.seq.in_(seqs)
    last = (
        sa.select(o.seq, sa.func.max(o.outcome_id).label("outcome_id"))
        .join(messages, m.seq == o.seq)
        .where(mine, known_by(as_of))
        .group_by(o.seq)
    ).subquery()
    keys = (m.batch_id, sa.func.nullif(o.state, "reopened").label("outcome"), o.reason)
    each = (
        sa.select(*keys, sa.func.count().label("messages"))
        .outerjoin(last, last.c.seq == m.seq)
        .outerjoin(outcomes, o.outcome_id == last.c.outcome_id)
        .where(mine)
        .group_by(*keys)
    )
    if flags:
        back = _came_back(mine, as_of).subquery()
        each = each.add_columns(*(sa.func.sum(sa.func.coalesce(back.c[name], 0)).label(name) for name in flags))
        each = each.outerjoin(back, back.c.message_id == m.message_id)
    of_batch = each.subquery()
    via = sa.select(sa.func.min(requests.c.provider)).where(requests.c.batch_id == b.batch_id).scalar_subquery()
    found = of_batch.c
    return sa.select(
        b.run_id, b.channel, via.label("provider"), sa.func.coalesce(found.outcome, b.state).label("state"),
        b.variant, found.reason, found.messages, *(found[name] for name in flags),
    ).join(batches, b.batch_id == found.batch_id)  # fmt: skip


def _came_back(mine: sa.ColumnElement[bool], as_of: datetime | None) -> sa.Select[Any]:
    """One row a message of which anything came back. A bounce outweighs a delivery: it may follow one by hours."""
    e = delivery_events.c

    def any_of(*events: str, machine: bool | None = None) -> sa.ColumnElement[int]:
        fits: sa.ColumnElement[bool] = e.event.in_(events)
        if machine is not None:
            fits = sa.and_(fits, e.machine if machine else ~e.machine)
        return sa.func.max(sa.case((fits, 1), else_=0))

    bounced = any_of(*UNDELIVERED)
    back = (
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
        .where(mine, e.event != "unknown")
        .group_by(e.message_id)
    )
    return back if as_of is None else back.where(e.received_at <= as_of)
