"""Allowed hours: inside the window, never in Korea's night, over clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from controltower.campaigns.specs import Window
from controltower.campaigns.timing import Hours, is_night_in_korea, night_rule_applies
from controltower.shop import QuietHours
from hypothesis import given
from hypothesis import strategies as st

SEOUL, LONDON, NEW_YORK = ZoneInfo("Asia/Seoul"), ZoneInfo("Europe/London"), ZoneInfo("America/New_York")
MOMENTS = st.datetimes(min_value=datetime(2026, 1, 1), max_value=datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
ZONES = st.sampled_from([SEOUL, LONDON, NEW_YORK, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kolkata"), UTC])
HOURS = st.integers(0, 23)
TIMES = st.builds(time, HOURS, st.sampled_from([0, 30]))
QUIET = st.none() | st.tuples(TIMES, TIMES).filter(lambda two: two[0] != two[1]).map(
    lambda two: QuietHours(start=two[0], end=two[1])
)


@given(MOMENTS, ZONES, st.booleans(), st.integers(1, 72), QUIET)
def test_every_allowed_hour_is_in_the_window_and_out_of_the_night_and_the_quiet_hours(
    now: datetime, zone: ZoneInfo, korean_night: bool, hours: int, quiet: QuietHours | None
) -> None:
    window = Window(start=time(8), end=time(21), hours=hours)
    slots = list(Hours(window, zone, korean_night, quiet).following(now, hours))
    assert slots == sorted(set(slots))
    for slot in slots:
        local = slot.astimezone(zone)
        assert now <= slot < now + timedelta(hours=hours)
        assert window.start <= local.time() < window.end
        assert not (korean_night and is_night_in_korea(slot))
        if quiet and quiet.start < quiet.end:
            assert not quiet.start <= local.time() < quiet.end
        elif quiet:
            assert quiet.end <= local.time() < quiet.start


def test_quiet_hours_and_a_window_follow_the_clock_of_the_day_on_which_it_changes() -> None:
    """08:00 in London is an hour earlier on the day after the change, in absolute time."""
    hours = Hours(Window(start=time(0), end=time(23)), LONDON, quiet=QuietHours(start=time(20), end=time(8)))
    for night, morning in (
        ("2026-03-28T23:00+00:00", "2026-03-29T08:00+01:00"),
        ("2026-10-24T23:00+01:00", "2026-10-25T08:00+00:00"),
    ):
        assert hours.refusal(datetime.fromisoformat(night)) == "quiet_hours"
        assert hours.next_allowed(datetime.fromisoformat(night)) == datetime.fromisoformat(morning)


@pytest.mark.parametrize("hours", [1, 24, 72])
def test_the_horizon_is_counted_in_hours_also_over_a_clock_change(hours: int) -> None:
    now = datetime.fromisoformat("2026-03-28T12:00+00:00")
    slots = list(Hours(Window(start=time(0), end=time(23, 59), hours=hours), LONDON).following(now, hours))
    assert (slots[0], slots[-1], len(slots)) == (now, now + timedelta(hours=hours - 1), hours)


def test_no_window_reaches_further_than_72_hours() -> None:
    with pytest.raises(ValueError, match="72"):
        Window(hours=73)


@pytest.mark.parametrize(
    ("moment", "night"),
    [("20:59:59", False), ("21:00:00", True), ("00:00:00", True), ("07:59:59", True), ("08:00:00", False)],
)
def test_the_night_begins_inclusive_and_ends_exclusive(moment: str, night: bool) -> None:
    assert is_night_in_korea(datetime.fromisoformat(f"2026-06-15T{moment}+09:00")) is night


@given(MOMENTS, ZONES, st.booleans(), QUIET)
def test_the_next_allowed_moment_is_allowed_and_now_where_now_is(
    now: datetime, zone: ZoneInfo, night: bool, quiet: QuietHours | None
) -> None:
    hours = Hours(Window(), zone, night, quiet)
    found = hours.next_allowed(now)
    assert found is not None or quiet
    if found:
        assert hours.refusal(found) is None
        assert found == now if hours.refusal(now) is None else found > now


def test_the_night_rule_is_for_push_to_customers_in_korea() -> None:
    assert night_rule_applies("push", "KR", LONDON)
    assert night_rule_applies("push", "US", SEOUL)  # the cautious reading: lives on Korea's clock
    assert not night_rule_applies("email", "KR", SEOUL)
    assert not night_rule_applies("push", "US", NEW_YORK)
