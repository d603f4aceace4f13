"""When a message is due: the customer's best hour within the campaign's window, outside the law's night."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from controltower.campaigns.specs import Window

KOREA = ZoneInfo("Asia/Seoul")
NIGHT_START, NIGHT_END = time(21), time(8)  # Network Act 50(3): 21:00 inclusive to 08:00 exclusive
_HOUR = timedelta(hours=1)


def is_night_in_korea(moment: datetime) -> bool:
    """Whether the law's night window holds: advertising other than by e-mail then needs a consent of its own."""
    local = moment.astimezone(KOREA).time()
    return local >= NIGHT_START or local < NIGHT_END


def in_korea(country: str, zone: ZoneInfo) -> bool:
    """Whether Korea's law protects a customer. The cautious reading: by country, or by living on Korea's clock."""
    return country == "KR" or zone.key == KOREA.key


def night_rule_applies(channel: str, country: str, zone: ZoneInfo) -> bool:
    """E-mail alone is exempt, and the rule is for customers in Korea."""
    return channel != "email" and in_korea(country, zone)


def is_allowed(moment: datetime, window: Window, zone: ZoneInfo, avoid_night_in_korea: bool) -> bool:
    """Whether a message may arrive at a moment: inside the campaign's window, outside the night where that counts."""
    if not window.start <= moment.astimezone(zone).time() < window.end:
        return False
    return not (avoid_night_in_korea and is_night_in_korea(moment))


def next_allowed(now: datetime, window: Window, zone: ZoneInfo, avoid_night_in_korea: bool) -> datetime | None:
    """The start of the first allowed hour from `now` on; None where there is none within two days."""
    return next(iter(_allowed(now, 48, window, zone, avoid_night_in_korea)), None)


def _allowed(
    now: datetime, hours: int, window: Window, zone: ZoneInfo, avoid_night_in_korea: bool
) -> Iterator[datetime]:
    """The starts of the allowed hours; one that has begun starts now. Absolute time: clock changes need no care."""
    begin = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    for n in range(hours):
        slot = max(begin + n * _HOUR, now)
        if is_allowed(slot, window, zone, avoid_night_in_korea):
            yield slot


def due_at(
    now: datetime, *, hour: int, window: Window, zone: ZoneInfo, avoid_night_in_korea: bool
) -> tuple[datetime, list[int]] | None:
    """The start of the allowed hour nearest to the customer's best one, and the hours there were to choose from.

    A slot that has begun is due at once. None where the window leaves no hour.
    """
    allowed = list(_allowed(now, window.hours, window, zone, avoid_night_in_korea))
    if not allowed:
        return None

    def distance(slot: datetime) -> tuple[int, datetime]:
        away = abs(slot.astimezone(zone).hour - hour)
        return min(away, 24 - away), slot

    return min(allowed, key=distance), sorted({s.astimezone(zone).hour for s in allowed})
