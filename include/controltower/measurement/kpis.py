"""The figures of a report: one list, used by the report, its page and its CSV; what each means is in locales/.

A figure is a count, an amount of money, or the quotient of two of those. Where there is nothing to divide by, or a
provider doesn't tell, a figure is None and has a code that says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

# Providers that tell of delivery. FCM and mail servers tell nothing after acceptance.
TELLING = frozenset({"sendgrid", "in_app"})

Unit = Literal["customers", "messages", "orders", "share", "money"]
Counts = Mapping[str, int | Decimal]


@dataclass(frozen=True)
class Kpi:
    """A figure: its counts' name, or `top` / `bottom`."""

    name: str
    unit: Unit
    top: str | None = None
    bottom: str | None = None
    run_only: bool = False  # of members without a channel or variant


KPIS = (
    Kpi("audience", "customers", run_only=True),
    Kpi("held_out", "customers", run_only=True),
    Kpi("not_sent", "customers", run_only=True),
    Kpi("messages", "messages"),
    Kpi("stopped", "messages"),
    Kpi("waiting", "messages"),
    Kpi("accepted", "messages"),
    Kpi("delivered", "messages"),
    Kpi("bounced", "messages"),
    Kpi("opened", "messages"),
    Kpi("opened_by_machine", "messages"),
    Kpi("clicked", "messages"),
    Kpi("clicked_by_machine", "messages"),
    Kpi("unsubscribed", "messages"),
    Kpi("complained", "messages"),
    Kpi("ordered", "messages"),
    Kpi("orders", "orders"),
    Kpi("revenue", "money"),
    Kpi("delivery_rate", "share", "delivered", "told"),
    Kpi("bounce_rate", "share", "bounced", "told"),
    Kpi("open_rate", "share", "opened", "delivered"),
    Kpi("click_rate", "share", "clicked", "reached"),
    Kpi("unsubscribe_rate", "share", "unsubscribed", "reached"),
    Kpi("complaint_rate", "share", "complained", "delivered"),
    Kpi("order_rate", "share", "ordered", "reached"),
    Kpi("revenue_per_message", "money", "revenue", "reached"),
)
BY_NAME = {k.name: k for k in KPIS}

_OF_MAIL = frozenset({"delivered", "bounced", "opened", "opened_by_machine", "complained"})
_BOTTOMS = {
    "told": "no_mail_accepted",
    "delivered": "no_mail_delivered",
    "reached": "nobody_reached",
}
NOT_TOLD = "not_told"


@dataclass(frozen=True)
class Figure:
    """A KPI's value; None where there is none, with the reason's code."""

    kpi: Kpi
    value: int | float | Decimal | None
    reason: str | None = None


def figures(counts: Counts, *, whole_run: bool = True) -> list[Figure]:
    """Every KPI from counts by name. Besides the KPIs' own they hold `told`: what TELLING providers accepted."""
    known: Counter[str] = Counter()
    known.update(counts)
    known["reached"] = known["delivered"] + known["accepted"] - known["told"]
    return [_figure(kpi, known) for kpi in KPIS if whole_run or not kpi.run_only]


def _figure(kpi: Kpi, counts: Mapping[str, Any]) -> Figure:
    if kpi.name in _OF_MAIL and counts["accepted"] and not counts["told"]:
        return Figure(kpi, None, NOT_TOLD)
    if kpi.top is None or kpi.bottom is None:
        value = counts[kpi.name]
        return Figure(kpi, Decimal(value) if kpi.unit == "money" else int(value))
    if not counts[kpi.bottom]:
        nothing_told = kpi.bottom != "reached" and counts["accepted"] and not counts["told"]
        return Figure(kpi, None, NOT_TOLD if nothing_told else _BOTTOMS[kpi.bottom])
    if kpi.unit == "money":
        return Figure(kpi, (Decimal(counts[kpi.top]) / counts[kpi.bottom]).quantize(Decimal("0.0001")))
    return Figure(kpi, counts[kpi.top] / counts[kpi.bottom])
