"""Due times: inside the window, near the best hour, never in Korea's night, over clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from controltower.campaigns.specs import Window
from controltower.campaigns.timing import due_at, is_allowed, is_night_in_korea, next_allowed, night_rule_applies
from hypothesis import given
from hypothesis import strategies as st

SEOUL, LONDON, NEW_YORK = ZoneInfo("Asia/Seoul"), ZoneInfo("Europe/London"), ZoneInfo("America/New_York")
MOMENTS = st.datetimes(min_value=datetime(2026, 1, 1), max_value=datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
ZONES = st.sampled_from([SEOUL, LONDON, NEW_YORK, ZoneInfo("Australia/Lord_Howe"), UTC])
HOURS = st.integers(0, 23)


@given(MOMENTS, ZONES, HOURS, st.booleans(), st.integers(1, 72))
def test_every_due_time_is_in_the_window_and_out_of_the_night(
    now: datetime, zone: ZoneInfo, hour: int, korean_night: bool, hours: int
) -> None:
    window = Window(start=time(8), end=time(21), hours=hours)
    found = due_at(now, hour=hour, window=window, zone=zone, avoid_night_in_korea=korean_night)
    if found is None:
        return
    due, allowed = found
    local = due.astimezone(zone)
    assert now <= due < now + timedelta(hours=hours)
    assert window.start <= local.time() < window.end
    assert local.hour in allowed
    assert not (korean_night and is_night_in_korea(due))


@pytest.mark.parametrize(
    ("now", "zone", "hour", "due"),
    [
        ("2026-06-15T06:30+09:00", SEOUL, 14, "2026-06-15T14:00+09:00"),
        ("2026-06-15T14:20+09:00", SEOUL, 14, "2026-06-15T14:20+09:00"),  # the best hour has begun: at once
        ("2026-06-15T15:10+09:00", SEOUL, 14, "2026-06-16T14:00+09:00"),
        ("2026-06-15T06:30+09:00", SEOUL, 23, "2026-06-15T20:00+09:00"),  # outside the window: the nearest inside
        ("2026-03-28T20:30+00:00", LONDON, 10, "2026-03-29T10:00+01:00"),  # the clock moves forward in between
        ("2026-10-24T20:30+01:00", LONDON, 10, "2026-10-25T10:00+00:00"),  # and back
    ],
)
def test_the_best_hour_is_met_in_the_customers_zone(now: str, zone: ZoneInfo, hour: int, due: str) -> None:
    found = due_at(datetime.fromisoformat(now), hour=hour, window=Window(), zone=zone, avoid_night_in_korea=False)
    assert found is not None
    assert found[0] == datetime.fromisoformat(due)


def test_a_window_without_an_allowed_hour_gives_none() -> None:
    night = datetime.fromisoformat("2026-06-15T22:00+09:00")
    assert due_at(night, hour=9, window=Window(hours=3), zone=SEOUL, avoid_night_in_korea=False) is None


@pytest.mark.parametrize(
    ("moment", "night"),
    [("20:59:59", False), ("21:00:00", True), ("00:00:00", True), ("07:59:59", True), ("08:00:00", False)],
)
def test_the_night_begins_inclusive_and_ends_exclusive(moment: str, night: bool) -> None:
    assert is_night_in_korea(datetime.fromisoformat(f"2026-06-15T{moment}+09:00")) is night


@given(MOMENTS, ZONES, st.booleans())
def test_the_next_allowed_moment_is_allowed_and_now_where_now_is(now: datetime, zone: ZoneInfo, night: bool) -> None:
    window = Window()
    found = next_allowed(now, window, zone, night)
    assert found is not None
    assert is_allowed(found, window, zone, night)
    assert found == now if is_allowed(now, window, zone, night) else found > now


def test_the_night_rule_is_for_push_to_customers_in_korea() -> None:
    assert night_rule_applies("push", "KR", LONDON)
    assert night_rule_applies("push", "US", SEOUL)  # the cautious reading: lives on Korea's clock
    assert not night_rule_applies("email", "KR", SEOUL)
    assert not night_rule_applies("push", "US", NEW_YORK)
