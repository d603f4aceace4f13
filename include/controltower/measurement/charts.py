"""The geometry of a report's two charts; the templates draw them as SVG. All lengths are units of the drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STEPS = ("audience", "messages", "accepted", "delivered", "opened", "clicked", "ordered")
OF_MAIL = ("delivered", "opened")  # only mails tell of these
WIDTH, LABELS, NUMBERS, BAR, GAP = 640, 130, 110, 22, 8


@dataclass(frozen=True)
class Bar:
    label: str
    value: int
    share: float  # of the widest
    y: int
    width: float


@dataclass(frozen=True)
class Funnel:
    bars: tuple[Bar, ...]
    height: int


def funnel(steps: Sequence[tuple[str, int | None]]) -> Funnel:
    """A bar a step; what isn't told (None) has none."""
    known = [(label, value) for label, value in steps if value is not None]
    most = max((value for _, value in known), default=0) or 1
    room = WIDTH - LABELS - NUMBERS
    bars = tuple(
        Bar(label, value, value / most, n * (BAR + GAP), round(room * value / most, 1))
        for n, (label, value) in enumerate(known)
    )
    return Funnel(bars, len(bars) * (BAR + GAP))


@dataclass(frozen=True)
class Interval:
    low: float
    high: float
    point: float
    zero: float
    ticks: tuple[tuple[float, str], ...]


def interval(readout: Mapping[str, Any]) -> Interval | None:
    """The difference with its interval on an axis around 0, in percentage points; None without a comparison."""
    if readout["difference"] is None:
        return None
    reach = max(abs(readout["low"]), abs(readout["high"]), 1e-6) * 1.15

    def place(value: float) -> float:
        return round(20 + (WIDTH - 40) * (value + reach) / (2 * reach), 1)

    step = reach / 1.15
    digits = 1 if step >= 0.01 else 2
    ticks = tuple((place(t), f"{100 * t:+.{digits}f}" if t else "0") for t in (-step, -step / 2, 0.0, step / 2, step))
    return Interval(place(readout["low"]), place(readout["high"]), place(readout["difference"]), place(0.0), ticks)
