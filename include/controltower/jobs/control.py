"""Holding a planned run back and letting it go on."""

from __future__ import annotations

import logging
from typing import Any

from controltower import clock, settings
from controltower.errors import BadSettings
from controltower.jobs.campaigns import day_of, run_report

log = logging.getLogger(__name__)

_NOTES = {
    "paused": "paused: nothing of it leaves until it is resumed; what is late by then ends as expired",
    "paused_before": "it was paused before: nothing changed",
    "resumed": "resumed: the next dispatch sends what is due",
    "not_paused": "it isn't paused: nothing changed",
    "waits_for_approval": "it waits for approval, so nothing leaves: nothing changed",
    "nothing_left": "nothing of it is left to send: nothing changed",
    "superseded": "a newer version took its place: nothing changed",
    "cancelled": "it was cancelled: nothing changed",
}


def pause_campaign(campaign: str, occasion: str | None = None, by: str | None = None) -> dict[str, Any]:
    """Hold back an occurrence, by default today's: no call to a provider begins once this is written.

    The report is the run's, with `outcome`: paused, paused_before, waits_for_approval, nothing_left or cancelled.
    BadSettings where there is no plan.
    """
    return _change("pause", campaign, occasion, by)


def resume_campaign(campaign: str, occasion: str | None = None, by: str | None = None) -> dict[str, Any]:
    """Let a paused occurrence go on. `outcome`: resumed, not_paused, waits_for_approval or cancelled."""
    return _change("resume", campaign, occasion, by)


def _change(what: str, campaign: str, occasion: str | None, by: str | None) -> dict[str, Any]:
    from controltower.ledger import holds, plans
    from controltower.ledger.database import begin

    conf = settings.load()
    shop = settings.load_shop(conf)
    day = day_of(occasion) if occasion else clock.today(conf, shop)
    with begin(conf) as ledger:
        run = plans.current(ledger, campaign, day.isoformat())
        if run is None:
            raise BadSettings(f"{campaign} has no plan for {day}.", f"There is nothing to {what}.")
        outcome = (holds.pause if what == "pause" else holds.resume)(ledger, run.run_id)
    log.info("%s %s: %s by %s", campaign, day, outcome, by or "somebody")
    return run_report(conf, run.run_id, note=_NOTES[outcome]) | {"outcome": outcome}
