"""Whom a run compares, who decided on it, and the verdict that is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from controltower.ledger.runs import Run
from controltower.ledger.sends import sends
from controltower.ledger.tables import (
    approvals,
    batches,
    campaign_runs,
    decisions,
    messages,
    occurrences,
    readouts,
    requests,
    subjects,
)

_ELIGIBLE = ("message", "holdout")
_GLOBAL = "global_holdout"
_LEFT = ("sent", "unknown")


def decided(connection: sa.Connection, run_id: int) -> list[dict[str, Any]]:
    """What people decided about a run: decision, decided_by, decided_at; the oldest first."""
    a = approvals.c
    rows = sa.select(a.decision, a.decided_by, a.decided_at).where(a.run_id == run_id).order_by(a.approval_id)
    return [dict(row) for row in connection.execute(rows).mappings()]


@dataclass(frozen=True)
class Cohort:
    """The runs of which a comparison takes its customers, and how many of the run's it leaves out, by reason."""

    campaign: str
    starts: Mapping[int, datetime]  # run -> from when its customers' orders count
    earlier: tuple[int, ...]  # runs of the campaign that wrote to somebody before
    left_out: Mapping[str, int]


def cohort(connection: sa.Connection, run: Run, as_of: datetime) -> Cohort:
    """Who can be compared: those whom no earlier run of the campaign could have written to.

    A run that left shapes who is in the next: whoever got its message may now be at the frequency cap, have
    unsubscribed or have bought, and the held out have not. So each customer counts once, in the first run that decided
    on them and of which something left. Versions of one occurrence belong together, as far as they hold out the same
    share. The global holdout is left out: it gets no campaign at all and never reaches a cap, so it is no picture of
    customers who only miss this one.
    """
    r = campaign_runs.c
    left = (
        sa.select(sa.literal(1))
        .select_from(requests)
        .join(batches, batches.c.batch_id == requests.c.batch_id)
        .where(batches.c.run_id == r.run_id, requests.c.state.in_(_LEFT))
    )
    before = connection.execute(
        sa.select(r.run_id, r.occurrence_id, r.spec)
        .join(occurrences, occurrences.c.occurrence_id == r.occurrence_id)
        .where(occurrences.c.campaign == run.campaign, r.run_id < run.run_id, left.exists())
        .order_by(r.run_id)
    ).all()
    versions = [(b.run_id, b.spec.get("holdout")) for b in before if b.occurrence_id == run.occurrence_id]
    versions.append((run.run_id, run.spec.get("holdout")))
    chain = tuple(run_id for run_id, share in versions if share == versions[0][1])
    earlier = tuple(int(b.run_id) for b in before)
    d = decisions.c
    mine = sa.select(sa.func.count()).select_from(decisions).where(d.run_id == run.run_id, d.outcome.in_(_ELIGIBLE))
    others = [e for e in earlier if e not in {run_id for run_id, _ in versions}]
    left_out = {
        "in_earlier_run": connection.execute(mine.where(d.arm != _GLOBAL, _seen_before(others))).scalar_one(),
        "global_holdout": connection.execute(mine.where(d.arm == _GLOBAL)).scalar_one(),
        "merged": connection.execute(mine.where(d.arm != _GLOBAL, ~_seen_before(others), _stepped_back())).scalar_one(),
    }
    if run.run_id not in chain:
        fresh = mine.where(d.arm != _GLOBAL, ~_seen_before(earlier))
        left_out["another_holdout_share"] = connection.execute(fresh).scalar_one()
    starts = _starts(connection, chain, as_of)
    return Cohort(run.campaign, starts, earlier, {reason: n for reason, n in left_out.items() if n})


def _starts(connection: sa.Connection, run_ids: Sequence[int], as_of: datetime) -> dict[int, datetime]:
    """When each run could begin to leave: when it was planned; where it was held back before anything had left, when
    it was let go. The same moment for both arms, and no outcome decides it.
    """
    r, a = campaign_runs.c, approvals.c
    first_left = (
        sa.select(sa.func.min(requests.c.opened_at))
        .join(batches, batches.c.batch_id == requests.c.batch_id)
        .where(batches.c.run_id == r.run_id, requests.c.state.in_(_LEFT))
        .correlate(campaign_runs)
        .scalar_subquery()
    )
    let_go = (
        sa.select(sa.func.max(a.decided_at))
        .where(a.run_id == r.run_id, a.decision.in_(("approved", "resumed")), a.decided_at <= as_of)
        .where(a.decided_at <= sa.func.coalesce(first_left, a.decided_at))
        .correlate(campaign_runs)
        .scalar_subquery()
    )
    rows = sa.select(r.run_id, sa.func.coalesce(let_go, r.planned_at)).where(r.run_id.in_(run_ids)).order_by(r.run_id)
    return dict(connection.execute(rows).tuples().all())


