"""When a message is due: the customer's best hour within the campaign's window, outside the law's night."""

from __future__ import annotations

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


def night_rule_applies(channel: str, country: str) -> bool:
    """E-mail alone is exempt, and the rule is for customers in Korea."""
    return country == "KR" and channel != "email"


def end_of_night(moment: datetime) -> datetime:
    """The next 08:00 in Korea."""
    local = moment.astimezone(KOREA)
    day = local.date() if local.time() < NIGHT_END else local.date() + timedelta(days=1)
    return datetime.combine(day, NIGHT_END, KOREA).astimezone(UTC)


def due_at(
    now: datetime, *, hour: int, window: Window, zone: ZoneInfo, avoid_night_in_korea: bool
) -> tuple[datetime, list[int]] | None:
    """The start of the allowed hour nearest to the customer's best one, and the hours there were to choose from.

    Hours are looked at in absolute time, from `now` on for the window's length, so that days of 23 or 25 hours need
    no care. A slot that has begun is due at once. None where the window leaves no hour.
    """
    begin = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    allowed: list[datetime] = []
    for n in range(window.hours):
        slot = max(begin + n * _HOUR, now)
        local = slot.astimezone(zone)
        if not window.start <= local.time() < window.end:
            continue
        if avoid_night_in_korea and is_night_in_korea(slot):
            continue
        allowed.append(slot)
    if not allowed:
        return None

    def distance(slot: datetime) -> tuple[int, datetime]:
        away = abs(slot.astimezone(zone).hour - hour)
        return min(away, 24 - away), slot

    return min(allowed, key=distance), sorted({s.astimezone(zone).hour for s in allowed})
