"""What of the lake is older than it is to be kept: whole parts of past dates, old derived tables, old bad rows.

Nothing is rewritten: the lake parts events and messages by the date on which they happened. Days are counted back from
a table's newest date (now, if that is earlier), so that a recording of past years stays whole. Tables by version
(customers, orders, ...) aren't here: their rows are read for as long as the customer is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from controltower.data import manifest as manifests
from controltower.data import quarantine
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake, interval_key
from controltower.data.manifest import Load, Part

Outdated = Mapping[str, Mapping[str, tuple[Part, ...]]]  # by table and interval


def outdated(lake: Lake, days: Mapping[str, int | None], now: datetime) -> Outdated:
    """The parts of each table named in `days` (None: for good) that are older."""
    manifest = manifests.read(lake.root)
    found: dict[str, dict[str, tuple[Part, ...]]] = {}
    for table, most in days.items():
        loads, kept = manifest.loads(table), timedelta(days=most or 0)
        if most is None:
            found[table] = {}
        elif table == quarantine.TABLE:
            found[table] = _bad_rows(lake, loads, now - kept)
        elif table in CONTRACT:
            found[table] = _of_past_dates(loads, now, kept)
        else:
            found[table] = _derived(loads, now, kept)
    return found


def drop(lake: Lake, gone: Outdated) -> None:
    """Publish the lake without these parts; their files go once no reader can have them any more."""
    gone = {table: loads for table, loads in gone.items() if loads}
    if gone:
        manifests.drop(lake.root, gone, lake.grace)


def _of_past_dates(loads: Mapping[str, Load], now: datetime, kept: timedelta) -> dict[str, tuple[Part, ...]]:
    dates = [part.date for load in loads.values() for part in load.parts if part.date]
    if not dates:
        return {}
    newest = min(datetime.fromisoformat(max(dates)).date(), now.date())
    before = (newest - kept).isoformat()
    old = {i: tuple(p for p in load.parts if p.date and p.date < before) for i, load in loads.items()}
    return {interval: parts for interval, parts in old.items() if parts}


def _derived(loads: Mapping[str, Load], now: datetime, kept: timedelta) -> dict[str, tuple[Part, ...]]:
    made = [interval for interval, load in loads.items() if load.parts]
    if not made:
        return {}
    newest = min(datetime.fromisoformat(max(made)), now)
    before = interval_key(newest - kept)
    return {interval: loads[interval].parts for interval in made if interval < before}


def _bad_rows(lake: Lake, loads: Mapping[str, Load], before: datetime) -> dict[str, tuple[Part, ...]]:
    old = {interval: load.parts for interval, load in loads.items() if load.parts}
    return {
        interval: parts
        for interval, parts in old.items()
        if (at := quarantine.loaded_at(lake, loads[interval])) is not None and at < before
    }
