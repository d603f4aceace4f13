"""The only place that reads the wall clock.

A home's clock can be set (`controltower clock`): where it stands is kept in `clock.json`, so that every process that
works on the home reads the same time. CONTROLTOWER_NOW and CONTROLTOWER_SPEED do the same for one process, from its
start on. Leases and retry delays don't come from here: they use the database's clock.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from controltower.errors import BadSettings
from controltower.settings import Settings, Shop

_PROCESS_START = time.time()


@dataclass(frozen=True)
class Anchor:
    """The clock showed `now` when the wall clock showed `wall` (epoch seconds); it moves `speed` seconds in one."""

    now: datetime
    wall: float
    speed: float

    def read(self, wall: float) -> datetime:
        return self.now + timedelta(seconds=(wall - self.wall) * self.speed)


def now(settings: Settings) -> datetime:
    """The time in this home, in UTC: the process's own setting, else the home's clock, else the wall clock."""
    wall = time.time()
    if settings.now is not None:
        return Anchor(settings.now.astimezone(UTC), _PROCESS_START, settings.speed).read(wall)
    anchor = _kept(settings)
    return anchor.read(wall) if anchor else datetime.fromtimestamp(wall, UTC)


def today(settings: Settings, shop: Shop) -> date:
    """The calendar day in the shop's zone."""
    return now(settings).astimezone(shop.zone).date()


def start_of(day: date, shop: Shop) -> datetime:
    """Midnight of a day in the shop's zone, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=shop.zone).astimezone(UTC)


def parse(text: str, shop: Shop) -> datetime:
    """A moment as users write it: a bare date is its midnight, and a time without a zone is the shop's."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadSettings(
            f"{text!r} is not a date or time.", "Write 2026-06-15 or 2026-06-15T07:00:00+09:00."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=shop.zone)).astimezone(UTC)


def set_clock(settings: Settings, moment: datetime, speed: float = 1.0) -> None:
    """Let this home's clock show `moment` now and move at `speed` from here on, in every process."""
    path = settings.home / "clock.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".clock-{secrets.token_hex(4)}")
    fresh.write_text(json.dumps({"now": moment.astimezone(UTC).isoformat(), "wall": time.time(), "speed": speed}))
    fresh.replace(path)


def is_set(settings: Settings) -> bool:
    """Whether this home's time is not the wall clock's."""
    return settings.now is not None or _kept(settings) is not None


def _kept(settings: Settings) -> Anchor | None:
    try:
        kept = json.loads((settings.home / "clock.json").read_text())
    except FileNotFoundError:
        return None
    return Anchor(datetime.fromisoformat(kept["now"]), kept["wall"], kept["speed"])
