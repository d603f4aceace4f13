"""What each figure of a report means: one list, used by the report, its page, its CSV and docs/measurement.md.

A figure is a count, an amount of money, or the quotient of two of those. Where there is nothing to divide by, or a
channel doesn't tell, a figure is None and says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

# Channels whose provider tells of delivery. FCM tells nothing after acceptance.
TELLING = frozenset({"email"})

Unit = Literal["customers", "messages", "orders", "share", "money"]
Counts = Mapping[str, int | Decimal]


@dataclass(frozen=True)
class Kpi:
    """A figure: its counts' name, or `top` / `bottom`; `sentence` says what is counted, over what."""

    name: str
    label: str
    unit: Unit
    sentence: str
    top: str | None = None
    bottom: str | None = None
    run_only: bool = False  # of members without a channel or variant


KPIS = (
    Kpi("audience", "Audience", "customers", "Members of the run's frozen audience.", run_only=True),
    Kpi("held_out", "Held out", "customers", "Members withheld on purpose, to compare with.", run_only=True),
    Kpi(
        "not_sent", "Ruled out", "customers",
        "Members who may not or cannot be written to, found when the run was planned; by reason.", run_only=True,
    ),
    Kpi("messages", "Messages", "messages", "Messages planned: audience minus held out minus ruled out."),
    Kpi(
        "stopped", "Stopped", "messages",
        "Messages that ended without leaving: by the last check, by the provider's refusal, cancelled, or the"
        " provider's answer was lost and nothing came back.",
    ),
    Kpi("waiting", "Waiting", "messages", "Messages that are still to leave."),
    Kpi("accepted", "Accepted", "messages", "Messages that a provider took."),
    Kpi(
        "delivered", "Delivered", "messages",
        "Accepted e-mails that arrived (delivered, opened or clicked) and did not bounce. A push provider tells nothing"
        " after acceptance, so no push counts as delivered.",
    ),
    Kpi("bounced", "Bounced", "messages", "Accepted e-mails that bounced or were dropped by the provider."),
    Kpi(
        "opened", "Opened", "messages",
        "E-mails opened by a person. Mail programs that block pictures hide openings; ones by programs are apart.",
    ),
    Kpi("opened_by_machine", "Opened by programs only", "messages", "E-mails opened by programs, and by no person."),
    Kpi("clicked", "Clicked", "messages", "Messages with a click by a person; several clicks count once."),
    Kpi(
        "clicked_by_machine", "Clicked by programs only", "messages",
        "Messages whose links were only followed by programs (scanners, prefetching).",
    ),
    Kpi("unsubscribed", "Unsubscribed", "messages", "Messages through which somebody unsubscribed."),
    Kpi("complained", "Complained", "messages", "E-mails that somebody marked as spam."),
    Kpi("ordered", "Ordered", "messages", "Messages to which at least one order is credited."),
    Kpi(
        "orders", "Orders", "orders",
        "Orders credited: each order to the newest message that its customer got before it, within the attribution"
        " window, whatever the campaign. Cancelled orders don't count.",
    ),
    Kpi(
        "revenue", "Revenue", "money",
        "What the credited orders came to: quantity x unit price - discount of their lines, returns subtracted, in the"
        " shop's currency, without shipping and tax.",
    ),
    Kpi("delivery_rate", "Delivery rate", "share", "Delivered / accepted e-mails.", "delivered", "told"),
    Kpi("bounce_rate", "Bounce rate", "share", "Bounced / accepted e-mails.", "bounced", "told"),
    Kpi("open_rate", "Open rate", "share", "Opened / delivered e-mails.", "opened", "delivered"),
    Kpi("click_rate", "Click rate", "share", "Clicked / (delivered e-mails + accepted pushes).", "clicked", "reached"),
    Kpi(
        "unsubscribe_rate", "Unsubscribe rate", "share", "Unsubscribed / (delivered e-mails + accepted pushes).",
        "unsubscribed", "reached",
    ),
    Kpi("complaint_rate", "Complaint rate", "share", "Complained / delivered e-mails.", "complained", "delivered"),
    Kpi(
        "order_rate", "Order rate", "share", "Messages with an order credited / (delivered e-mails + accepted pushes).",
        "ordered", "reached",
    ),
    Kpi(
        "revenue_per_message", "Revenue per message", "money", "Revenue / (delivered e-mails + accepted pushes).",
        "revenue", "reached",
    ),
)  # fmt: skip
BY_NAME = {k.name: k for k in KPIS}

_OF_MAIL = frozenset({"delivered", "bounced", "opened", "opened_by_machine", "complained"})
_BOTTOMS = {
    "told": "no e-mail was accepted",
    "delivered": "no e-mail was delivered",
    "reached": "no message was delivered or accepted",
}
NOT_TOLD = "push providers tell nothing after acceptance"


@dataclass(frozen=True)
class Figure:
    """A KPI's value; None where there is none, with the reason."""

    kpi: Kpi
    value: int | float | Decimal | None
    reason: str | None = None


def figures(counts: Counts, *, whole_run: bool = True) -> list[Figure]:
    """Every KPI from counts by name. Besides the KPIs' own they hold `told`: what TELLING channels accepted."""
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
        only_push = kpi.bottom != "reached" and counts["accepted"] and not counts["told"]
        return Figure(kpi, None, NOT_TOLD if only_push else _BOTTOMS[kpi.bottom])
    if kpi.unit == "money":
        return Figure(kpi, (Decimal(counts[kpi.top]) / counts[kpi.bottom]).quantize(Decimal("0.0001")))
    return Figure(kpi, counts[kpi.top] / counts[kpi.bottom])
