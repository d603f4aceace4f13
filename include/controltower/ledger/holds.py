"""What keeps a planned run from leaving: it waits for a second person, or its occurrence is paused. And who did what.

The two are independent. An approval is about one version; a pause is about the occurrence, and so about whatever takes
a version's place. Whoever is about to call a provider looks at both in the transaction that writes the call down
(`work.open_requests`), with the occurrence locked, so that either counts from its commit on.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from controltower.ledger.tables import approvals, batches, campaign_runs, occurrences

APPROVAL, PAUSE = "approval", "pause"
Intervention = Literal["approved", "rejected", "void", "paused", "resumed", "cancelled"]
GONE = {"superseded": "superseded", "cancelled": "cancelled_before"}  # a run's state -> why nothing is changed any more
# Why a run may not leave, of campaign_runs and their occurrences; null: it may.
HELD = sa.func.coalesce(campaign_runs.c.hold, sa.case((occurrences.c.paused, PAUSE)))


def lock(connection: sa.Connection, occurrence_id: int) -> None:
    """Until this transaction ends, nobody else plans, approves, pauses or stops the occurrence; no call of it begins.

    Taken before any lock on its runs and batches. What was read before may have changed while it waited.
    """
    o = occurrences.c
    connection.execute(sa.select(o.occurrence_id).where(o.occurrence_id == occurrence_id).with_for_update()).one()


def standing(connection: sa.Connection, run_id: int) -> tuple[str, bool]:
    """The state of a run that is there, and whether its occurrence is paused; its occurrence is locked from here on."""
    r, o = campaign_runs.c, occurrences.c
    lock(connection, connection.execute(sa.select(r.occurrence_id).where(r.run_id == run_id)).scalar_one())
    of_run = sa.select(r.state, o.paused).join(occurrences, o.occurrence_id == r.occurrence_id)
    row = connection.execute(of_run.where(r.run_id == run_id)).one()
    return row.state, row.paused


def pause(connection: sa.Connection, run_id: int) -> str:
    """Hold back the occurrence of its newest run. Returns `paused`, or why nothing changed.

    Else: paused_before, nothing_left (of any version), superseded, cancelled_before.
    """
    state, paused = standing(connection, run_id)
    if state in GONE:
        return GONE[state]
    if paused:
        return "paused_before"
    left = sa.exists().where(
        batches.c.state == "pending",
        batches.c.run_id == campaign_runs.c.run_id,
        campaign_runs.c.occurrence_id == _occurrence_of(run_id),
    )
    if not connection.execute(sa.select(left)).scalar_one():
        return "nothing_left"
    _set_paused(connection, run_id, True)
    return "paused"


def resume(connection: sa.Connection, run_id: int) -> str:
    """Let the paused occurrence of its newest run go on. Returns `resumed`, or why nothing changed.

    Else: not_paused, superseded, cancelled_before. A run that waits for approval waits on.
    """
    state, paused = standing(connection, run_id)
    if state in GONE:
        return GONE[state]
    if not paused:
        return "not_paused"
    _set_paused(connection, run_id, False)
    return "resumed"


def _set_paused(connection: sa.Connection, run_id: int, paused: bool) -> None:
    o = occurrences.c
    connection.execute(sa.update(occurrences).where(o.occurrence_id == _occurrence_of(run_id)).values(paused=paused))


def _occurrence_of(run_id: int) -> sa.ScalarSelect[int]:
    of_run = campaign_runs.alias()
    return sa.select(of_run.c.occurrence_id).where(of_run.c.run_id == run_id).scalar_subquery()


def set_hold(connection: sa.Connection, run_id: int, hold: Literal["approval"] | None) -> None:
    """Let a run wait for a second person, or no longer."""
    connection.execute(sa.update(campaign_runs).where(campaign_runs.c.run_id == run_id).values(hold=hold))


def record(
    connection: sa.Connection, run_id: int, plan_hash: str | None, what: Intervention, by: str, now: datetime
) -> None:
    """Append what somebody did about a run. `plan_hash`: the plan they meant; none: planned before there were any."""
    connection.execute(
        sa.insert(approvals).values(
            run_id=run_id, plan_hash=plan_hash or "", decision=what, decided_by=by, decided_at=now
        )
    )


def was_approved(connection: sa.Connection, run_id: int) -> bool:
    a = approvals.c
    return connection.execute(sa.select(sa.exists().where(a.run_id == run_id, a.decision == "approved"))).scalar_one()
