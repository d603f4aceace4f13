"""Campaign runs as the pages list them: where each stands, its figures, what is due next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger import reports
from controltower.ledger.tables import batches, campaign_runs, occurrences

MOST = 50  # rows of a list


@dataclass(frozen=True)
class Run:
    """A run with what its row in the ledger says."""

    run_id: int
    campaign: str
    occurrence: str
    version: int
    state: str  # planned | superseded | cancelled
    hold: str | None  # approval | pause
    planned_at: datetime
    as_of: datetime
    triggered_by: str | None  # Airflow's run id
    asked_by: str | None
    next_due: datetime | None
    spec: dict[str, Any]


@dataclass(frozen=True)
class Counted:
    """A run and what became of its messages."""

    run: Run
    totals: reports.Totals

    @property
    def standing(self) -> str:
        """One word for where it stands."""
        if self.run.state != "planned":
            return self.run.state
        if self.totals.pending == 0:
            return "finished"
        if self.run.hold:
            return {"approval": "waits_for_approval", "pause": "paused"}[self.run.hold]
        return "sending" if self.accepted else "scheduled"

    @property
    def accepted(self) -> int:
        return sum(self.totals.accepted.values())

    @property
    def shares(self) -> list[tuple[str, int]]:
        """The whole audience by where it is now, each member once."""
        t = self.totals
        return [
            ("accepted", self.accepted),
            ("waiting", t.pending),
            ("rejected", sum(t.rejected.values())),
            ("unknown", t.unknown),
            ("cancelled", t.cancelled),
            ("not_sent", sum(t.not_sent.values())),
            ("held_out", t.held_out),
        ]


_r = campaign_runs.c
_due = (
    sa.select(batches.c.run_id, sa.func.min(batches.c.due_at).label("next_due"))
    .where(batches.c.state == "pending")
    .group_by(batches.c.run_id)
    .subquery()
)
_RUNS = (
    sa.select(
        *(_r[n] for n in ("run_id", "version", "state", "hold", "planned_at", "as_of", "triggered_by", "asked_by")),
        _r.spec,
        occurrences.c.campaign,
        occurrences.c.occurrence,
        _due.c.next_due,
    )
    .join(occurrences, occurrences.c.occurrence_id == _r.occurrence_id)
    .outerjoin(_due, _due.c.run_id == _r.run_id)
    .order_by(_r.run_id.desc())
)


def of_today(connection: sa.Connection, today: date) -> list[Run]:
    """The runs of the day, and those of other days that still have something to send; the newest first."""
    still_open = sa.and_(_r.state == "planned", _due.c.next_due.is_not(None))
    return _read(connection, _RUNS.where(sa.or_(occurrences.c.occurrence == today.isoformat(), still_open)))


def of_campaign(connection: sa.Connection, campaign: str) -> list[Run]:
    """A campaign's runs, the newest first."""
    return _read(connection, _RUNS.where(occurrences.c.campaign == campaign))


def last_of_each(connection: sa.Connection) -> dict[str, Run]:
    """Each campaign's newest run."""
    newest = (
        sa.select(sa.func.max(_r.run_id))
        .join(occurrences, occurrences.c.occurrence_id == _r.occurrence_id)
        .group_by(occurrences.c.campaign)
    )
    found = connection.execute(_RUNS.where(_r.run_id.in_(newest))).mappings()
    return {row["campaign"]: Run(**row) for row in found}


def find(connection: sa.Connection, run_id: int) -> Run | None:
    found = _read(connection, _RUNS.where(_r.run_id == run_id))
    return found[0] if found else None


def count(connection: sa.Connection, run: Run) -> Counted:
    return Counted(run, reports.totals(connection, run.run_id)[0])


def _read(connection: sa.Connection, query: sa.Select[Any]) -> list[Run]:
    return [Run(**row) for row in connection.execute(query.limit(MOST)).mappings()]
