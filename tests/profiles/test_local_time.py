"""Offsets from UTC, found as whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime

from controltower.profiles.local_time import epoch, utc_offsets


def test_offsets_change_at_the_very_second() -> None:
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
    rows = utc_offsets({"Europe/London", "Asia/Seoul"}, since, until).to_pylist()
    seoul = [r for r in rows if r["offset_zone"] == "Asia/Seoul"]
    assert [(r["offset_from"], r["offset_until"], r["offset"]) for r in seoul] == [
        (epoch(since), epoch(until) + 1, 9 * 3600)
    ]
    london = [r for r in rows if r["offset_zone"] == "Europe/London"]
    assert [r["offset"] for r in london] == [0, 3600, 0]
    assert london[1]["offset_from"] == epoch(datetime(2026, 3, 29, 1, tzinfo=UTC))
    assert london[2]["offset_from"] == epoch(datetime(2026, 10, 25, 1, tzinfo=UTC))
