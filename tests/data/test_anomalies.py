"""What is odd about a load, and that a load keeps what it brought."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from controltower.data import weekdays
from controltower.data.anomalies import Load, Odd, anomalies
from controltower.data.lake import Lake
from controltower.errors import BadSettings
from controltower.jobs.anomalies import accept_data, list_anomalies
from controltower.jobs.lake import list_versions, restore_interval
from controltower.settings import Settings

from data.conftest import EVENTS, PRODUCTS, Ingest, utc

SEOUL = "timezone: Asia/Seoul\n"
END = utc("2026-01-10")
DAY = timedelta(days=1)


def day(n: int, rows: int, **more: object) -> Load:
    """The load of a day, n days before the last."""
    return replace(Load(END - (n + 1) * DAY, END - n * DAY, rows), **more)  # type: ignore[arg-type]


def days(*rows: int, **more: object) -> list[Load]:
    return [day(n, count, **more) for n, count in enumerate(rows, start=1)]


def codes(found: list[Odd]) -> list[str]:
    return [odd["code"] for odd in found]


@pytest.mark.parametrize(
    ("rows", "earlier", "says"),
    [
        (0, [1000, 900], ["zero_rows"]),
        (94, [1000, 900], ["few_rows"]),
        (95, [1000, 900], []),
        (9501, [1000, 900], ["many_rows"]),
        (9500, [1000, 900], []),
        (0, [1000], []),  # one load is not a habit
        (0, [9, 8, 9], []),  # of so few nothing is concluded
        (100, [3, 0, 2], []),
        (101, [3, 0, 2], ["many_rows"]),
        (500, [1000] * 7 + [10] * 7, []),  # of the last seven only
    ],
)
def test_how_many_rows_a_load_brought(rows: int, earlier: list[int], says: list[str]) -> None:
    assert codes(anomalies(day(0, rows), days(*earlier))) == says


def test_only_like_loads_are_compared() -> None:
    history = Load(None, END - DAY, 90_000)
    assert anomalies(day(0, 1000), [history, history]) == []
    week = Load(END - 8 * DAY, END - DAY, 7000)
    assert anomalies(day(0, 100), [week, week]) == []
    short = Load(END - DAY - timedelta(hours=23), END - DAY, 1000)  # the day on which clocks go forward
    assert codes(anomalies(day(0, 0), [short, short])) == ["zero_rows"]
    assert codes(anomalies(Load(None, END, 900), [history, history])) == ["few_rows"]


def test_an_odd_load_isnt_usual_unless_it_was_accepted() -> None:
    odd: list[Odd] = [{"code": "zero_rows"}]
    assert codes(anomalies(day(0, 0), [day(1, 0, odd=odd), *days(1000, 1000)])) == ["zero_rows"]
    closed = day(1, 0, odd=odd, accepted=True)  # as on each Sunday
    assert anomalies(day(0, 0), [closed, *days(1000, 1000)]) == []
    assert codes(anomalies(day(0, 20_000), [closed, *days(1000, 1000)])) == ["many_rows"]


def test_a_dump_that_shrank_by_half() -> None:
    full = days(1000, 1000, keys=1000)
    assert codes(anomalies(day(0, 500, keys=500), full)) == ["shrunk"]
    assert codes(anomalies(day(0, 0, keys=0), full)) == ["shrunk"]
    assert anomalies(day(0, 501, keys=501), full) == []
    assert codes(anomalies(day(0, 0), full, lambda: 3.0)) == ["zero_rows"], "it is due on every day"
    changes = [day(1, 400, keys=400), day(2, 900, keys=900), day(3, 20, keys=20)]
    assert anomalies(day(0, 90, keys=90), changes) == [], "a source may give what changed only"


def test_a_column_that_is_empty_of_a_sudden() -> None:
    before = [day(1, 1000, filled={"email": 900, "gender": 10})]
    (found,) = anomalies(day(0, 1000, filled={"points": 3}), before)
    assert found == {"code": "empty_column", "column": "email", "usual": 90}
    assert anomalies(day(0, 20, filled={}), before) == [], "chance may do that"
    assert anomalies(day(0, 1000, filled={"email": 1}), before) == []


def events(day: int, count: int) -> str:
    when = f"2025-06-{day:02d}T12:00:00Z"
    return EVENTS + "".join(f"e{day}-{i},{when},view_item,{when},c,\n" for i in range(count))


def load_days(ingest: Ingest, *counts: int) -> list[list[str]]:
    """Ingest June's first days, so many events each. Returns what was odd about each."""
    return [
        ingest({"events.csv": events(d, n)}, f"2025-06-{d:02d}", f"2025-06-{d + 1:02d}")["anomalies"]
        for d, n in enumerate(counts, start=1)
    ]


