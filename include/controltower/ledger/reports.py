"""Counting what a run decided and what became of its messages."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger import events, holds, work
from controltower.ledger.tables import (
    batches,
    campaign_runs,
    decisions,
    delivery_events,
    messages,
    occurrences,
    outcomes,
    requests,
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


def totals(connection: sa.Connection, run_id: int | None = None) -> list[Totals]:
    """The figures of one run, or of all, the newest first."""
    runs = (
        sa.select(campaign_runs, occurrences.c.campaign, occurrences.c.occurrence)
        .join(occurrences, occurrences.c.occurrence_id == campaign_runs.c.occurrence_id)
        .order_by(campaign_runs.c.run_id.desc())
    )
    if run_id is not None:
        runs = runs.where(campaign_runs.c.run_id == run_id)
    found = {
        r.run_id: Totals(
            r.run_id, r.campaign, r.occurrence, r.version, r.state, r.as_of.isoformat(),
            hold=r.hold if r.state == "planned" else None, asked_by=r.asked_by, plan_hash=r.plan_hash,
        )
        for r in connection.execute(runs)
    }  # fmt: skip
    for report in found.values():
        _count(connection, report)
    return list(found.values())


def _count(connection: sa.Connection, report: Totals) -> None:
    d = decisions.c
    not_sent: Counter[str] = Counter()
    for outcome, reason, n in connection.execute(
        sa.select(d.outcome, d.reason, sa.func.count()).where(d.run_id == report.run_id).group_by(d.outcome, d.reason)
    ):
        report.audience += n
        if outcome == "holdout":
            report.held_out += n
        elif outcome == "not_sent":
            not_sent[reason] += n
    accepted: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    variants: Counter[str] = Counter()
    for variant, provider, state, reason, n in connection.execute(_states(report.run_id)):
        report.messages += n
        variants[variant] += n
        match state:
            case "done":
                accepted[provider] += n
            case "rejected":
                rejected[reason] += n
            case "not_sent":
                not_sent[reason] += n
            case "unknown":
                report.unknown += n
            case "cancelled":
                report.cancelled += n
            case _:
                report.pending += n
    for batch, _ in work.half_sent(connection, report.run_id):
        for message in batch.messages:
            verdict = batch.verdict(message.seq)
            if verdict and verdict[0] == "sent" and message.seq not in batch.settled:
                accepted[str(batch.provider)] += 1
                report.pending -= 1
    report.not_sent, report.accepted = dict(not_sent), dict(accepted)
    report.rejected, report.variants = dict(rejected), dict(variants)


def _states(run_id: int) -> sa.Select[Any]:
    """Messages of a run by variant, provider, state (its last outcome's, else its batch's) and reason.

    An `unknown` one of which something came back did leave: it is `done`.
    """
    m, o = messages.c, outcomes.c
    last = sa.select(o.seq, sa.func.max(o.outcome_id).label("outcome_id")).group_by(o.seq).subquery()
    via = (
        sa.select(requests.c.batch_id, sa.func.min(requests.c.provider).label("provider"))
        .group_by(requests.c.batch_id)
        .subquery()
    )
    state = sa.case(
        (sa.and_(o.state == "unknown", events.proved()), "done"), else_=sa.func.coalesce(o.state, batches.c.state)
    )
    one_by_one = (
        sa.select(m.variant, via.c.provider, state.label("state"), o.reason)
        .select_from(messages)
        .join(batches, batches.c.batch_id == m.batch_id)
        .outerjoin(via, via.c.batch_id == m.batch_id)
        .outerjoin(last, last.c.seq == m.seq)
        .outerjoin(outcomes, o.outcome_id == last.c.outcome_id)
        .where(m.run_id == run_id)
        .subquery()
    )
    return sa.select(*one_by_one.c, sa.func.count()).group_by(*one_by_one.c)


def waiting(connection: sa.Connection, hold: str | None = None) -> tuple[int, datetime | None]:
    """How many messages wait for their hour, and when the next of them is due.

    Those of runs that are held back count only where asked for, by their `hold`: approval or pause.
    """
    m, o, r = messages.c, outcomes.c, campaign_runs.c
    held = sa.case((r.state == "planned", r.hold))
    pending = (
        sa.select(sa.func.count(), sa.func.min(batches.c.due_at))
        .select_from(messages)
        .join(batches, batches.c.batch_id == m.batch_id)
        .join(campaign_runs, r.run_id == batches.c.run_id)
        .where(batches.c.state == "pending", ~sa.exists().where(o.seq == m.seq), held.is_not_distinct_from(hold))
    )
    row = connection.execute(pending).one()
    runs = set(connection.execute(sa.select(r.run_id).where(held.is_not_distinct_from(hold))).scalars())
    out = sum(
        seq not in batch.settled and batch.verdict(seq) is not None
        for batch, left in work.half_sent(connection)
        for seq in left
        if batch.run_id in runs
    )
    return int(row[0]) - out, row[1]


def held(connection: sa.Connection) -> dict[str, int]:
    """How many messages wait because their run is held back, by why: `approval`, `pause`."""
    counts = {hold: waiting(connection, hold)[0] for hold in (holds.APPROVAL, holds.PAUSE)}
    return {hold: n for hold, n in counts.items() if n}


def variant_results(
    connection: sa.Connection, campaign: str, since: datetime, until: datetime
) -> dict[str, tuple[int, int]]:
    """By variant, of a campaign's batches that were done in (since, until], whatever the run: the messages that a
    provider accepted, and how many of those a person (no program) clicked, as was known by `until`."""
    m, b, o, e = messages.c, batches.c, outcomes.c, delivery_events.c
    last = sa.select(o.state).where(o.seq == m.seq).order_by(o.outcome_id.desc()).limit(1).scalar_subquery()
    proved = sa.exists().where(e.message_id == m.message_id, e.event != "unknown", e.received_at <= until)
    clicked = (
        sa.select(e.message_id)
        .where(e.event == "clicked", ~e.machine, e.received_at > since, e.received_at <= until)
        .distinct()
        .subquery()
    )
    rows = connection.execute(
        sa.select(m.variant, sa.func.count(), sa.func.count(clicked.c.message_id))
        .select_from(messages)
        .join(batches, b.batch_id == m.batch_id)
        .join(occurrences, occurrences.c.occurrence_id == m.occurrence_id)
        .outerjoin(clicked, clicked.c.message_id == m.message_id)
        .where(occurrences.c.campaign == campaign, b.state == "done", b.done_at > since, b.done_at <= until)
        .where(sa.or_(last.is_(None), sa.and_(last == "unknown", proved)))
        .group_by(m.variant)
    )
    return {variant: (accepted, people) for variant, accepted, people in rows}


def earlier_audiences(connection: sa.Connection, campaign: str, but_occurrence: int, last: int) -> list[dict[str, Any]]:
    """The last occurrences of a campaign, the newest first: {size, spec}, of the version that stands.

    An occurrence whose plan was cancelled, or still waits for approval, is left out: nobody has said it is usual.
    """
    r, o = campaign_runs.c, occurrences.c
    runs = connection.execute(
        sa.select(r.run_id, r.spec)
        .join(occurrences, o.occurrence_id == r.occurrence_id)
        .where(o.campaign == campaign, o.occurrence_id != but_occurrence, r.state == "planned")
        .where(r.hold.is_distinct_from(holds.APPROVAL))
        .order_by(o.occurrence_id.desc(), r.version.desc())
        .limit(last)
    ).all()
    d = decisions.c
    counted = sa.select(d.run_id, sa.func.count()).where(d.run_id.in_([run.run_id for run in runs])).group_by(d.run_id)
    sizes: dict[int, int] = dict(connection.execute(counted).tuples().all())
    return [{"size": sizes.get(run.run_id, 0), "spec": run.spec} for run in runs]


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
