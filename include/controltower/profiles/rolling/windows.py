"""How far back a feature looks, and at which ages a fact counts differently: read from the feature's own expression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import ibis.expr.operations as ops

from controltower.profiles.facts import Facts
from controltower.profiles.features import SOURCES, per_customer
from controltower.profiles.local_time import LOOK_BACK_DAYS
from controltower.profiles.portable import DAY

_COMPARING = (ops.Comparison, ops.Between, ops.InValues)
ALL: Final = 1_000_000  # days: every fact there is
# Of these sources a customer's rows of the last days are made of the customer's facts of those days alone.
_BY_DAYS = ("events", "sessions", "interests", "habits", "orders", "lines", "local_orders", "messages")


@dataclass(frozen=True)
class Window:
    """`edges`: the ages in days at which a fact counts differently. `days`: older facts don't count, ALL: all do."""

    edges: frozenset[int]
    days: int


_found: dict[str, dict[str, Window]] = {}  # by source: they are of the definitions, whatever the facts


def windows_of(facts: Facts, source: str) -> dict[str, Window]:
    """By the name of each feature of a source."""
    if source not in _found:
        _found[source] = dict(_windows(facts, source))
    return _found[source]


def _windows(facts: Facts, source: str) -> Iterator[tuple[str, Window]]:
    counted = per_customer(source, getattr(facts, source)).op()
    rows, metrics = counted.parent, counted.metrics
    kept = [edge(p) for f in rows.find(ops.Filter) for p in f.predicates]
    within = {LOOK_BACK_DAYS} if source == "local_orders" else {days for days in kept if days}
    everywhere = within | {days for node in rows.find(_COMPARING) if (days := edge(node))}
    for feature in SOURCES[source]:
        found = metrics[feature.name]
        own = {days for node in found.find(_COMPARING, filter=ops.Value) if (days := edge(node))}
        bounds = [_bound(node.where) for node in found.find(ops.Reduction, filter=ops.Value)]
        bounded = max(bounds, default=ALL)
        read = {node.name for node in found.find(ops.Field, filter=ops.Value)}
        if source == "sessions" and bounded < ALL and read == {"age"}:
            window = Window(frozenset(own), bounded)  # a session's age is its last event's
        else:
            window = Window(frozenset(own | everywhere), max(within) if within else bounded)
        yield feature.name, window if source in _BY_DAYS else Window(window.edges, ALL)


def _bound(where: ops.Node | None) -> int:
    """How old in days the rows are at most that fit a condition."""
    if isinstance(where, ops.And):
        return min(_bound(where.left), _bound(where.right))
    return edge(where) or ALL


def edge(node: ops.Node | None) -> int | None:
    """The days of a condition `age < days`. ValueError where an age is compared with a number in another way."""
    if not isinstance(node, _COMPARING):
        return None
    sides = [side for side in node.__children__ if not isinstance(side, ops.Literal)]
    if len(sides) == len(node.__children__) or not any(map(_ages, sides)):
        return None
    if isinstance(node, ops.Less) and isinstance(node.left, ops.Field) and isinstance(node.right, ops.Literal):
        days, rest = divmod(node.right.value, DAY)
        if not rest:
            return int(days)
    raise ValueError(f"{node}: the edges of windows are found where an age is less than whole days")


def _ages(node: ops.Node) -> bool:
    """Whether a value is another one when time has passed."""
    if isinstance(node, ops.Field):
        return bool(node.name == "age")
    if isinstance(node, _COMPARING):
        return False  # true or false: it has its own edge
    inner = (node.arg,) if isinstance(node, ops.Reduction) and hasattr(node, "arg") else node.__children__
    return any(_ages(child) for child in inner if isinstance(child, ops.Value))
