"""Last touch: which message an order is credited to. A convention for sharing out orders, no proof of a cause.

An order is credited to the newest message that its customer got before it, of whatever run or campaign, if the order
came within that message's window. What came before any message is credited to none. Only orders count; `purchase`
events never do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from controltower.measurement.funnel import RUN, Level


@dataclass(frozen=True, slots=True)
class Touch:
    """A message that reached somebody, and how long it may have caused an order."""

    seq: int
    run_id: int
    subject_id: int
    channel: str
    variant: str
    sent_at: datetime
    window: timedelta


@dataclass(frozen=True, slots=True)
class Order:
    """An order with its net amount; one that isn't `bought` is a return booked by itself."""

    order_id: str
    subject_id: int
    ordered_at: datetime
    currency: str
    bought: bool
    revenue: Decimal


def attribute(touches: Iterable[Touch], orders: Iterable[Order]) -> list[tuple[Order, Touch]]:
    """Each order that has one with its message. Orders without one are left out. The order of neither list matters."""
    of: dict[int, list[Touch]] = defaultdict(list)
    for touch in touches:
        of[touch.subject_id].append(touch)
    for mine in of.values():
        mine.sort(key=lambda t: (t.sent_at, t.seq))
    found = []
    for order in orders:
        mine = of.get(order.subject_id, [])
        before = bisect_left(mine, order.ordered_at, key=lambda t: t.sent_at)
        # A newer message whose short window is over doesn't take the order from an older one that may still have it.
        for touch in reversed(mine[:before]):
            if order.ordered_at < touch.sent_at + touch.window:
                found.append((order, touch))
                break
    return found


@dataclass(frozen=True)
class Credit:
    """What is credited to a run: counts by level, and orders and amounts in currencies other than the shop's."""

    levels: Mapping[Level, Mapping[str, int | Decimal]]
    other_currencies: Mapping[str, tuple[int, Decimal]]


def credits(attributed: Iterable[tuple[Order, Touch]], run_id: int, currency: str) -> Credit:
    """Sum up the orders credited to one run: `ordered` messages, `orders`, `revenue` in the shop's currency."""
    orders: Counter[Level] = Counter()
    revenue: dict[Level, Decimal] = defaultdict(Decimal)
    messages: dict[Level, set[int]] = defaultdict(set)
    others: dict[str, tuple[int, Decimal]] = {}
    for order, touch in attributed:
        if touch.run_id != run_id:
            continue
        levels: tuple[Level, ...] = (RUN, ("channel", touch.channel), ("variant", touch.variant))
        for level in levels:
            if order.bought:
                orders[level] += 1
                messages[level].add(touch.seq)
            if order.currency == currency:
                revenue[level] += order.revenue
        if order.currency != currency:
            count, amount = others.get(order.currency, (0, Decimal(0)))
            others[order.currency] = (count + order.bought, amount + order.revenue)
    every = {RUN, *orders, *revenue}
    return Credit(
        {
            level: {"ordered": len(messages[level]), "orders": orders[level], "revenue": revenue[level]}
            for level in every
        },
        dict(sorted(others.items())),
    )
