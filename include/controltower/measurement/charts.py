"""The geometry of charts on reports and pages; the templates draw them as SVG. All lengths are units of the drawing."""

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


Share = tuple[float, float, float]  # with its interval


@dataclass(frozen=True)
class Rate:
    width: float
    low: float
    high: float
    y: int


@dataclass(frozen=True)
class Rates:
    """Groups with a bar for each of the shares compared (None: there is none), all on one axis from 0."""

    groups: tuple[tuple[str, int, tuple[Rate | None, ...]], ...]  # label, middle, bars
    height: int


def rates(groups: Sequence[tuple[str, Sequence[Share | None]]]) -> Rates:
    """Bars begin at LABELS; what stands beside a bar has NUMBERS."""
    known = [share for _, shares in groups for share in shares if share]
    most = max((high for _, _, high in known), default=0.0) or 1.0
    thick, y, placed = BAR // 2 + 1, 0, []

    def length(value: float) -> float:
        return round((WIDTH - LABELS - NUMBERS) * value / most, 1)

    for label, shares in groups:
        bars = tuple(
            Rate(length(share[0]), length(share[1]), length(share[2]), y + n * thick) if share else None
            for n, share in enumerate(shares)
        )
        placed.append((label, y + len(shares) * thick // 2, bars))
        y += len(shares) * thick + GAP
    return Rates(tuple(placed), y)


@dataclass(frozen=True)
class Calibration:
    """Points of what was said (x, to the right) and what came (y, downwards from the top), both from `least` to `most`
    over `side`; `spans` (x, from y to y) are the intervals of what came, where they are known. Where both are the same
    the points lie on the diagonal. `zero` is how far 0 lies from the left and from the bottom."""

    points: tuple[tuple[float, float], ...]
    spans: tuple[tuple[float, float, float], ...]
    least: float
    most: float
    zero: float
    side: int = 240


def calibration(table: Sequence[Mapping[str, float]]) -> Calibration:
    """Of rows with `said` and `came`, and `low` and `high` of the latter."""
    values = [row[name] for row in table for name in ("said", "came", "low", "high") if name in row]
    least, most = min([0.0, *values]), max([0.0, *values])
    span = most - least or 1.0

    def place(value: float) -> float:
        return round(Calibration.side * (value - least) / span, 1)

    def down(value: float) -> float:
        return round(Calibration.side - place(value), 1)

    points = ((place(row["said"]), down(row["came"])) for row in table)
    spans = ((place(row["said"]), down(row["low"]), down(row["high"])) for row in table if "low" in row)
    return Calibration(tuple(points), tuple(spans), least, least + span, place(0.0))
