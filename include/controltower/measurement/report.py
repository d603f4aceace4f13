"""A run's report: one dict of codes and plain values, which the command line, the file and the tower's page all show.

Words are made of it where it is shown, in the reader's language (wording.py).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from controltower.content import words
from controltower.data.spreadsheet import plain
from controltower.measurement import charts, wording
from controltower.measurement.funnel import RUN, credit
from controltower.measurement.kpis import BY_NAME, KPIS, Figure, figures
from controltower.measurement.readout import readout
from controltower.measurement.worth import Worth
from controltower.shop import Shop

PAGES = Path(__file__).parent / "pages"


def build(
    worth: Worth,
    shop: Shop,
    as_of: datetime,
    *,
    versions: Sequence[Mapping[str, Any]],
    decided: Sequence[Mapping[str, Any]],
    kept: tuple[Mapping[str, Any], datetime] | None = None,
    hours: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The report. `kept` is the final readout with its moment: it stands, whatever has come to light since.

    `hours` is as `readout.random_hours` says it, `versions` are those of the occurrence (run_id, version, state,
    accepted), `decided` what people decided about it.
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
        "decisions": [{**d, "decided_at": d["decided_at"].isoformat()} for d in decided],
        "plan_hash": run.plan_hash,
        "content_hash": run.content_hash,
        "attribution_days": worth.window.days,
        "locale": shop.locale,
        "simulated": {language: shop.made_up(language) for language in words.load().languages},
        "recorded_orders": shop.recorded_orders,
        "hours": hours,
        "notes": _notes(worth, shop, versions, as_of, hours),
        "accounted": worth.funnel.accounted,
        "kpis": [{"name": k.name, "unit": k.unit} for k in KPIS],
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
        left=worth.left, recorded=shop.recorded_orders, currency=shop.currency, written_to=worth.written_to,
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
    """What became of the run: a code, whose words are in locales/."""
    run, n = worth.run, worth.funnel.run
    if run.state != "planned":
        return run.state if n["accepted"] else f"{run.state}_before"
    if not n["audience"]:
        return "audience_empty"
    if not n["messages"]:
        return "nobody_to_write_to"
    if run.hold and n["waiting"]:
        return "waits_for_approval" if run.hold == "approval" else "paused"
    if n["waiting"]:
        return "sending" if n["accepted"] else "not_started"
    return "sent" if n["accepted"] else "all_stopped"


def _notes(
    worth: Worth, shop: Shop, versions: Sequence[Mapping[str, Any]], as_of: datetime, hours: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """What a reader should know beside the figures: codes with their values."""
    run, n, left_out = worth.run, worth.funnel.run, worth.left_out
    notes: list[dict[str, Any]] = [{"code": "recorded_orders"}] if shop.recorded_orders else []
    if run.state != "planned" and n["accepted"]:
        notes.append({"code": run.state, "accepted": int(n["accepted"])})
    notes += [
        {"code": "other_version", **{name: v[name] for name in ("version", "run_id", "accepted")}}
        for v in versions
        if v["run_id"] != run.run_id and v["accepted"]
    ]
    if worth.window.known_until is None:
        notes.append({"code": "orders_not_loaded"})
    elif worth.window.known_until < as_of:
        notes.append({"code": "orders_known_until", "until": worth.window.known_until.isoformat()})
    notes += [
        {"code": "other_currency", "currency": currency, "orders": orders}
        for currency, (orders, _) in worth.credit.other_currencies.items()
    ]
    notes += [
        {"code": why, "customers": left_out[why]}
        for why in ("in_earlier_run", "another_holdout_share", "merged")
        if left_out.get(why)
    ]
    if n["twice"]:
        notes.append({"code": "twice", "messages": int(n["twice"])})
    if worth.written_to:
        notes.append({"code": "held_out_and_written_to", "customers": worth.written_to})
    if hours and hours["difference"] is None:
        notes.append({"code": "random_hours_few", "random": hours["random"]})
    elif hours:
        notes.append({"code": "random_hours", **hours})
    if not worth.funnel.accounted:
        notes.append({"code": "not_accounted"})
    return notes


def fragment(report: Mapping[str, Any], language: str | None = None) -> Markup:
    """The report's body, for a page of one's own: no script, no inline style; its style sheet is `css()`.

    In the shop's language where none is given, as is `page`.
    """
    return Markup(_pages().get_template("fragment.html").render(_values(report, language)))  # noqa: S704  (autoescaped)


def page(report: Mapping[str, Any], language: str | None = None) -> str:
    """The report as one HTML file that needs nothing else."""
    body = fragment(report, language)
    return _pages().get_template("page.html").render(_values(report, language), css=Markup(css()), body=body)  # noqa: S704


@lru_cache(maxsize=1)
def css() -> str:
    return (PAGES / "report.css").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _pages() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _values(report: Mapping[str, Any], language: str | None) -> dict[str, Any]:
    told = wording.tell(report, language or report["locale"])
    t = wording.speak(told["language"])
    run = report["levels"][0]["figures"]
    silent = any(f["delivered"]["value"] is None for level in report["levels"] if (f := level["figures"]))

    def label(name: str) -> str:
        plain = told["kpis"][name]["label"]
        return t("page.of_mail", label=plain) if silent and name in charts.OF_MAIL else plain

    return {
        "r": report,
        "told": told,
        "t": t,
        "word": partial(words.word, t),
        "reasons": list(told["no_figure"]),
        "funnel": charts.funnel([(label(name), run[name]["value"]) for name in charts.STEPS]),
        "interval": charts.interval(report["readout"]),
        "local": partial(wording.local, zone=report["zone"]),
        "shown": partial(wording.shown, currency=report["currency"], language=told["language"]),
    }


COLUMNS = (
    "campaign", "occasion", "run_id", "version", "as_of", "level", "of", "kpi", "label", "value", "unit", "currency",
    "reason", "definition",
)  # fmt: skip


def csv_text(report: Mapping[str, Any], language: str = wording.FALLBACK) -> str:
    """One row a KPI and level (run, channel, variant), then the comparison, the reasons and the notes."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    same = {name: report[name] for name in ("campaign", "occasion", "run_id", "version", "as_of")}
    told, t = wording.tell(report, language), wording.speak(language)

    def write(level: str, of: str, kpi: str, label: str, value: Any, unit: str = "", **more: str | None) -> None:
        empty = "" if value is None else value
        row = same | {"level": level, "of": of, "kpi": kpi, "label": label, "value": empty, "unit": unit} | more
        if unit == "money":
            row |= {"currency": report["currency"]}
        writer.writerow({name: plain(cell) if isinstance(cell, str) else cell for name, cell in row.items()})

    for level in report["levels"]:
        for name, figure in level["figures"].items():
            why = told["no_figure"].get(figure["reason"])
            write(level["level"], level["of"], name, value=figure["value"], unit=BY_NAME[name].unit, reason=why,
                  **told["kpis"][name])  # fmt: skip
    compared = report["readout"]
    for arm in ("treated", "holdout"):
        for name, unit in (("customers", "customers"), ("ordered", "customers"), ("share", "share"),
                           ("revenue", "money"), ("revenue_per_customer", "money")):  # fmt: skip
            write("comparison", arm, name, t(f"compared.{name}"), compared[arm][name], unit)
    between = ("comparison", "treated - holdout")
    for name in ("difference", "low", "high", "detectable"):
        write(*between, name, name, compared[name], "share", definition=t("compared.primary"))
    for name, value in (compared["revenue"] or {}).items():
        what = t("compared.secondary")
        write(*between, f"revenue_{name}", f"{t('compared.revenue')} {name}", value, "money", definition=what)
    said = f"{told['verdict']}: {told['sentence']}"
    write("comparison", "", "verdict", t("page.verdict"), compared["verdict"], definition=said)
    for row, in_words in zip(report["not_sent"], told["not_sent"], strict=True):
        write("not_sent", row["when"], row["reason"], in_words["reason"], row["customers"], "customers")
    for row in report["other_currencies"]:
        write("other_currency", row["currency"], "revenue", t("compared.revenue"), row["revenue"],
              currency=row["currency"])  # fmt: skip
    write("outcome", "", "outcome", t("page.outcome"), report["outcome"], definition=told["outcome"])
    for note in told["notes"]:
        write("note", "", "note", t("page.note"), note)
    return out.getvalue()
