"""The last check: each reason in its turn, and the law's night defers a push."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from controltower.campaigns.specs import Window
from controltower.delivery.policy import Check, Facts, Refusal, without_suppressed_devices
from controltower.profiles.contacts import Contact, Device
from controltower.shop import QuietHours

NOON = datetime.fromisoformat("2026-06-15T12:00+09:00")
EVENING = datetime.fromisoformat("2026-06-15T21:00+09:00")
MORNING = datetime.fromisoformat("2026-06-16T08:00+09:00")
DAY = timedelta(hours=24)
CONTACT = Contact("c", "c@shop.example", "ko-KR", "KR", ZoneInfo("Asia/Seoul"), {}, (Device("d", "token", "ios"),))
NONE: frozenset[str] = frozenset()
ALL_DAY = Window(start=time(0), end=time(23, 59))
FACTS = Facts(frozenset("c"), NONE, NONE, NONE, NONE)


def judge(
    contact: Contact | None = CONTACT,
    channel: str = "email",
    now: datetime = NOON,
    expires_at: datetime = NOON + DAY,
    window: Window = ALL_DAY,
    quiet: QuietHours | None = None,
    **facts: frozenset[str],
) -> Refusal | None:
    return Check(channel, replace(FACTS, **facts), now, expires_at, window, quiet).refusal(contact)


def test_who_may_be_written_to_is() -> None:
    assert judge() is None
    assert judge(channel="push") is None


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"now": NOON + DAY + timedelta(seconds=1)}, "expired"),
        ({"contact": None}, "customer_gone"),
        ({"granted": NONE}, "no_consent"),
        ({"suppressed": frozenset("c")}, "suppressed"),
        ({"contact": replace(CONTACT, email=None)}, "no_address"),
        ({"contact": replace(CONTACT, devices=()), "channel": "push"}, "no_device"),
        ({"capped": frozenset("c")}, "frequency_cap"),
    ],
)
def test_each_refusal_drops_with_its_reason(keys: dict[str, object], reason: str) -> None:
    assert judge(**keys) == Refusal(reason)  # type: ignore[arg-type]


def test_a_push_in_koreas_night_waits_for_the_morning_unless_there_is_consent_for_it() -> None:
    assert judge(channel="push", now=EVENING) == Refusal("night_in_korea", until=MORNING)
    assert judge(channel="push", now=EVENING, night=frozenset("c")) is None
    assert judge(channel="email", now=EVENING) is None
    assert judge(replace(CONTACT, country="US", zone=ZoneInfo("Europe/Paris")), "push", now=EVENING) is None
    assert judge(channel="push", now=EVENING, expires_at=MORNING - timedelta(hours=1)) == Refusal("expired")


def test_outside_the_campaigns_window_a_mail_waits_for_it_in_the_customers_zone() -> None:
    window = Window(start=time(8), end=time(21))
    assert judge(now=EVENING, window=window) == Refusal("outside_window", until=MORNING)
    in_paris = replace(CONTACT, zone=ZoneInfo("Europe/Paris"), country="FR")  # it is 14:00 there
    assert judge(in_paris, now=EVENING, window=window) is None


@pytest.mark.parametrize("channel", ["email", "push"])
def test_in_the_shops_quiet_hours_every_channel_waits_by_the_customers_clock(channel: str) -> None:
    """Beside the law's night: from 20:00 to 10:00 in Seoul and in Paris, over midnight."""
    quiet = QuietHours(start=time(20), end=time(10))
    ten = MORNING + timedelta(hours=2)
    assert judge(channel=channel, now=EVENING - timedelta(minutes=30), quiet=quiet) == Refusal("quiet_hours", until=ten)
    assert judge(channel=channel, now=ten - timedelta(seconds=1), quiet=quiet, expires_at=ten) == (
        Refusal("quiet_hours", until=ten)
    )
    assert judge(channel=channel, now=ten, quiet=quiet, expires_at=ten) is None
    in_paris = replace(CONTACT, zone=ZoneInfo("Europe/Paris"), country="FR")
    assert judge(in_paris, channel, now=EVENING, quiet=quiet) is None  # 14:00 there
    assert judge(in_paris, channel, now=MORNING, quiet=quiet, expires_at=MORNING + DAY) == (  # 01:00 there
        Refusal("quiet_hours", until=datetime.fromisoformat("2026-06-16T10:00+02:00"))
    )


def test_quiet_hours_that_leave_no_hour_before_the_expiry_end_a_message() -> None:
    quiet = QuietHours(start=time(20), end=time(10))
    assert judge(now=EVENING, quiet=quiet, expires_at=MORNING) == Refusal("expired")
    assert judge(now=NOON, quiet=QuietHours(start=time(0), end=time(23, 59)), expires_at=NOON + 9 * DAY) == (
        Refusal("expired")  # the only minute left is at no full hour
    )


def test_quiet_hours_within_a_day_are_no_night() -> None:
    siesta = QuietHours(start=time(11), end=time(13))
    assert judge(quiet=siesta) == Refusal("quiet_hours", until=NOON + timedelta(hours=1))
    assert judge(quiet=siesta, now=NOON + timedelta(hours=1)) is None
    assert judge(quiet=siesta, now=NOON - timedelta(hours=1, seconds=1)) is None
    with pytest.raises(ValueError, match="another time"):
        QuietHours(start=time(9), end=time(9))


def test_a_suppressed_device_is_left_out() -> None:
    facts = replace(FACTS, suppressed_devices=frozenset("d"))
    assert without_suppressed_devices(CONTACT, facts).devices == ()
    assert "token" not in repr(CONTACT)
    assert "shop.example" not in repr(CONTACT)
