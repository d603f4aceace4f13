"""Campaign runs: the versions of an occurrence as the ledger has them, found and listed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger import holds
from controltower.ledger.tables import batches, campaign_runs, occurrences


@dataclass(frozen=True)
class Run:
    """A version of an occurrence."""

    run_id: int
    occurrence_id: int
    campaign: str
    occurrence: str
    version: int
    state: str  # planned | superseded | cancelled
    hold: str | None  # why nothing of it may leave: approval | pause
    paused: bool  # its occurrence, also while the run waits for approval
    as_of: datetime
    planned_at: datetime
    triggered_by: str | None  # Airflow's run id
    asked_by: str | None
    spec_hash: str
    content_hash: str
    shop_hash: str | None  # none: planned before it was kept
    plan_hash: str | None  # none: planned before there were approvals
    spec: Mapping[str, Any]
    policy: Mapping[str, Any]


_r, _o = campaign_runs.c, occurrences.c
_RUNS = sa.select(
    *(_r[f.name] for f in fields(Run) if f.name in _r and f.name != "hold"),
    holds.HELD.label("hold"),
    _o.paused,
    _o.campaign,
    _o.occurrence,
).join(occurrences, _o.occurrence_id == _r.occurrence_id)
_waits = sa.exists().where(batches.c.run_id == _r.run_id, batches.c.state == "pending").correlate(campaign_runs)


def find(connection: sa.Connection, run_id: int) -> Run | None:
    found = _read(connection, _RUNS.where(_r.run_id == run_id))
    return found[0] if found else None


def known(connection: sa.Connection, run_id: int) -> Run:
    """A run that is known to be there."""
    found = find(connection, run_id)
    assert found is not None
    return found


def current(connection: sa.Connection, campaign: str, occurrence: str) -> Run | None:
    """The newest version of an occurrence; None where it was never planned."""
    fits = _RUNS.where(_o.campaign == campaign, _o.occurrence == occurrence)
    found = _read(connection, fits.order_by(_r.version.desc()).limit(1))
    return found[0] if found else None


def planned(
    connection: sa.Connection,
    *,
    campaign: str | None = None,
    occurrence: str | None = None,
    run_ids: Collection[int] | None = None,
    until: datetime | None = None,
) -> list[Run]:
    """Every version that fits and was planned by `until`, the oldest first."""
    query = _RUNS if run_ids is None else _RUNS.where(_r.run_id.in_(run_ids))
    for wanted, column in ((campaign, _o.campaign), (occurrence, _o.occurrence)):
        if wanted is not None:
            query = query.where(column == wanted)
    if until is not None:
        query = query.where(_r.planned_at <= until)
    return _read(connection, query.order_by(_r.run_id))


def of_day(connection: sa.Connection, day: date, campaigns: Collection[str], most: int) -> list[Run]:
    """The newest runs of these campaigns: those of a day, and those of other days with something left to send."""
    wanted = sa.or_(_o.occurrence == day.isoformat(), sa.and_(_r.state == "planned", _waits))
    return _read(connection, _RUNS.where(_o.campaign.in_(campaigns), wanted).order_by(_r.run_id.desc()).limit(most))


def of_campaign(connection: sa.Connection, campaign: str, most: int) -> list[Run]:
    """A campaign's newest runs."""
    return _read(connection, _RUNS.where(_o.campaign == campaign).order_by(_r.run_id.desc()).limit(most))


def last_of_each(connection: sa.Connection) -> dict[str, Run]:
    """Each campaign's newest run."""
    newest = (
        sa.select(sa.func.max(_r.run_id)).join(occurrences, _o.occurrence_id == _r.occurrence_id).group_by(_o.campaign)
    )
    return {run.campaign: run for run in _read(connection, _RUNS.where(_r.run_id.in_(newest)))}


def next_due(connection: sa.Connection, run_ids: Collection[int]) -> dict[int, datetime]:
    """When the next of each run's messages is due; runs that may not send, or have nothing left, are left out."""
    b = batches.c
    rows = (
        sa.select(b.run_id, sa.func.min(b.due_at))
        .join(campaign_runs, _r.run_id == b.run_id)
        .join(occurrences, _o.occurrence_id == _r.occurrence_id)
        .where(b.run_id.in_(run_ids), b.state == "pending", _r.state == "planned", holds.HELD.is_(None))
        .group_by(b.run_id)
    )
    return dict(connection.execute(rows).tuples().all())


def _read(connection: sa.Connection, query: sa.Select[Any]) -> list[Run]:
    return [Run(**row._mapping) for row in connection.execute(query)]
