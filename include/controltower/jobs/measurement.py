"""Measuring campaign runs, and reporting on one."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.campaigns.specs import find_spec
from controltower.errors import ControlTowerError, NoData
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import sqlalchemy as sa

    from controltower.ledger.runs import Run
    from controltower.measurement.worth import Measuring

LOOK_BACK = timedelta(days=30)  # a run whose window closed longer ago is measured only for a moment nearer to it
FORMATS = (".html", ".json", ".csv")

log = logging.getLogger(__name__)


def measure_campaigns(as_of: str | None = None, again: bool = False) -> dict[str, Any]:
    """Give the verdict on every occurrence's newest run whose window has closed, as of a moment (default: now).

    A verdict is given once and kept; with `again` it is given anew. Returns {as_of, measured, open (runs whose window
    is), kept (verdicts given before), verdicts: {verdict: n}}.
    """
    from controltower.ledger import cohorts, runs
    from controltower.ledger.database import begin, reading
    from controltower.measurement import report
    from controltower.measurement.worth import window_days

    conf, shop, moment = _moment(as_of)
    with reading(conf) as ledger:
        versions = runs.planned(ledger, until=moment)
        newest = {run.occurrence_id: run for run in versions}.values()
        done = set() if again else cohorts.measured(ledger)
        ends = {r.run_id: r.planned_at + timedelta(days=window_days(r, shop)) for r in newest if r.run_id not in done}
        # A window ends then or later, and orders may be known later still: measuring tells.
        due = [r for r in newest if (end := ends.get(r.run_id)) and end <= moment <= end + LOOK_BACK]
        readouts = {}
        if due:
            since = min(v.planned_at for v in versions if v.occurrence_id in {run.occurrence_id for run in due})
            with _measuring(conf, shop, ledger, since, moment) as measuring:
                found = [measuring.measure(run) for run in due]
            readouts = {worth.run.run_id: report.readout_of(worth, shop) for worth in found if worth.final}
    with begin(conf) as ledger:
        for run_id, readout in readouts.items():
            cohorts.keep_readout(ledger, run_id, moment, readout)
            log.info("run %d: %s", run_id, readout["verdict"])
    return {
        "as_of": moment.isoformat(),
        "measured": len(readouts),
        "open": sum(end > moment for end in ends.values()) + len(due) - len(readouts),
        "kept": sum(run.run_id in done for run in newest),
        "verdicts": dict(sorted(Counter(readout["verdict"] for readout in readouts.values()).items())),
    }


def report_campaign(
    campaign: str, occasion: str | None = None, run_id: int | None = None, as_of: str | None = None
) -> dict[str, Any]:
    """What a run was worth, as plain values (see `measurement.report.build`): the newest version of an occasion, by
    default of the newest one; or the run named. Raises NoData where there is none.
    """
    from controltower.ledger import cohorts, funnels, reports, runs
    from controltower.ledger.database import reading
    from controltower.measurement import report
    from controltower.measurement.readout import random_hours

    conf, shop, moment = _moment(as_of)
    with reading(conf) as ledger:
        run = _chosen(conf, ledger, campaign, occasion, run_id, moment)
        versions = runs.planned(ledger, campaign=campaign, occurrence=run.occurrence)
        with _measuring(conf, shop, ledger, versions[0].planned_at, moment) as measuring:
            worth = measuring.measure(run)
        cells = funnels.cells(ledger, [v.run_id for v in versions], moment, flags=())
        accepted = {i: sum(c.messages for c in found if c.state == "accepted") for i, found in cells.items()}
        return report.build(
            worth, shop, moment, decided=cohorts.decided(ledger, run.run_id),
            versions=[
                {"run_id": v.run_id, "version": v.version, "state": v.state, "accepted": accepted[v.run_id]}
                for v in versions
            ],
            kept=cohorts.kept_readout(ledger, run.run_id, moment),
            hours=random_hours(reports.hour_results(ledger, run.run_id, moment)),
        )  # fmt: skip


def write_report(found: dict[str, Any], out: Path, language: str | None = None) -> None:
    """A report into a file: .html (by default in the shop's language), .json or .csv (in English)."""
    from controltower.measurement import report, wording

    check_format(out)
    match out.suffix:
        case ".html":
            text = report.page(found, language)
        case ".csv":
            text = report.csv_text(found, language or wording.FALLBACK)
        case _:
            told = wording.tell(found, language or wording.FALLBACK)
            text = json.dumps(found | {"told": told}, ensure_ascii=False, indent=1)
    out.write_text(text, encoding="utf-8")


def check_format(out: Path) -> None:
    if out.suffix not in FORMATS:
        raise ControlTowerError(f"{out.name} can't hold a report.", f"Use a name that ends in {', '.join(FORMATS)}.")
    if not out.absolute().parent.is_dir():
        raise ControlTowerError(f"There is no folder {out.absolute().parent}.", "Make it first.")


def _moment(as_of: str | None) -> tuple[Settings, Shop, datetime]:
    conf = settings.load()
    shop = settings.load_shop(conf)
    return conf, shop, clock.parse(as_of, shop) if as_of else clock.now(conf)


@contextmanager
def _measuring(
    conf: Settings, shop: Shop, ledger: sa.Connection, since: datetime, as_of: datetime
) -> Iterator[Measuring]:
    from controltower.data.lake import Lake
    from controltower.measurement.worth import Measuring, loaded

    lake = Lake(conf)
    tables = loaded(lake)  # before the orders are read: a load in between may add to them, never the other way round
    with lake.read(as_of) as at:
        yield Measuring(shop, ledger, at, tables, since, as_of)


def _chosen(
    conf: Settings,
    ledger: sa.Connection,
    campaign: str,
    occasion: str | None,
    run_id: int | None,
    as_of: datetime,
) -> Run:
    from controltower.ledger import runs

    known = runs.planned(ledger, campaign=campaign, until=as_of)
    if not known:
        if not runs.planned(ledger, campaign=campaign):
            find_spec(conf.campaigns, campaign)  # says which there are, where there is no such campaign
        raise NoData(f"{campaign} has no run by {as_of.isoformat()}.", "Plan it first, or choose a later moment.")
    if run_id is not None:
        fits = [run for run in known if run.run_id == run_id]
        if not fits:
            raise NoData(f"{campaign} has no run {run_id}.", f"Its runs: {_some([str(r.run_id) for r in known])}.")
        return fits[0]
    day = occasion or max(run.occurrence for run in known)
    fits = [run for run in known if run.occurrence == day]
    if not fits:
        days = _some(sorted({run.occurrence for run in known}))
        raise NoData(f"{campaign} has no run for {day}.", f"It has them for {days}.")
    return fits[-1]


def _some(names: list[str]) -> str:
    return ", ".join(names[-5:]) + (f" and {len(names) - 5} before" if len(names) > 5 else "")
