"""A report in words: its codes and values, told in the reader's language."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from controltower import clock
from controltower.content import words
from controltower.content.locales import Translate
from controltower.content.money import format_money
from controltower.measurement.readout import FEWEST, leaves_out_0

LOCALES = Path(__file__).parent / "locales"
FALLBACK = "en"  # what files for programs are written in


def speak(language: str) -> Translate:
    """`t(key, name=value, ...)` of the report's words."""
    return words.translator(language, LOCALES)


def tell(report: Mapping[str, Any], language: str) -> dict[str, Any]:
    """What a report (`report.build`) says, by the names of its parts.

    {language, outcome, verdict, sentence, notes: [...], kpis: {name: {label, definition}}, no_figure: {code: text},
    not_sent: [{reason, when, customers}]}.
    """
    t, compared = speak(language), report["readout"]
    run = report["levels"][0]["figures"]
    counted = {name: f"{run[name]['value']:,}" for name in ("accepted", "messages")}
    return {
        "language": words.load(LOCALES).chain(language)[0],
        "outcome": t(f"outcome.{report['outcome']}", **counted),
        "verdict": verdict(compared, t),
        "sentence": sentence(compared, t),
        "notes": _notes(report, language, t),
        "kpis": {
            k["name"]: {"label": t(f"kpi.{k['name']}.label"), "definition": t(f"kpi.{k['name']}.means")}
            for k in report["kpis"]
        },
        "no_figure": {
            f["reason"]: t(f"no_figure.{f['reason']}")
            for level in report["levels"]
            for f in level["figures"].values()
            if f["reason"]
        },
        "not_sent": [
            row | {"reason": words.word(t, "reason", row["reason"]), "when": words.word(t, "stage", row["when"])}
            for row in report["not_sent"]
        ],
    }


def verdict(compared: Mapping[str, Any], t: Translate) -> str:
    """A readout's verdict in a few words."""
    return t(f"verdict.{_code(compared)}", **_window(compared))


def sentence(compared: Mapping[str, Any], t: Translate) -> str:
    """What a readout's verdict means."""
    code = _code(compared)
    values: dict[str, Any] = {"fewest": FEWEST}
    if code == "contaminated":
        values |= {"written_to": f"{compared['written_to']:,}", "held_out": f"{compared['holdout']['customers']:,}"}
    if code == "placebo_test":
        code += "_outside" if leaves_out_0(compared) else "_inside"
    if code == "effect":
        code += "_more" if compared["low"] > 0 else "_fewer"
    if compared["difference"] is not None:
        signed = {name: f"{100 * compared[name]:+.2f}" for name in ("difference", "low", "high")}
        values |= signed | {
            "points": f"{100 * abs(compared['difference']):.2f}",
            "detectable": f"{100 * (compared['detectable'] or 0):.2f}",
            "interval": t("sentence.interval", low=signed["low"], high=signed["high"]),
        }
    return t(f"sentence.{code}", **values)


def _code(compared: Mapping[str, Any]) -> str:
    return str(compared["verdict"]).replace(" ", "_")


def _window(compared: Mapping[str, Any]) -> dict[str, int]:
    return {name: compared["window"][name] for name in ("days", "days_so_far")}


def _notes(report: Mapping[str, Any], language: str, t: Translate) -> list[str]:
    told = [t("note.simulated", what=what) for what in report["simulated"].get(language) or report["simulated"]["en"]]
    for note in report["notes"]:
        values = {name: f"{value:,}" if isinstance(value, int) else value for name, value in note.items()}
        values |= {name: f"{100 * value:.2f}" for name, value in note.items() if isinstance(value, float)}
        if "until" in values:
            values["until"] = local(values["until"], report["zone"])
        told.append(t(f"note.{values.pop('code')}", **values))
    return told


def local(moment: str, zone: str) -> str:
    """A moment in the shop's zone."""
    return clock.show(datetime.fromisoformat(moment), ZoneInfo(zone))


def shown(value: Any, unit: str, currency: str, language: str = FALLBACK) -> str:
    """A figure as people read it; None is a dash."""
    if value is None:
        return "–"
    if unit == "share":
        percent = f"{100 * value:.1f}" if abs(value) >= 0.01 or not value else f"{100 * value:.2f}"
        return f"{percent}%" if language == "ko" else f"{percent} %"
    if unit == "money":
        return format_money(Decimal(value), currency, language)
    return f"{value:,}"
