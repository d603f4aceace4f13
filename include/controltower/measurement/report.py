"""A run's report: one dict of plain values, which the command line, the file and the tower's page all show."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
from markupsafe import Markup

from controltower.content.money import format_money
from controltower.measurement import charts
from controltower.measurement.funnel import RUN, credit
from controltower.measurement.kpis import BY_NAME, KPIS, Figure, figures
from controltower.measurement.readout import readout
from controltower.measurement.worth import Worth
from controltower.settings import Shop

PAGES = Path(__file__).parent / "pages"
RECORDED = (
    "The orders of this shop are a recording of the past: none can have been caused by these messages. What is credited"
    " to them is a convention, and the difference to the holdout is a placebo test."
)


def build(
    worth: Worth,
    shop: Shop,
    as_of: datetime,
    *,
    versions: Sequence[Mapping[str, Any]],
    decided: Sequence[Mapping[str, Any]],
    kept: tuple[Mapping[str, Any], datetime] | None = None,
) -> dict[str, Any]:
    """The report. `kept` is the final readout with its moment: it stands, whatever has come to light since.

    `versions` are those of the occurrence (run_id, version, state, accepted), `decided` its approvals.
    """
    run, counts = worth.run, worth.funnel.run
    compared, measured_at = kept or (readout_of(worth, shop), as_of)
    return {
        "campaign": run.campaign,
        "title": run.spec.get("title") or run.campaign,
        "occasion": run.occurrence,
        "run_id": run.run_id,
        "version": run.version,
        "versions": [dict(v) for v in versions],
        "state": run.state,
        "hold": run.hold,
        "outcome": outcome(worth),
        "shop": shop.name,
        "zone": shop.timezone,
        "currency": shop.currency,
        "as_of": as_of.isoformat(),
        "planned_at": run.planned_at.isoformat(),
        "asked_by": run.asked_by,
        "approvals": [{**d, "decided_at": d["decided_at"].isoformat()} for d in decided],
        "plan_hash": run.plan_hash,
        "content_hash": run.content_hash,
        "attribution_days": worth.window.days,
        "simulated": list(shop.simulated),
        "recorded_orders": shop.recorded_orders,
        "notes": _notes(worth, shop, versions, as_of),
        "accounted": worth.funnel.accounted,
        "kpis": [{"name": k.name, "label": k.label, "unit": k.unit, "definition": k.sentence} for k in KPIS],
        "levels": levels(worth),
        "not_sent": [
            {"when": when, "reason": reason, "customers": n}
            for (when, reason), n in sorted(worth.funnel.reasons.items(), key=lambda item: (-item[1], item[0]))
        ],
        "other_currencies": [
            {"currency": currency, "orders": n, "revenue": str(amount)}
            for currency, (n, amount) in worth.credit.other_currencies.items()
        ],
        "readout": dict(compared) | {"measured_at": measured_at.isoformat()},
        "sent": int(counts["accepted"]),
    }


def readout_of(worth: Worth, shop: Shop) -> dict[str, Any]:
    return readout(
        worth.groups, worth.window, worth.left_out,
        left=worth.funnel.run["accepted"], recorded=shop.recorded_orders, currency=shop.currency,
    )  # fmt: skip


def levels(worth: Worth) -> list[dict[str, Any]]:
    """The figures of the run, of each channel and of each variant, in that order."""
    order = {"run": 0, "channel": 1, "variant": 2}
    credited = credit(worth.funnel, worth.credit.levels)
    return [
        {
            "level": level[0],
            "of": level[1],
            "figures": {f.kpi.name: _plain(f) for f in figures(credited[level], whole_run=level == RUN)},
        }
        for level in sorted(credited, key=lambda level: (order[level[0]], level[1]))
    ]


def _plain(figure: Figure) -> dict[str, Any]:
    value = str(figure.value) if isinstance(figure.value, Decimal) else figure.value
    return {"value": value, "reason": figure.reason}


def outcome(worth: Worth) -> str:
    """What became of the run, in a few words."""
    run, n = worth.run, worth.funnel.run
    if run.state != "planned":
        what = "cancelled" if run.state == "cancelled" else "replaced by a newer version"
        return f"{what}: {n['accepted']} of {n['messages']} messages had left" if n["accepted"] else (
            f"{what} before anything left"
        )  # fmt: skip
    if not n["audience"]:
        return "the audience was empty"
    if not n["messages"]:
        return "nobody could be written to"
    if run.hold and n["waiting"]:
        held = "waits for an approval" if run.hold == "approval" else "paused"
        return f"{held}: {n['accepted']} of {n['messages']} messages have left"
    if n["waiting"]:
        return f"sending: {n['accepted']} of {n['messages']} messages have left" if n["accepted"] else (
            "nothing has left yet"
        )  # fmt: skip
    return "sent" if n["accepted"] else "nothing left: every message was stopped"


def _notes(worth: Worth, shop: Shop, versions: Sequence[Mapping[str, Any]], as_of: datetime) -> list[str]:
    run, n = worth.run, worth.funnel.run
    notes = [f"Simulated: {what}." for what in shop.simulated]
    if shop.recorded_orders:
        notes.append(RECORDED)
    if run.state != "planned" and n["accepted"]:
        what = "was cancelled" if run.state == "cancelled" else "was replaced"
        notes.append(f"The run {what}. What came back for the {n['accepted']} messages that had left is counted.")
    notes += [
        f"Version {v['version']} of this occasion (run {v['run_id']}) sent {v['accepted']} messages; they are in its"
        " own report."
        for v in versions
        if v["run_id"] != run.run_id and v["accepted"]
    ]
    if worth.window.known_until < as_of:
        notes.append(f"Orders are known until {local(worth.window.known_until.isoformat(), shop.timezone)}.")
    for currency, (orders, _) in worth.credit.other_currencies.items():
        notes.append(f"{orders} credited orders in {currency} are apart: their money is in no figure here.")
    left_out = worth.left_out
    if left_out.get("in_earlier_run"):
        notes.append(
            f"{left_out['in_earlier_run']} customers were in an earlier run of this campaign. They are left out of the"
            " comparison: what they got then decides who of them could be in this one."
        )
    if left_out.get("another_holdout_share"):
        notes.append(
            f"{left_out['another_holdout_share']} customers came with a version that holds out another share, and are"
            " left out of the comparison."
        )
    if not worth.funnel.accounted:
        notes.append("The counts do not add up: please report this as a defect.")
    return notes


def local(moment: str, zone: str) -> str:
    """A moment in the shop's zone, with the zone's name."""
    return f"{datetime.fromisoformat(moment).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} ({zone})"


def shown(value: Any, unit: str, currency: str) -> str:
    """A figure as people read it; None is a dash."""
    if value is None:
        return "–"
    if unit == "share":
        return f"{100 * value:.1f} %" if abs(value) >= 0.01 or not value else f"{100 * value:.2f} %"
    if unit == "money":
        return format_money(Decimal(value), currency, "en")
    return f"{value:,}"


def fragment(report: Mapping[str, Any]) -> Markup:
    """The report's body, for a page of one's own: no script, no inline style; its style sheet is `css()`."""
    return Markup(_pages().get_template("fragment.html").render(_values(report)))  # noqa: S704  (autoescaped)


def page(report: Mapping[str, Any]) -> str:
    """The report as one HTML file that needs nothing else."""
    return _pages().get_template("page.html").render(_values(report), css=Markup(css()), body=fragment(report))  # noqa: S704


@lru_cache(maxsize=1)
def css() -> str:
    return (PAGES / "report.css").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _pages() -> jinja2.Environment:
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    pages.globals.update(shown=shown, local=local)
    return pages


def _values(report: Mapping[str, Any]) -> dict[str, Any]:
    run = report["levels"][0]["figures"]
    silent = any(f["delivered"]["value"] is None for level in report["levels"] if (f := level["figures"]))

    def label(name: str) -> str:
        return BY_NAME[name].label + (" (e-mail)" if silent and name in charts.OF_MAIL else "")

    missing = (f["reason"] for level in report["levels"] for f in level["figures"].values() if f["reason"])
    return {
        "r": report,
        "reasons": list(dict.fromkeys(missing)),
        "funnel": charts.funnel([(label(name), run[name]["value"]) for name in charts.STEPS]),
        "interval": charts.interval(report["readout"]),
    }


COLUMNS = (
    "campaign", "occasion", "run_id", "version", "as_of", "level", "of", "kpi", "label", "value", "unit", "currency",
    "reason", "definition",
)  # fmt: skip


def csv_text(report: Mapping[str, Any]) -> str:
    """One row a KPI and level (run, channel, variant), then the comparison, the reasons and the notes."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    same = {name: report[name] for name in ("campaign", "occasion", "run_id", "version", "as_of")}

    def write(level: str, of: str, kpi: str, label: str, value: Any, unit: str = "", **more: str | None) -> None:
        empty = "" if value is None else value
        row = same | {"level": level, "of": of, "kpi": kpi, "label": label, "value": empty, "unit": unit} | more
        if unit == "money":
            row |= {"currency": report["currency"]}
        writer.writerow({name: _safe(cell) for name, cell in row.items()})

    for level in report["levels"]:
        for name, figure in level["figures"].items():
            kpi = BY_NAME[name]
            write(
                level["level"], level["of"], name, kpi.label, figure["value"], kpi.unit,
                reason=figure["reason"], definition=kpi.sentence,
            )  # fmt: skip
    compared = report["readout"]
    for arm in ("treated", "holdout"):
        for name, unit in (("customers", "customers"), ("ordered", "customers"), ("share", "share"),
                           ("revenue", "money"), ("revenue_per_customer", "money")):  # fmt: skip
            write("comparison", arm, name, name.replace("_", " "), compared[arm][name], unit)
    for name in ("difference", "low", "high", "detectable"):
        write("comparison", "treated - holdout", name, name, compared[name], "share", definition=compared["primary"])
    for name, value in (compared["revenue"] or {}).items():
        what = compared["secondary"]
        write("comparison", "treated - holdout", f"revenue_{name}", f"revenue {name}", value, "money", definition=what)
    write("comparison", "", "verdict", "Verdict", compared["verdict"], definition=compared["sentence"])
    for row in report["not_sent"]:
        write("not_sent", row["when"], row["reason"], row["reason"], row["customers"], "customers")
    for row in report["other_currencies"]:
        write("other_currency", row["currency"], "revenue", "Revenue", row["revenue"], currency=row["currency"])
    write("outcome", "", "outcome", "Outcome", report["outcome"])
    for note in report["notes"]:
        write("note", "", "note", "Note", note)
    return out.getvalue()


def _safe(cell: Any) -> Any:
    """A text that a spreadsheet would take for a formula, made plain."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+@\t\r" and cell else cell
