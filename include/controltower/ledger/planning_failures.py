"""Occurrences that could not be planned: there is no run to show, so the failure itself is kept."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from controltower.ledger.tables import campaign_runs, occurrences, planning_failures


class Failure(NamedTuple):
    """Why an occurrence could not be planned when it was last tried."""

    campaign: str
    occurrence: str
    failed_at: datetime
    why: str


def record(connection: sa.Connection, failure: Failure) -> None:
    connection.execute(sa.insert(planning_failures).values(failure._asdict()))


def unplanned(connection: sa.Connection, occurrence: str, campaigns: Collection[str]) -> list[Failure]:
    """The last failure of each of these campaigns for an occurrence that has no plan."""
    f, r, o = planning_failures.c, campaign_runs.c, occurrences.c
    last = sa.select(sa.func.max(f.failure_id)).where(f.occurrence == occurrence, f.campaign.in_(campaigns))
    planned = (
        sa.exists()
        .where(r.occurrence_id == o.occurrence_id, o.campaign == f.campaign, o.occurrence == f.occurrence)
        .where(r.state == "planned")
    )
    rows = sa.select(*(f[name] for name in Failure._fields)).where(
        f.failure_id.in_(last.group_by(f.campaign)), ~planned
    )
    return [Failure(*row) for row in connection.execute(rows.order_by(f.campaign))]
