"""Counting what a run decided and what became of its messages."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger import work
from controltower.ledger.tables import batches, campaign_runs, decisions, messages, occurrences, outcomes, requests


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
        r.run_id: Totals(r.run_id, r.campaign, r.occurrence, r.version, r.state, r.as_of.isoformat())
        for r in connection.execute(runs)
    }
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
    """Messages of a run by variant, provider, state (its last outcome's, else its batch's) and reason."""
    m, o = messages.c, outcomes.c
    last = sa.select(o.seq, sa.func.max(o.outcome_id).label("outcome_id")).group_by(o.seq).subquery()
    via = (
        sa.select(requests.c.batch_id, sa.func.min(requests.c.provider).label("provider"))
        .group_by(requests.c.batch_id)
        .subquery()
    )
    state = sa.func.coalesce(o.state, batches.c.state)
    columns = (m.variant, via.c.provider, state, o.reason)
    return (
        sa.select(*columns, sa.func.count())
        .select_from(messages)
        .join(batches, batches.c.batch_id == m.batch_id)
        .outerjoin(via, via.c.batch_id == m.batch_id)
        .outerjoin(last, last.c.seq == m.seq)
        .outerjoin(outcomes, o.outcome_id == last.c.outcome_id)
        .where(m.run_id == run_id)
        .group_by(*columns)
    )


def waiting(connection: sa.Connection) -> tuple[int, datetime | None]:
    """How many messages still wait to be sent, and when the next of them is due."""
    m, o = messages.c, outcomes.c
    pending = (
        sa.select(sa.func.count(), sa.func.min(batches.c.due_at))
        .select_from(messages)
        .join(batches, batches.c.batch_id == m.batch_id)
        .where(batches.c.state == "pending", ~sa.exists().where(o.seq == m.seq))
    )
    row = connection.execute(pending).one()
    out = sum(
        seq not in batch.settled and batch.verdict(seq) is not None
        for batch, left in work.half_sent(connection)
        for seq in left
    )
    return int(row[0]) - out, row[1]


def audience(connection: sa.Connection, run_id: int) -> list[dict[str, Any]]:
    """A run's frozen audience by customer: who gets what, and who gets nothing and why."""
    d = decisions.c
    columns = (d.customer_id, d.outcome, d.reason, d.arm, d.probability, d.channel, d.due_at, d.algorithm)
    rows = connection.execute(sa.select(*columns).where(d.run_id == run_id).order_by(d.customer_id))
    return [dict(row) for row in rows.mappings()]
