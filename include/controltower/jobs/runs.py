"""A campaign's run: found by its id or by its day, and its report in counts."""

from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING, Any

from controltower import clock
from controltower.errors import BadSettings
from controltower.settings import Settings, load_shop

if TYPE_CHECKING:
    import sqlalchemy as sa

    from controltower.ledger.runs import Run

log = logging.getLogger(__name__)

_REMEDY = "`controltower summary` lists the runs."


def day_of(conf: Settings, occasion: str | None) -> date:
    """The day that an occasion names; none: today in the shop's zone. BadSettings where it is no date."""
    if not occasion:
        return clock.today(conf, load_shop(conf))
    try:
        day = date.fromisoformat(occasion)
    except ValueError:
        raise BadSettings(f"The occasion {occasion!r} is not a date.", "Write it as 2026-06-15.") from None
    clock.check_year(day)
    return day


def run_of(ledger: sa.Connection, conf: Settings, campaign: str, occasion: str | None) -> Run:
    """The newest run of an occurrence, by default today's. BadSettings where it was never planned."""
    from controltower.ledger import runs

    day = day_of(conf, occasion)
    run = runs.current(ledger, campaign, day.isoformat())
    if run is None:
        raise BadSettings(f"{campaign} has no plan for {day}.", _REMEDY)
    return run


def run_by_id(ledger: sa.Connection, run_id: int) -> Run:
    """The run. BadSettings where there is none."""
    from controltower.ledger import runs

    run = runs.find(ledger, run_id)
    if run is None:
        raise BadSettings(f"There is no run {run_id}.", _REMEDY)
    return run


def run_report(conf: Settings, run_id: int, note: str) -> dict[str, Any]:
    """A run in figures: ledger/reports.Totals, with `note`, `rehearsed` and `accounted`."""
    from controltower.ledger import reports
    from controltower.ledger.database import reading

    with reading(conf) as ledger:
        report = reports.totals(ledger, [run_id])[0].as_dict()
    log.info("%s %s, run %d: %s", report["campaign"], report["occurrence"], run_id, note)
    return report | {"note": note, "rehearsed": False}
