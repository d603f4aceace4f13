"""`controltower measure` and `controltower campaign report`: what runs were worth."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size

from controltower.commands.options import AsOf, Name, OutReport
from controltower.commands.showing import show


def measure(
    as_of: AsOf = None,
    again: Annotated[bool, typer.Option("--again", help="also runs whose verdict was given already")] = False,
) -> None:
    """Measure what campaign runs changed, against their holdouts; a verdict is given once, when the window closes."""
    from controltower.jobs.measurement import measure_campaigns

    show(measure_campaigns(as_of, again))


def report(
    name: Name,
    occasion: Annotated[str | None, typer.Option(help="which day's occurrence; default: the newest")] = None,
    run_id: Annotated[int | None, typer.Option(help="one version of an occurrence; default: the newest")] = None,
    as_of: AsOf = None,
    out: OutReport = None,
    language: Annotated[
        str | None, typer.Option(help="ko or en; default: English, and an .html file in the shop's language")
    ] = None,
) -> None:
    """What a campaign's run came to: its funnel, the orders credited to it, the difference to its holdout."""
    from controltower.jobs.measurement import report_campaign, write_report

    found = report_campaign(name, occasion, run_id, as_of)
    for line in _lines(found, language):
        print(line)
    if out:
        write_report(found, out, language)
        print(f"-> {out}")


def _lines(found: dict[str, Any], language: str | None) -> list[str]:
    from controltower.measurement import wording
    from controltower.measurement.wording import local, shown

    told = wording.tell(found, language or wording.FALLBACK)
    language, t = told["language"], wording.speak(told["language"])
    head = f"{found['title']}, {found['occasion']} ({t('page.run', run_id=found['run_id'], version=found['version'])})"
    lines = [f"{head}: {told['outcome']}", local(found["as_of"], found["zone"]), ""]
    labels = [t("level.run") if level["level"] == "run" else level["of"] for level in found["levels"]]
    lines.append(f"{'':24}" + "".join(_right(label[:15]) for label in labels))
    for kpi in found["kpis"]:
        cells = [level["figures"].get(kpi["name"]) for level in found["levels"]]
        values = [shown(c["value"], kpi["unit"], found["currency"], language) if c else "" for c in cells]
        why = next((told["no_figure"][c["reason"]] for c in cells[:1] if c and c["reason"]), None)
        label = set_cell_size(told["kpis"][kpi["name"]]["label"], 24)
        lines.append(label + "".join(map(_right, values)) + (f"  ({why})" if why else ""))
    compared = found["readout"]
    lines += ["", f"{told['verdict']}: {told['sentence']}"]
    for arm in ("treated", "holdout"):
        group = compared[arm]
        share = shown(group["share"], "share", "", language)
        name = set_cell_size(t(f"compared.{arm}"), 20)
        lines.append(f"  {name} {t('compared.ordered')} {group['ordered']:,} / {group['customers']:,} ({share})")
    if compared["difference"] is not None:
        points = {name: f"{100 * compared[name]:+.2f}" for name in ("difference", "low", "high")}
        lines.append(f"  {t('page.difference_drawn', **points)}")
    lines += [f"  {row['customers']:,} {row['reason']} ({row['when']})" for row in told["not_sent"]]
    return lines + [f"! {note}" for note in told["notes"]]


def _right(text: str, width: int = 16) -> str:
    """Set flush right; a Korean letter takes two cells."""
    return " " * (width - cell_len(text)) + text
