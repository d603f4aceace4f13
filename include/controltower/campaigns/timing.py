"""When a message may arrive: within the campaign's window, outside the law's night and the shop's quiet hours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from controltower.campaigns.specs import Window
from controltower.shop import QuietHours

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


@dataclass(frozen=True)
class Hours:
    """When a message may arrive at a customer: in the campaign's window, not in the shop's quiet hours, both by the
    customer's clock, nor in the law's night where that counts.
    """

    window: Window
    zone: ZoneInfo
    avoid_night_in_korea: bool = False
    quiet: QuietHours | None = None

    def refusal(self, moment: datetime) -> str | None:
        """Why a message may not arrive at a moment: night_in_korea, quiet_hours or outside_window; None: it may."""
        local = moment.astimezone(self.zone).time()
        if self.avoid_night_in_korea and is_night_in_korea(moment):
            return "night_in_korea"
        if self.quiet and self.quiet.hold(local):
            return "quiet_hours"
        return None if self.window.start <= local < self.window.end else "outside_window"

    def following(self, now: datetime, within: int) -> Iterator[datetime]:
        """The starts of the allowed hours; one that has begun starts now. Absolute time: clock changes need no care."""
        begin = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        slots = (max(begin + n * _HOUR, now) for n in range(within))
        return (slot for slot in slots if self.refusal(slot) is None)

    def next_allowed(self, now: datetime) -> datetime | None:
        """The start of the first allowed hour from `now` on; None where there is none within two days."""
        return next(self.following(now, 48), None)