def test_a_day_without_events_stands_until_it_is_loaded_or_accepted(
    conf: Settings, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLTOWER_NOW", "2025-06-06T00:00:00+00:00")
    found = load_days(ingest, 40, 40, 0, 40)
    assert [len(odd) for odd in found] == [0, 0, 1, 0]
    assert found[2] == ["no events in the load up to 2025-06-04 00:00 UTC; usually 40 (median of 2 loads)"]
    (standing,) = list_anomalies()["anomalies"]
    assert (standing["table"], standing["interval"]) == ("events", "2025-06-03T00:00:00Z/2025-06-04T00:00:00Z")
    with pytest.raises(BadSettings, match="Nothing odd about orders"):
        accept_data("orders", "closed")
    with pytest.raises(BadSettings, match="Nothing odd about events"):
        accept_data("events", "closed", interval="2025-06-01T00:00:00Z/2025-06-02T00:00:00Z")
    assert len(accept_data("events", "the shop was closed", by="ann")["accepted"]) == 1
    assert list_anomalies()["anomalies"] == []
    assert len(ingest({"events.csv": events(5, 401)}, "2025-06-05", "2025-06-06")["anomalies"]) == 1
    assert len(list_anomalies()["anomalies"]) == 1
    ingest({"events.csv": events(5, 39)}, "2025-06-05", "2025-06-06")  # the source was mended
    assert list_anomalies()["anomalies"] == []
    good = list_versions("events")["versions"][0]
    monkeypatch.setenv("CONTROLTOWER_NOW", "2025-06-07T00:00:00+00:00")
    assert len(ingest({"events.csv": events(5, 401)}, "2025-06-05", "2025-06-06")["anomalies"]) == 1
    ingest({"events.csv": events(6, 40)}, "2025-06-06", "2025-06-07")
    assert len(list_anomalies()["anomalies"]) == 1
    restored = restore_interval(good["version"], good["interval"])
    assert list_anomalies()["anomalies"] == [], "what stood is no more"
    assert restored["load_again"] == ["2025-06-06T00:00:00Z/2025-06-07T00:00:00Z"]


def test_a_weekday_without_trade_is_usual_and_an_empty_one_is_not(
    conf: Settings, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of Seoul, where its Saturdays lie on two dates of UTC."""
    monkeypatch.setenv("CONTROLTOWER_NOW", "2025-06-10T00:00:00+00:00")

    def load(first: date, last: date, start: str | None, end: str) -> list[str]:
        days = [first + n * DAY for n in range((last - first).days + 1)]
        times = [f"{d}T{at}:00+09:00" for d in days if d.weekday() != 5 for at in ("00:30", "23:30")]
        rows = "".join(f"{t}-{n},{t},view_item,{t},c,\n" for t in times for n in range(6))
        found: list[str] = ingest({"events.csv": EVENTS + rows, "source.yaml": SEOUL}, start, end)["anomalies"]
        return found

    load(date(2025, 5, 1), date(2025, 6, 4), None, "2025-06-04T15:00")
    odd = [load(date(2025, 6, d), date(2025, 6, last), f"2025-06-{d - 1:02d}T15:00", f"2025-06-{d:02d}T15:00")
           for d, last in ((5, 5), (6, 6), (7, 7), (8, 7))]  # fmt: skip
    assert [len(found) for found in odd] == [0, 0, 0, 1]  # a Saturday, and a Sunday without rows
    usual = [
        weekdays.usual(Lake(conf), "events", utc(f"{day}T15:00"), utc(f"{day}T15:00") + DAY, "Asia/Seoul")
        for day in ("2025-06-06", "2025-06-07", "2025-05-24")
    ]
    assert usual == [0, 12, None]  # before the last one there are less than four weeks


def test_a_table_that_isnt_handed_over_brought_nothing(
    conf: Settings, ingest: Ingest, shop: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLTOWER_NOW", "2025-06-04T00:00:00+00:00")
    load_days(ingest, 40, 40)
    (shop / "events.csv").unlink()  # type: ignore[operator]
    odd = ingest({"products.csv": PRODUCTS + "p,Lamp,1,GBP\n"}, "2025-06-03", "2025-06-04")["anomalies"]
    assert [what[:9] for what in odd] == ["no events"]


def test_a_half_dump_is_made_good_by_the_next_whole_one(
    conf: Settings, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dump(day: int, count: int) -> int:
        monkeypatch.setenv("CONTROLTOWER_NOW", f"2025-06-{day:02d}T00:00:00+00:00")
        text = PRODUCTS + "".join(f"p{i},Lamp,{day},GBP\n" for i in range(count))
        ingest({"products.csv": text})
        return len(list_anomalies()["anomalies"])

    assert [dump(1, 40), dump(2, 41), dump(3, 20), dump(4, 41)] == [0, 0, 1, 0]


def test_old_facts_are_stale(conf: Settings, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_NOW", "2025-06-03T12:00:00+00:00")
    load_days(ingest, 1)
    assert list_anomalies()["anomalies"] == []
    monkeypatch.setenv("CONTROLTOWER_NOW", "2025-06-03T12:00:01+00:00")
    (found,) = list_anomalies()["anomalies"]
    assert found["what"].startswith("the events are 49 hours old, of 2025-06-01 12:00 UTC, and may be 48 at most")
    file = conf.home / "shop.yaml"
    file.write_text(file.read_text() + "data_stale_hours: {events: 50}\n")
    assert list_anomalies()["anomalies"] == []
