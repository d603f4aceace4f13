"""From a run's counted messages to counts by name: for the run, each channel and each variant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from controltower.ledger.funnels import Cell
from controltower.ledger.unknowns import TWICE
from controltower.measurement.kpis import TELLING

Level = tuple[str, str]  # ("run", ""), ("channel", "email"), ("variant", "personal")
RUN: Level = ("run", "")


@dataclass
class Funnel:
    """Counts by level, and why members got nothing: (when, reason) -> customers."""

    levels: dict[Level, Counter[str]] = field(default_factory=dict)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def run(self) -> Counter[str]:
        return self.levels[RUN]

    @property
    def accounted(self) -> bool:
        """Whether every member of the audience has exactly one place."""
        r = self.run
        planned = r["held_out"] + r["not_sent"] + r["messages"]
        return r["audience"] == planned and r["messages"] == r["accepted"] + r["stopped"] + r["waiting"]


def funnel(audience: Iterable[tuple[str, str | None, int]], cells: Iterable[Cell]) -> Funnel:
    """Sum up (outcome, reason, members) of the audience, and the cells of its messages."""
    made = Funnel({RUN: Counter()})
    for outcome, reason, members in audience:
        made.run["audience"] += members
        if outcome == "holdout":
            made.run["held_out"] += members
        elif outcome == "not_sent":
            made.run["not_sent"] += members
            made.reasons["when planned", str(reason)] += members
    for cell in cells:
        counted = _counted(cell)
        for level in (RUN, ("channel", cell.channel), ("variant", cell.variant)):
            made.levels.setdefault(level, Counter()).update(counted)
        if counted["stopped"]:
            made.reasons[_WHEN[cell.state], cell.reason or cell.state] += cell.messages
    return made


_WHEN = {
    "not_sent": "at the last check",
    "rejected": "by the provider",
    "unknown": "no answer from the provider",
    "cancelled": "run stopped",
}


def _counted(cell: Cell) -> Counter[str]:
    counted: Counter[str] = Counter(messages=cell.messages)
    if cell.state == "waiting":
        counted["waiting"] = cell.messages
    elif cell.state != "accepted":
        counted["stopped"] = cell.messages
    else:
        counted["accepted"] = cell.messages
        counted["twice"] = cell.messages if cell.reason == TWICE else 0
        counted.update(cell.flags)
        if cell.provider in TELLING:
            counted["told"] = cell.messages
        else:  # a click on a push proves that it arrived, yet most arrivals stay unseen: none is called delivered
            counted["delivered"] = 0
    return counted


def credit(
    made: Funnel, credited: Mapping[Level, Mapping[str, int | Decimal]]
) -> dict[Level, dict[str, int | Decimal]]:
    """The counts of each level with what attribution credits to it: ordered, orders, revenue."""
    return {level: {**counts, **credited.get(level, {})} for level, counts in made.levels.items()}
