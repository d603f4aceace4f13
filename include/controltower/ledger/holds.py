"""What keeps a planned run from leaving: that it waits for a second person, or that somebody paused it.

A run may send while it is `planned` and its `hold` is null. Whoever is about to call a provider makes sure of that in
the transaction that writes the call down (`work.open_requests`), so that a hold counts from its commit on.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from controltower.ledger.tables import approvals, batches, campaign_runs

APPROVAL, PAUSE = "approval", "pause"
Decision = Literal["approved", "rejected", "void"]


def standing(connection: sa.Connection, run_id: int) -> tuple[str, str | None] | None:
    """A run's state and hold, which nobody changes until this transaction ends; None where there is no such run."""
    r = campaign_runs.c
    row = connection.execute(sa.select(r.state, r.hold).where(r.run_id == run_id).with_for_update()).one_or_none()
    return (row.state, row.hold) if row else None


def pause(connection: sa.Connection, run_id: int) -> str:
    """Hold a run back. Returns `paused`, or why nothing changed.

    Else: paused_before, waits_for_approval, nothing_left, superseded, cancelled.
    """
    state, hold = standing(connection, run_id) or ("unknown_run", None)
    if state != "planned":
        return state
    if hold:
        return {PAUSE: "paused_before", APPROVAL: "waits_for_approval"}[hold]
    left = sa.exists().where(batches.c.run_id == run_id, batches.c.state == "pending")
    if not connection.execute(sa.select(left)).scalar_one():
        return "nothing_left"
    set_hold(connection, run_id, PAUSE)
    return "paused"


def resume(connection: sa.Connection, run_id: int) -> str:
    """Let a paused run go on. Returns `resumed`, or why nothing changed.

    Else: not_paused, waits_for_approval, superseded, cancelled.
    """
    state, hold = standing(connection, run_id) or ("unknown_run", None)
    if state != "planned":
        return state
    if hold != PAUSE:
        return "waits_for_approval" if hold else "not_paused"
    set_hold(connection, run_id, None)
    return "resumed"


def set_hold(connection: sa.Connection, run_id: int, hold: str | None) -> None:
    connection.execute(sa.update(campaign_runs).where(campaign_runs.c.run_id == run_id).values(hold=hold))


def record(
    connection: sa.Connection, run_id: int, plan_hash: str, decision: Decision, decided_by: str, now: datetime
) -> None:
    """Append what somebody decided about a run that waited for it."""
    connection.execute(
        sa.insert(approvals).values(
            run_id=run_id, plan_hash=plan_hash, decision=decision, decided_by=decided_by, decided_at=now
        )
    )


def last_decision(connection: sa.Connection, run_id: int) -> tuple[Decision, str, datetime] | None:
    """The newest decision about a run, by whom and when."""
    a = approvals.c
    row = connection.execute(
        sa.select(a.decision, a.decided_by, a.decided_at)
        .where(a.run_id == run_id)
        .order_by(a.approval_id.desc())
        .limit(1)
    ).one_or_none()
    return (row.decision, row.decided_by, row.decided_at) if row else None
