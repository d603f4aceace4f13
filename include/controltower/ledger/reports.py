"""Counting what a run decided and what became of its messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger import funnels, holds, runs, underway, unknowns
from controltower.ledger.funnels import Cell
from controltower.ledger.runs import Run
from controltower.ledger.states import last_outcome
from controltower.ledger.tables import (
    batches,
    campaign_runs,
    choices,
    decisions,
    delivery_events,
    messages,
    occurrences,
)


@dataclass
class Totals:
    """A run in figures; `audience` = held out + not sent when planned + messages, and each message is in one place."""

    run_id: int
    campaign: str
    occurrence: str
    version: int
    state: str
    as_of: str
    audience: int = 0
    held_out: int = 0
    messages: int = 0
    variants: dict[str, int] = field(default_factory=dict)
    not_sent: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    unknown: int = 0
    twice: int = 0  # of the accepted: sent again after an answer was lost, and both left
    cancelled: int = 0
    pending: int = 0
    hold: str | None = None  # why what is pending may not leave: approval | pause
    asked_by: str | None = None
    plan_hash: str | None = None

    @property
    def accounted(self) -> bool:
        """Whether every member of the audience has exactly one place."""
        planned = sum(self.accepted.values()) + sum(self.rejected.values())
        planned += self.unknown + self.cancelled + self.pending + sum(self.not_sent.values()) + self.held_out
        return self.audience == planned

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"accounted": self.accounted}


def totals(connection: sa.Connection, run_ids: Collection[int] | None = None) -> list[Totals]:
    """The figures of these runs, or of all, the newest first."""
    chosen = runs.planned(connection, run_ids=run_ids)
    ids = [run.run_id for run in chosen]
    audiences, cells = funnels.audience(connection, ids), funnels.cells(connection, ids, flags=())
    return [_summed(run, audiences[run.run_id], cells[run.run_id]) for run in reversed(chosen)]


def _summed(run: Run, audience: Iterable[tuple[str, str | None, int]], cells: Iterable[Cell]) -> Totals:
    members, stands = Counter[str](), Counter[str]()
    variants, not_sent, accepted, rejected, accepted_by = (Counter[str]() for _ in range(5))
    for outcome, reason, n in audience:
        members[outcome] += n
        if outcome == "not_sent":
            not_sent[str(reason)] += n
    for cell in cells:
        stands[cell.state] += cell.messages
        variants[cell.variant] += cell.messages
        if cell.state == "accepted":
            accepted[str(cell.provider)] += cell.messages
            accepted_by[str(cell.reason)] += cell.messages
        elif cell.state == "rejected":
            rejected[str(cell.reason)] += cell.messages
        elif cell.state == "not_sent":
            not_sent[str(cell.reason)] += cell.messages
    return Totals(
        run.run_id, run.campaign, run.occurrence, run.version, run.state, run.as_of.isoformat(),
        audience=members.total(), held_out=members["holdout"], messages=stands.total(), variants=dict(variants),
        not_sent=dict(not_sent), accepted=dict(accepted), rejected=dict(rejected), unknown=stands["unknown"],
        twice=accepted_by[unknowns.TWICE], cancelled=stands["cancelled"], pending=stands["waiting"],
        hold=run.hold if run.state == "planned" else None, asked_by=run.asked_by, plan_hash=run.plan_hash,
    )  # fmt: skip


def waiting(connection: sa.Connection, hold: str | None = None) -> tuple[int, datetime | None]:
    """How many messages wait for their hour, and when the next of them is due.

    Those of runs that are held back count only where asked for, by their `hold`: approval or pause.
    """
    m, r = messages.c, campaign_runs.c
    held = sa.case((r.state == "planned", holds.HELD))
    pending = (
        sa.select(sa.func.count(), sa.func.min(batches.c.due_at))
        .select_from(messages)
        .join(batches, batches.c.batch_id == m.batch_id)
        .join(campaign_runs, r.run_id == batches.c.run_id)
        .join(occurrences, occurrences.c.occurrence_id == r.occurrence_id)
        .where(batches.c.state == "pending", last_outcome().is_(None), held.is_not_distinct_from(hold))
    )
    row = connection.execute(pending).one()
    runs_alike = sa.select(r.run_id).join(occurrences, occurrences.c.occurrence_id == r.occurrence_id)
    alike = connection.execute(runs_alike.where(held.is_not_distinct_from(hold))).scalars().all()
    out = sum(len(batch.accepted) for batch, _ in underway.half_sent(connection, alike))
    return int(row[0]) - out, row[1]


def held(connection: sa.Connection) -> dict[str, int]:
    """How many messages wait because their run is held back, by why: `approval`, `pause`."""
    counts = {hold: waiting(connection, hold)[0] for hold in (holds.APPROVAL, holds.PAUSE)}
    return {hold: n for hold, n in counts.items() if n}


def is_waiting(connection: sa.Connection, channel: str, now: datetime) -> bool:
    """Whether anything of a channel is due, by the shop's clock, and hasn't left."""
    b = batches.c
    due = sa.exists().where(b.state == "pending", b.due_at <= now, b.channel == channel)
    return connection.execute(sa.select(due)).scalar_one()


def variant_results(
    connection: sa.Connection, campaign: str, since: datetime, until: datetime
) -> dict[str, tuple[int, int]]:
    """By variant, of a campaign's batches that were done in (since, until], whatever the run: the messages that a
    provider accepted, and how many of those a person (no program) clicked, as was known by `until`."""
    m, b, e = messages.c, batches.c, delivery_events.c
    clicked = (
        sa.select(e.message_id)
        .where(e.event == "clicked", ~e.machine, e.received_at > since, e.received_at <= until)
        .distinct()
        .subquery()
    )
    rows = connection.execute(
        sa.select(b.variant, sa.func.count(), sa.func.count(clicked.c.message_id))
        .select_from(messages)
        .join(batches, b.batch_id == m.batch_id)
        .join(campaign_runs, campaign_runs.c.run_id == b.run_id)
        .join(occurrences, occurrences.c.occurrence_id == campaign_runs.c.occurrence_id)
        .outerjoin(clicked, clicked.c.message_id == m.message_id)
        .where(occurrences.c.campaign == campaign, b.state == "done", b.done_at > since, b.done_at <= until)
        .where(sa.func.coalesce(last_outcome(until), "accepted") == "accepted")
        .group_by(b.variant)
    )
    return {variant: (accepted, people) for variant, accepted, people in rows}


def hour_results(connection: sa.Connection, run_id: int, until: datetime) -> dict[bool, tuple[int, int]]:
    """Of a run's messages at a random hour (True) and at the best one (False): how many a provider accepted, and how
    many of those a person (no program) clicked, as was known by `until`."""
    d, c, m, b, e = decisions.c, choices.c, messages.c, batches.c, delivery_events.c
    explored = c.choice["explored"].as_boolean()
    clicked = sa.exists().where(e.message_id == m.message_id, e.event == "clicked", ~e.machine, e.received_at <= until)
    rows = connection.execute(
        sa.select(explored, sa.func.count(), sa.func.sum(sa.case((clicked, 1), else_=0)))
        .select_from(decisions)
        .join(choices, (c.run_id == d.run_id) & (c.number == d.choices[0].as_integer()))
        .join(messages, m.seq == d.seq)
        .join(batches, b.batch_id == m.batch_id)
        .where(d.run_id == run_id, explored.is_not(None), b.state == "done", b.done_at <= until)
        .where(sa.func.coalesce(last_outcome(until), "accepted") == "accepted")
        .group_by(explored)
    )
    return {bool(at_random): (accepted, int(people)) for at_random, accepted, people in rows}


def earlier_audiences(connection: sa.Connection, campaign: str, but_occurrence: int, last: int) -> list[dict[str, Any]]:
    """The last occurrences of a campaign, the newest first: {size, spec}, of the version that stands.

    An occurrence whose plan was cancelled, or still waits for approval, is left out: nobody has said it is usual.
    """
    r, o = campaign_runs.c, occurrences.c
    earlier = connection.execute(
        sa.select(r.run_id, r.spec)
        .join(occurrences, o.occurrence_id == r.occurrence_id)
        .where(o.campaign == campaign, o.occurrence_id != but_occurrence, r.state == "planned")
        .where(r.hold.is_distinct_from(holds.APPROVAL))
        .order_by(o.occurrence_id.desc(), r.version.desc())
        .limit(last)
    ).all()
    d, ids = decisions.c, [run.run_id for run in earlier]
    counted = sa.select(d.run_id, sa.func.count()).where(d.run_id.in_(ids)).group_by(d.run_id)
    sizes: dict[int, int] = dict(connection.execute(counted).tuples().all())
    return [{"size": sizes.get(run.run_id, 0), "spec": run.spec} for run in earlier]


def due(connection: sa.Connection, run_id: int) -> dict[str, tuple[int, datetime, datetime]]:
    """A plan's messages by channel: how many, and when the first and the last are due."""
    d = decisions.c
    rows = connection.execute(
        sa.select(d.channel, sa.func.count(), sa.func.min(d.due_at), sa.func.max(d.due_at))
        .where(d.run_id == run_id, d.outcome == "message")
        .group_by(d.channel)
        .order_by(d.channel)
    )
    return {channel: (n, first, last) for channel, n, first, last in rows}


def audience(connection: sa.Connection, run_id: int) -> list[dict[str, Any]]:
    """A run's frozen audience by customer: who gets what, and who gets nothing and why."""
    d = decisions.c
    columns = (d.customer_id, d.outcome, d.reason, d.arm, d.probability, d.channel, d.due_at, d.algorithm)
    rows = connection.execute(sa.select(*columns).where(d.run_id == run_id).order_by(d.customer_id))
    return [dict(row) for row in rows.mappings()]