def members(connection: sa.Connection, of: Cohort) -> Iterator[tuple[int, str, bool, datetime]]:
    """(subject, customer, whether a message was planned, when): one row for each customer id of a subject.

    Streamed: the caller decides what it keeps.
    """
    d = decisions.c
    query = (
        sa.select(d.subject_id, subjects.c.customer_id, d.outcome == "message", d.run_id)
        .join(subjects, subjects.c.subject_id == d.subject_id)
        .where(*_compared(of))
        .execution_options(yield_per=10_000)
    )
    for row in connection.execute(query):
        yield row[0], row[1], bool(row[2]), of.starts[row[3]]


def held_out_and_written_to(connection: sa.Connection, of: Cohort, window: timedelta, as_of: datetime) -> int:
    """How many of the held out got a message of the campaign all the same, within their window and by `as_of`.

    A run with a smaller holdout writes to customers whom an earlier one holds out.
    """
    d, m, b, r = decisions.c, messages.c, batches.c, campaign_runs.c
    planned = (
        sa.select(b.run_id, m.customer_id, d.subject_id, d.run_id)
        .join(batches, b.batch_id == m.batch_id)
        .join(subjects, subjects.c.customer_id == m.customer_id)
        .join(decisions, d.subject_id == subjects.c.subject_id)
        .join(campaign_runs, r.run_id == b.run_id)
        .join(occurrences, occurrences.c.occurrence_id == r.occurrence_id)
        .where(*_compared(of), d.outcome == "holdout", occurrences.c.campaign == of.campaign)
        .where(r.planned_at < max(of.starts.values()) + window)
    )
    held_out: dict[int, dict[str, tuple[int, datetime]]] = {}  # run that writes -> customer -> subject, from when
    for writes, customer, subject, compares in connection.execute(planned):
        held_out.setdefault(writes, {})[customer] = subject, of.starts[compares]
    found = set()
    for run_id, among in held_out.items():
        for sent in sends(connection, run_id=run_id, until=as_of, as_of=as_of):
            subject, start = among.get(sent.customer_id, (None, sent.sent_at))
            if subject is not None and start <= sent.sent_at < start + window:
                found.add(subject)
    return len(found)


def _compared(of: Cohort) -> tuple[sa.ColumnElement[bool], ...]:
    """The decisions that a comparison takes."""
    d = decisions.c
    return d.run_id.in_(of.starts), d.outcome.in_(_ELIGIBLE), d.arm != _GLOBAL, ~_seen_before(of.earlier)


def _stepped_back() -> sa.ColumnElement[bool]:
    """Whether the decision's subject stepped back for an older one of the same person, which alone is compared."""
    own = subjects.c.own_subject_id
    return decisions.c.subject_id.in_(sa.select(own).where(own.is_not(None)))


def _seen_before(run_ids: Sequence[int]) -> sa.ColumnElement[bool]:
    """Whether an earlier one of these runs had a message or a holdout for the decision's subject."""
    if not run_ids:
        return sa.false()
    d, first, same = decisions.c, decisions.alias(), subjects.alias()
    # IN, not a join: SQLite would read all of the earlier run for each decision
    ids = sa.select(same.c.customer_id).where(same.c.subject_id == d.subject_id).correlate(decisions)
    return (
        sa.exists()
        .where(
            first.c.customer_id.in_(ids),
            first.c.run_id.in_(run_ids),
            first.c.run_id < d.run_id,
            first.c.outcome.in_(_ELIGIBLE),
            first.c.arm != _GLOBAL,
        )
        .correlate(decisions)
    )


def subjects_of(connection: sa.Connection, customers: Iterable[str]) -> dict[str, int]:
    """The subjects of those customers that are in the ledger."""
    found: dict[str, int] = {}
    wanted = list(customers)
    s = subjects.c
    for start in range(0, len(wanted), 1000):
        rows = sa.select(s.customer_id, s.subject_id).where(s.customer_id.in_(wanted[start : start + 1000]))
        found.update(connection.execute(rows).tuples().all())
    return found


def kept_readout(connection: sa.Connection, run_id: int, as_of: datetime) -> tuple[Mapping[str, Any], datetime] | None:
    """A run's verdict with its moment, if it was given by `as_of`."""
    k = readouts.c
    rows = sa.select(k.figures, k.as_of).where(k.run_id == run_id, k.final, k.as_of <= as_of).order_by(k.as_of).limit(1)
    row = connection.execute(rows).one_or_none()
    return (row.figures["readout"], row.as_of) if row else None


def measured(connection: sa.Connection) -> set[int]:
    """The runs whose verdict is given."""
    return set(connection.execute(sa.select(readouts.c.run_id).where(readouts.c.final)).scalars())


def keep_readout(connection: sa.Connection, run_id: int, as_of: datetime, readout: Mapping[str, Any]) -> None:
    """Keep a run's verdict, in place of an earlier one."""
    k = readouts
    connection.execute(sa.delete(k).where(k.c.run_id == run_id))
    connection.execute(sa.insert(k).values(run_id=run_id, as_of=as_of, final=True, figures={"readout": dict(readout)}))
