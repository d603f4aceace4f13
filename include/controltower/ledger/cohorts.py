"""Runs as measurement sees them, whom a run compares, and its kept readouts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger.tables import (
    approvals,
    batches,
    campaign_runs,
    decisions,
    occurrences,
    readouts,
    requests,
    subjects,
)

_ELIGIBLE = ("message", "holdout")
_GLOBAL = "global_holdout"


@dataclass(frozen=True)
class Run:
    """A version of an occurrence, with what a report tells of it."""

    run_id: int
    occurrence_id: int
    campaign: str
    occurrence: str
    version: int
    state: str
    hold: str | None
    as_of: datetime
    planned_at: datetime
    asked_by: str | None
    triggered_by: str | None
    plan_hash: str | None
    content_hash: str
    spec: Mapping[str, Any]


_NAMES = (
    "run_id", "occurrence_id", "version", "state", "hold", "as_of", "planned_at", "asked_by", "triggered_by",
    "plan_hash", "content_hash", "spec",
)  # fmt: skip


def runs(connection: sa.Connection, *, campaign: str | None = None, occurrence: str | None = None,
         run_id: int | None = None, planned_until: datetime | None = None) -> list[Run]:  # fmt: skip
    """Every version of every occurrence that fits, the oldest first."""
    r, o = campaign_runs.c, occurrences.c
    query = sa.select(*(r[n] for n in _NAMES), o.campaign, o.occurrence).join(
        occurrences, o.occurrence_id == r.occurrence_id
    )
    for wanted, column in ((campaign, o.campaign), (occurrence, o.occurrence), (run_id, r.run_id)):
        if wanted is not None:
            query = query.where(column == wanted)
    if planned_until is not None:
        query = query.where(r.planned_at <= planned_until)
    return [Run(**row._mapping) for row in connection.execute(query.order_by(r.run_id))]


def decided(connection: sa.Connection, run_id: int) -> list[dict[str, Any]]:
    """A run's approvals and rejections: decision, decided_by, decided_at; the oldest first."""
    a = approvals.c
    rows = sa.select(a.decision, a.decided_by, a.decided_at).where(a.run_id == run_id).order_by(a.approval_id)
    return [dict(row) for row in connection.execute(rows).mappings()]


@dataclass(frozen=True)
class Cohort:
    """The runs of which a comparison takes its customers, and how many of the run's it leaves out, by reason."""

    run_ids: tuple[int, ...]
    earlier: tuple[int, ...]  # runs of the campaign that wrote to somebody before
    left_out: Mapping[str, int]


def cohort(connection: sa.Connection, run: Run) -> Cohort:
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
        .where(batches.c.run_id == r.run_id, requests.c.state.in_(("sent", "unknown")))
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
    }
    if run.run_id not in chain:
        fresh = mine.where(d.arm != _GLOBAL, ~_seen_before(earlier))
        left_out["another_holdout_share"] = connection.execute(fresh).scalar_one()
    return Cohort(chain, earlier, {reason: n for reason, n in left_out.items() if n})


def members(connection: sa.Connection, of: Cohort) -> Iterator[tuple[int, str, bool, datetime]]:
    """(subject, customer, whether a message was planned, when): one row for each customer id of a subject.

    Streamed: the caller decides what it keeps.
    """
    d = decisions.c
    query = (
        sa.select(
            d.subject_id,
            subjects.c.customer_id,
            d.outcome == "message",
            campaign_runs.c.planned_at,
        )
        .join(campaign_runs, campaign_runs.c.run_id == d.run_id)
        .join(subjects, subjects.c.subject_id == d.subject_id)
        .where(d.run_id.in_(of.run_ids), d.outcome.in_(_ELIGIBLE), d.arm != _GLOBAL)
        .where(~_seen_before(of.earlier))
        .execution_options(yield_per=10_000)
    )
    for row in connection.execute(query):
        yield row[0], row[1], bool(row[2]), row[3]


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


@dataclass(frozen=True)
class Kept:
    """A readout as it was kept."""

    as_of: datetime
    final: bool
    figures: Mapping[str, Any]


def final_readout(connection: sa.Connection, run_id: int, as_of: datetime) -> Kept | None:
    """The readout made when the run's window had closed, if it was made by then."""
    k = readouts.c
    row = connection.execute(
        sa.select(k.as_of, k.final, k.figures)
        .where(k.run_id == run_id, k.final, k.as_of <= as_of)
        .order_by(k.as_of)
        .limit(1)
    ).one_or_none()
    return Kept(*row) if row else None


def measured(connection: sa.Connection) -> set[int]:
    """The runs with a final readout."""
    return set(connection.execute(sa.select(readouts.c.run_id).where(readouts.c.final)).scalars())


def keep_readout(
    connection: sa.Connection, run_id: int, as_of: datetime, figures: Mapping[str, Any], *, final: bool
) -> None:
    """Keep a readout in place of the one for the same moment; a final one in place of an earlier final one too."""
    k = readouts.c
    same = sa.or_(k.as_of == as_of, k.final) if final else k.as_of == as_of
    connection.execute(sa.delete(readouts).where(k.run_id == run_id, same))
    connection.execute(sa.insert(readouts).values(run_id=run_id, as_of=as_of, final=final, figures=dict(figures)))
