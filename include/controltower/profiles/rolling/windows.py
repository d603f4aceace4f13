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
    everywhere = within | {days for node in rows.find(ops.Comparison) if (days := edge(node))}
    for feature in SOURCES[source]:
        found = metrics[feature.name]
        own = {days for node in found.find(ops.Comparison, filter=ops.Value) if (days := edge(node))}
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
    """The days of a condition `age < days`. ValueError where an age is compared in another way."""
    if not isinstance(node, ops.Comparison):
        return None
    sides = [s for s in (node.left, node.right) if isinstance(s, ops.Field) and s.name == "age"]
    if not sides or not isinstance(node.right, ops.Literal):
        return None
    days, rest = divmod(node.right.value, DAY)
    if not isinstance(node, ops.Less) or rest:
        raise ValueError(f"{node}: the edges of windows are found where an age is less than whole days")
    return int(days)
