"""The only place that reads the wall clock.

A home's clock can be set (`controltower clock`): where it stands is kept in `clock.json`, so that every process that
works on the home reads the same time. CONTROLTOWER_NOW alone lets each process start at that moment. With
CONTROLTOWER_SPEED, the first process that sees the two settings sets the home's clock by them, and the others follow.
Leases and retry delays don't come from here: they use the database's clock.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from controltower.errors import BadSettings
from controltower.settings import Settings
from controltower.shop import Shop

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
    """The time in this home, in UTC: by the process's own settings, else by the home's clock, else the wall clock."""
    wall = time.time()
    anchor = _anchor(settings, wall)
    return anchor.read(wall) if anchor else datetime.fromtimestamp(wall, UTC)


def wall() -> float:
    """Epoch seconds of the machine's own clock, whatever the home's shows: for the age of signatures and files only."""
    return time.time()


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
    check_year(moment)
    return (moment if moment.tzinfo else moment.replace(tzinfo=shop.zone)).astimezone(UTC)


def show(moment: datetime, zone: ZoneInfo) -> str:
    """A moment as people read it, everywhere: 2026-06-15 09:00 KST (Asia/Seoul)."""
    local = moment.astimezone(zone)
    short = local.tzname()
    return f"{local:%Y-%m-%d %H:%M} {short}" + ("" if short == zone.key else f" ({zone.key})")


def check_year(day: date) -> None:
    """Refuse what can only be a slip of the finger, and would overflow elsewhere."""
    if not 1970 <= day.year <= 2200:
        raise BadSettings(f"The year {day.year} can't be meant.", "Write one from 1970 to 2200.")


def set_clock(settings: Settings, moment: datetime, speed: float = 1.0) -> None:
    """Let this home's clock show `moment` now and move at `speed` from here on, in every process."""
    _write(settings, Anchor(moment.astimezone(UTC), time.time(), speed))


def reset(settings: Settings) -> None:
    """Back to the wall clock."""
    _file(settings).unlink(missing_ok=True)


def is_set(settings: Settings) -> bool:
    """Whether this home's time is not the wall clock's."""
    return _anchor(settings, time.time()) is not None


def _anchor(settings: Settings, wall: float) -> Anchor | None:
    if settings.speed == 1.0:
        if settings.now is not None:
            return Anchor(settings.now.astimezone(UTC), _PROCESS_START, 1.0)
        kept = _read(settings)
        return kept[0] if kept else None
    kept = _read(settings)
    if kept is None or kept[1] != _asked(settings):
        start = settings.now or datetime.fromtimestamp(wall, UTC)
        _write(settings, Anchor(start.astimezone(UTC), wall, settings.speed))
        kept = _read(settings)
    return kept[0] if kept else None


def _asked(settings: Settings) -> str:
    """The settings that the kept clock answers to."""
    return f"{settings.now} {settings.speed}" if settings.speed != 1.0 else ""


def _file(settings: Settings) -> Path:
    return settings.home / "clock.json"


def _read(settings: Settings) -> tuple[Anchor, str] | None:
    path = _file(settings)
    if not os.path.exists(path):  # noqa: PTH110 - quicker: a clock that isn't set is asked at each request
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Anchor(datetime.fromisoformat(kept["now"]), float(kept["wall"]), float(kept["speed"])), kept["asked"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise BadSettings(
            f"{path} is damaged.", "Delete it, or set the clock again with `controltower clock`."
        ) from None


def _write(settings: Settings, anchor: Anchor) -> None:
    path = _file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".clock-{secrets.token_hex(4)}")
    kept = {"now": anchor.now.isoformat(), "wall": anchor.wall, "speed": anchor.speed, "asked": _asked(settings)}
    fresh.write_text(json.dumps(kept), encoding="utf-8")
    fresh.replace(path)
