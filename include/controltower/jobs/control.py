"""Holding a planned run back, letting it go on, and stopping it for good; who did so is kept beside the approvals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from controltower import clock, settings
from controltower.jobs.runs import run_by_id, run_of, run_report
from controltower.ledger import holds
from controltower.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from controltower.ledger.runs import Run

log = logging.getLogger(__name__)

Action = Literal["pause", "resume", "cancel"]
COMMAND_LINE = "command line"  # who did it, where nobody is named

_DONE: dict[Action, holds.Intervention] = {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}
_NOTES = {
    "paused": "paused: nothing of it leaves until it is resumed; what is late by then ends as expired",
    "paused_before": "it was paused before: nothing changed",
    "resumed": "resumed: the next dispatch sends what is due, unless it waits for approval",
    "not_paused": "it isn't paused: nothing changed",
    "nothing_left": "nothing of it is left to send: nothing changed",
    "superseded": "a newer version took its place: nothing changed",
    "cancelled": "cancelled: what was unsent never leaves, and planning it again adds nothing",
    "cancelled_before": "it was cancelled before: nothing changed",
}


def pause_campaign(campaign: str, occasion: str | None = None, by: str = COMMAND_LINE) -> dict[str, Any]:
    """Hold back an occurrence, by default today's: no call to a provider begins once this is written.

    The report is the run's, with `outcome`: paused, paused_before, nothing_left, superseded or cancelled_before; and of
    all versions of the occurrence, how many messages have `left`, how many are `under_way`, in calls that nobody can
    recall, and how many `wait`. BadSettings where there is no plan.
    """
    return _change("pause", lambda ledger, conf: run_of(ledger, conf, campaign, occasion), by)


def resume_campaign(campaign: str, occasion: str | None = None, by: str = COMMAND_LINE) -> dict[str, Any]:
    """Let a paused occurrence go on. `outcome`: resumed, not_paused, superseded or cancelled_before."""
    return _change("resume", lambda ledger, conf: run_of(ledger, conf, campaign, occasion), by)


def cancel_campaign(campaign: str, occasion: str | None = None, by: str = COMMAND_LINE) -> dict[str, Any]:
    """Cancel what is unsent of an occurrence, by default today's; planning it again adds none. What left, left.

    `outcome`: cancelled, superseded or cancelled_before.
    """
    return _change("cancel", lambda ledger, conf: run_of(ledger, conf, campaign, occasion), by)


def change_run(action: Action, run_id: int, by: str) -> dict[str, Any]:
    """The same to the run of this id, even where a newer version took its place: then nothing changes."""
    return _change(action, lambda ledger, _: run_by_id(ledger, run_id), by)


def _change(action: Action, find: Callable[[sa.Connection, Settings], Run], by: str) -> dict[str, Any]:
    from controltower.ledger.database import begin

    conf = settings.load()
    now = clock.now(conf)
    with begin(conf) as ledger:
        holds.lock(ledger, find(ledger, conf).occurrence_id)
        run = find(ledger, conf)  # again: a newer version may have been planned until the lock was ours
        if action == "cancel":
            outcome = _cancel(ledger, run, now)
        else:
            outcome = (holds.pause if action == "pause" else holds.resume)(ledger, run.run_id)
        if outcome == _DONE[action]:
            holds.record(ledger, run.run_id, run.plan_hash, _DONE[action], by, now)
        counts = _stand(ledger, run)
    log.info("%s %s, run %d: %s by %s", run.campaign, run.occurrence, run.run_id, outcome, by)
    return run_report(conf, run.run_id, note=_NOTES[outcome]) | {"outcome": outcome} | counts


def _stand(ledger: sa.Connection, run: Run) -> dict[str, int]:
    """Where the messages of the run's occurrence stand; meanwhile no call begins and no answer is noted."""
    from controltower.ledger import reports, runs, underway

    versions = [v.run_id for v in runs.planned(ledger, campaign=run.campaign, occurrence=run.occurrence)]
    calling = underway.calling(ledger, versions)
    totals = reports.totals(ledger, versions)
    return {
        "left": sum(sum(t.accepted.values()) for t in totals),
        "under_way": calling,
        "wait": sum(t.pending for t in totals) - calling,
    }


def _cancel(ledger: sa.Connection, run: Run, now: datetime) -> str:
    from controltower.ledger import plans

    state, _ = holds.standing(ledger, run.run_id)
    if state in holds.GONE:
        return holds.GONE[state]
    plans.cancel_unsent(ledger, run.occurrence_id, reason="cancelled", now=now, superseded=False)
    return "cancelled"
