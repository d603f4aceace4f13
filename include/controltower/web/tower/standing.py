"""Runs as the pages show them: where each stands, its figures, what is due next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from controltower.ledger import reports, runs
from controltower.ledger.runs import Run

MOST = 50  # rows of a list


@dataclass(frozen=True)
class Counted:
    """A run and what became of its messages."""

    run: Run
    totals: reports.Totals
    next_due: datetime | None  # none also while it is held back: then nothing of it leaves

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


def count(connection: sa.Connection, found: Sequence[Run]) -> list[Counted]:
    """Runs with their figures, in their order."""
    ids = [run.run_id for run in found]
    totals = {t.run_id: t for t in reports.totals(connection, ids)}
    due = runs.next_due(connection, ids)
    return [Counted(run, totals[run.run_id], due.get(run.run_id)) for run in found]
