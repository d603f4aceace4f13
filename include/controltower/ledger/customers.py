"""What the ledger knows of a customer as of a moment: what each campaign decided, what became of it, what came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from controltower.ledger.members import unpack
from controltower.ledger.states import message_states
from controltower.ledger.tables import (
    approvals,
    batches,
    campaign_runs,
    decisions,
    delivery_events,
    merges,
    messages,
    occurrences,
    outcomes,
    requests,
)

_STOPS = ("cancelled", "rejected")  # decisions on a run that end its unsent messages


class Decided(NamedTuple):
    """What a run decided about a customer, and where its message stands; `state` None: there is no message."""

    run_id: int
    campaign: str
    occurrence: str
    version: int
    planned_at: datetime
    customer_id: str
    outcome: str  # message | holdout | not_sent
    reason: str | None  # of the decision; None: a message was decided
    arm: str | None
    channel: str | None
    due_at: datetime | None
    algorithm: str | None
    message_id: str | None
    state: str | None
    state_reason: str | None
    at: datetime | None  # since when it stands there


class Reaction(NamedTuple):
    """What came back of a message."""

    message_id: str
    event: str
    occurred_at: datetime
    machine: bool


def ids_of(connection: sa.Connection, customer: str, as_of: datetime) -> list[str]:
    """All ids of the person that this id was of at a moment; the id that stands for the person comes first."""
    g = merges.c
    held = sa.and_(g.merged_at <= as_of, sa.or_(g.ended_at.is_(None), g.ended_at > as_of))
    person = connection.execute(sa.select(g.person_id).where(g.customer_id == customer, held)).scalar() or customer
    others = sa.select(g.customer_id).where(g.person_id == person, held).distinct().order_by(g.customer_id)
    return [person, *(one for one in connection.execute(others).scalars() if one != person)]


def decided(connection: sa.Connection, customers: Sequence[str], as_of: datetime) -> list[Decided]:
    """What every run planned by `as_of` decided about these customers, the newest first."""
    d, r, o = decisions.c, campaign_runs.c, occurrences.c
    rows = connection.execute(
        sa.select(
            d.run_id, o.campaign, o.occurrence, r.version, r.planned_at, d.customer_id, d.outcome, d.reason, d.arm,
            d.channel, d.due_at, d.algorithm, d.seq,
        )
        .join(campaign_runs, r.run_id == d.run_id)
        .join(occurrences, o.occurrence_id == r.occurrence_id)
        .where(d.customer_id.in_(customers), r.planned_at <= as_of)
        .order_by(r.planned_at.desc(), d.run_id.desc(), d.customer_id)
    ).all()  # fmt: skip
    states = _states(connection, [row.seq for row in rows if row.seq is not None], as_of)
    none = (None, None, None, None)
    return [Decided(*row[:-1], *states.get(row.seq, none)) for row in rows]


def reactions(connection: sa.Connection, message_ids: Sequence[str], as_of: datetime) -> list[Reaction]:
    """What was received by `as_of` of these messages."""
    e = delivery_events.c
    rows = (
        sa.select(e.message_id, e.event, e.occurred_at, e.machine)
        .where(e.message_id.in_(message_ids), e.received_at <= as_of)
        .order_by(e.occurred_at, e.event_id)
    )
    return [Reaction(*row) for row in connection.execute(rows)]


_State = tuple[str | None, str, str | None, datetime]  # message_id, state, reason, at


def _states(connection: sa.Connection, seqs: Sequence[int], as_of: datetime) -> Mapping[int, _State]:
    """Where each message stood at `as_of`: as it stands now, unless it came there later."""
    s = message_states.c
    rows = connection.execute(sa.select(s.seq, s.message_id, s.state, s.reason, s.at).where(s.seq.in_(seqs))).all()
    found: dict[int, _State] = {row.seq: tuple(row[1:]) for row in rows}
    stopped = _stopped(connection, [row.seq for row in rows if row.state == "cancelled"])
    later = [row.seq for row in rows if max(row.at, stopped.get(row.seq, row.at)) > as_of]
    for seq, state in _earlier(connection, later, as_of).items():
        found[seq] = (found[seq][0], *state)
    return found


def _stopped(connection: sa.Connection, seqs: Sequence[int]) -> dict[int, datetime]:
    """When these messages' runs were stopped or replaced: a batch that was cancelled doesn't tell."""
    m, b, r, a = messages.c, batches.c, campaign_runs.c, approvals.c
    following = campaign_runs.alias()
    rows = connection.execute(
        sa.select(m.seq, sa.func.min(a.decided_at), sa.func.min(following.c.planned_at))
        .join(batches, b.batch_id == m.batch_id)
        .join(campaign_runs, r.run_id == b.run_id)
        .outerjoin(approvals, sa.and_(a.run_id == r.run_id, a.decision.in_(_STOPS)))
        .outerjoin(
            following,
            sa.and_(following.c.occurrence_id == r.occurrence_id, following.c.version > r.version),
        )
        .where(m.seq.in_(seqs))
        .group_by(m.seq)
    )
    return {seq: min(moments) for seq, *given in rows if (moments := [at for at in given if at is not None])}


def _earlier(
    connection: sa.Connection, seqs: Sequence[int], as_of: datetime
) -> dict[int, tuple[str, str | None, datetime]]:
    """Where these messages stood at an earlier moment: by the outcomes and calls that had ended, else they waited."""
    m, b, r, q, o = messages.c, batches.c, campaign_runs.c, requests.c, outcomes.c
    found: dict[int, tuple[str, str | None, datetime]] = {}
    planned = connection.execute(
        sa.select(m.seq, r.planned_at, b.done_at)
        .join(batches, b.batch_id == m.batch_id)
        .join(campaign_runs, r.run_id == b.run_id)
        .where(m.seq.in_(seqs))
    )
    for seq, planned_at, done_at in planned:
        done = done_at is not None and done_at <= as_of
        found[seq] = ("accepted", None, done_at) if done else ("waiting", None, planned_at)
    calls = connection.execute(
        sa.select(q.members, b.first_seq, q.closed_at)
        .join(batches, b.batch_id == q.batch_id)
        .where(q.state == "sent", q.closed_at <= as_of, b.batch_id.in_(sa.select(m.batch_id).where(m.seq.in_(seqs))))
        .order_by(q.closed_at.desc())
    )
    for members, first_seq, closed_at in calls:
        for seq in found.keys() & set(unpack(members, first_seq)):
            found[seq] = ("accepted", None, closed_at)
    ended = sa.select(o.seq, o.state, o.reason, o.at).where(o.seq.in_(seqs), o.at <= as_of).order_by(o.outcome_id)
    for seq, state, reason, at in connection.execute(ended):
        found[seq] = ("waiting", reason, at) if state == "reopened" else (state, reason, at)
    return found
