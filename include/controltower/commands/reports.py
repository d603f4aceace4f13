"""`controltower measure` and `controltower campaign report`: what runs were worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from controltower.commands.showing import show

AsOf = Annotated[
    str | None, typer.Option("--as-of", help="a date (its midnight in the shop's zone) or a time; default: now")
]


def _can_hold(out: Path | None) -> Path | None:
    """Checked before any work is done."""
    if out:
        from controltower.jobs.measurement import check_format

        check_format(out)
    return out


def measure(
    as_of: AsOf = None,
    again: Annotated[bool, typer.Option("--again", help="also runs whose verdict was given already")] = False,
) -> None:
    """Measure what campaign runs changed, against their holdouts; a verdict is given once, when the window closes."""
    from controltower.jobs.measurement import measure_campaigns

    show(measure_campaigns(as_of, again))


def report(
    name: Annotated[str, typer.Argument(help="the campaign's name")],
    occasion: Annotated[str | None, typer.Option(help="which day's occurrence; default: the newest")] = None,
    run_id: Annotated[int | None, typer.Option(help="one version of an occurrence; default: the newest")] = None,
    as_of: AsOf = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="write the report here: .html, .json or .csv", callback=_can_hold)
    ] = None,
) -> None:
    """What a campaign's run came to: its funnel, the orders credited to it, the difference to its holdout."""
    from controltower.jobs.measurement import report_campaign, write_report

    found = report_campaign(name, occasion, run_id, as_of)
    for line in _lines(found):
        print(line)
    if out:
        write_report(found, out)
        print(f"-> {out}")


def _lines(found: dict[str, Any]) -> list[str]:
    from controltower.measurement.report import local, shown

    head = f"{found['title']}, {found['occasion']} (run {found['run_id']}, version {found['version']})"
    lines = [f"{head}: {found['outcome']}", f"as of {local(found['as_of'], found['zone'])}", ""]
    labels = ["run" if level["level"] == "run" else level["of"] for level in found["levels"]]
    lines.append(f"{'':24}" + "".join(f"{label[:15]:>16}" for label in labels))
    for kpi in found["kpis"]:
        cells = [level["figures"].get(kpi["name"]) for level in found["levels"]]
        values = [shown(c["value"], kpi["unit"], found["currency"]) if c else "" for c in cells]
        why = next((c["reason"] for c in cells[:1] if c and c["reason"]), None)
        lines.append(f"{kpi['label']:24}" + "".join(f"{value:>16}" for value in values) + (f"  ({why})" if why else ""))
    compared = found["readout"]
    lines += ["", f"{compared['verdict']}: {compared['sentence']}"]
    for arm, what in (("treated", "message planned"), ("holdout", "held out")):
        group = compared[arm]
        share = shown(group["share"], "share", "")
        lines.append(f"  {what:16} {group['ordered']:,} of {group['customers']:,} customers ordered ({share})")
    if compared["difference"] is not None:
        points = [f"{100 * compared[name]:+.2f}" for name in ("difference", "low", "high")]
        lines.append(f"  difference       {points[0]} points, 95 % interval {points[1]} to {points[2]}")
    lines += [f"  {row['customers']:,} {row['reason']} ({row['when']})" for row in found["not_sent"]]
    return lines + [f"! {note}" for note in found["notes"]]
