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
from controltower.settings import Settings, Shop

if TYPE_CHECKING:
    import sqlalchemy as sa

    from controltower.ledger.cohorts import Run
    from controltower.measurement.worth import Measuring

LOOK_BACK = timedelta(days=30)  # a run whose window closed longer ago is measured only for a moment nearer to it
FORMATS = (".html", ".json", ".csv")

log = logging.getLogger(__name__)


def measure_campaigns(as_of: str | None = None, again: bool = False) -> dict[str, Any]:
    """Measure every occurrence's newest run whose window is open or has closed since its last readout, as of a moment
    (default: now), and keep the readouts.

    Measured for the same moment again, a readout is replaced. One made after its window closed is final and isn't made
    again, unless with `again`: a verdict is given once. Returns {as_of, measured, final, kept, verdicts: {verdict: n}}.
    """
    from controltower.ledger import cohorts
    from controltower.ledger.database import begin, reading
    from controltower.measurement import report
    from controltower.measurement.worth import window_days

    conf, shop, moment = _moment(as_of)
    with reading(conf) as ledger:
        known = cohorts.runs(ledger, planned_until=moment)
        done = set() if again else cohorts.measured(ledger)
        newest = {run.occurrence_id: run for run in known}.values()
        wanted = [
            run
            for run in newest
            if run.run_id not in done and run.planned_at + timedelta(days=window_days(run, shop)) + LOOK_BACK >= moment
        ]
        found = []
        if wanted:
            with _measuring(conf, shop, ledger, min(r.planned_at for r in wanted), moment) as measuring:
                for run in wanted:
                    worth = measuring.measure(run)
                    kpis = report.levels(worth)[0]["figures"]
                    found.append((worth, {"readout": report.readout_of(worth, shop), "figures": kpis}))
    with begin(conf) as ledger:
        for worth, figures in found:
            cohorts.keep_readout(ledger, worth.run.run_id, moment, figures, final=worth.window.closed)
    verdicts = Counter(figures["readout"]["verdict"] for _, figures in found)
    for worth, figures in found:
        log.info("run %d: %s", worth.run.run_id, figures["readout"]["verdict"])
    return {
        "as_of": moment.isoformat(),
        "measured": len(found),
        "final": sum(worth.window.closed for worth, _ in found),
        "kept": sum(run.run_id in done for run in newest),
        "verdicts": dict(sorted(verdicts.items())),
    }


def report_campaign(
    campaign: str, occasion: str | None = None, run_id: int | None = None, as_of: str | None = None
) -> dict[str, Any]:
    """What a run was worth, as plain values (see `measurement.report.build`): the newest version of an occasion, by
    default of the newest one; or the run named. Raises NoData where there is none.
    """
    from controltower.ledger import cohorts, funnels
    from controltower.ledger.database import reading
    from controltower.measurement import report
    from controltower.measurement.funnel import funnel

    conf, shop, moment = _moment(as_of)
    with reading(conf) as ledger:
        run = _chosen(conf, ledger, campaign, occasion, run_id, moment)
        with _measuring(conf, shop, ledger, run.planned_at, moment) as measuring:
            worth = measuring.measure(run)
        versions = []
        for v in cohorts.runs(ledger, campaign=campaign, occurrence=run.occurrence):
            own = v.run_id == run.run_id
            counts = worth.funnel.run if own else funnel([], funnels.cells(ledger, v.run_id, moment)).run
            versions.append(
                {"run_id": v.run_id, "version": v.version, "state": v.state, "accepted": int(counts["accepted"])}
            )
        final = cohorts.final_readout(ledger, run.run_id, moment)
        return report.build(
            worth, shop, moment, versions=versions, decided=cohorts.decided(ledger, run.run_id),
            kept=(final.figures["readout"], final.as_of) if final else None,
        )  # fmt: skip


def write_report(found: dict[str, Any], out: Path) -> None:
    """A report into a file: .html, .json or .csv."""
    from controltower.measurement import report

    check_format(out)
    match out.suffix:
        case ".html":
            text = report.page(found)
        case ".csv":
            text = report.csv_text(found)
        case _:
            text = json.dumps(found, ensure_ascii=False, indent=1)
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
    from controltower.measurement.worth import Measuring, known_until

    lake = Lake(conf)
    with lake.read(as_of) as at:
        yield Measuring(shop, ledger, at, since, as_of, known_until(lake, as_of))


def _chosen(
    conf: Settings,
    ledger: sa.Connection,
    campaign: str,
    occasion: str | None,
    run_id: int | None,
    as_of: datetime,
) -> Run:
    from controltower.ledger import cohorts

    known = cohorts.runs(ledger, campaign=campaign, planned_until=as_of)
    if not known:
        if not cohorts.runs(ledger, campaign=campaign):
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
