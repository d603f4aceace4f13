"""Late rows: publishing them touches the parts of their dates in their own load, and no other file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from controltower.data import quarantine
from controltower.data.lake import Lake
from controltower.jobs.quarantine import replay_quarantine
from support.lakes import publish_rows

from data.conftest import EVENTS, Ingest, rows, utc

DAYS = ["2025-06-01", "2025-06-02", "2025-06-03", "2025-06-04", "2025-06-05"]


def event(name: str, happened: str, received: str) -> str:
    return f"{name},{happened}T12:00:00Z,view_item,{received}T23:00:00Z,c,\n"


def files(lake: Lake) -> dict[str, tuple[int, int]]:
    """Every part on disk: which file it is, and when it was last written."""
    return {
        str(f.relative_to(lake.root)): (f.stat().st_ino, f.stat().st_mtime_ns) for f in lake.root.rglob("*.parquet")
    }


def named(lake: Lake, table: str = "events") -> dict[str, str | None]:
    return {part.file: part.date for part in lake.manifest().parts(table)}


@pytest.fixture
def three_days(ingest: Ingest) -> Ingest:
    for n in range(3):
        ingest({"events.csv": EVENTS + event(f"e{n}", DAYS[n], DAYS[n])}, DAYS[n], DAYS[n + 1])
    return ingest


def test_a_late_event_adds_a_part_of_its_date_and_changes_no_other(lake: Lake, three_days: Ingest) -> None:
    disk, before = files(lake), named(lake)
    assert sorted(before.values()) == DAYS[:3]
    three_days({"events.csv": EVENTS + event("late", DAYS[0], DAYS[3]) + event("e3", DAYS[3], DAYS[3])}, *DAYS[3:])
    after = {file: state for file, state in files(lake).items() if file in disk}
    assert after == disk
    assert sorted(named(lake)[file] for file in named(lake).keys() - before) == [DAYS[0], DAYS[3]]
    assert before.items() <= named(lake).items()
    assert len(rows(lake, "events", as_of=f"{DAYS[3]}T00:00")) == 3, "as of then nobody knew of it"


def test_running_a_day_again_replaces_its_own_parts_only(lake: Lake, three_days: Ingest) -> None:
    before, disk = named(lake), files(lake)
    three_days({"events.csv": EVENTS + event("e1", DAYS[1], DAYS[1])}, *DAYS[1:3])
    gone = before.keys() - named(lake).keys()
    assert [before[file] for file in gone] == [DAYS[1]]
    assert {f: s for f, s in files(lake).items() if f in disk and f not in gone and f.startswith("events")} == {
        f: s for f, s in disk.items() if f not in gone and f.startswith("events")
    }


def test_features_made_without_a_row_that_was_known_by_then_are_told(lake: Lake, three_days: Ingest) -> None:
    for day in DAYS[1:]:
        publish_rows(lake, "features", f"{day}T00:00:00Z", pa.table({"customer_id": ["c"], "as_of": [utc(day)]}))
    late = three_days({"events.csv": EVENTS + event("late", DAYS[0], DAYS[4])}, "2025-06-05", "2025-06-06")
    assert late["notes"] == [], "received after all of them"
    again = three_days({"events.csv": EVENTS + event("new", DAYS[1], DAYS[1])}, *DAYS[1:3])
    assert again["notes"] == [
        "features of 3 moments, 2025-06-03T00:00:00Z to 2025-06-05T00:00:00Z, were made without some of these rows:"
        " `controltower features --as-of` makes one anew"
    ]


def test_a_replayed_row_touches_its_date_only_and_tells_of_features(
    lake: Lake, ingest: Ingest, shop: Path, conf: object
) -> None:
    bad = EVENTS + event("e0", DAYS[0], DAYS[0]) + event("e1", DAYS[1], "2099-01-01").replace("c,", "c,1")
    ingest({"events.csv": bad, "source.yaml": "bad_rows_limit: 1"}, *DAYS[:2])
    publish_rows(lake, "features", f"{DAYS[2]}T00:00:00Z", pa.table({"customer_id": ["c"], "as_of": [utc(DAYS[2])]}))
    disk = files(lake)
    mended = shop.parent / "mended.csv"
    (row,) = quarantine.read(lake)["id"].to_pylist()
    mended.write_text(
        f"_quarantine,event_id,occurred_at,event_name,received_at\n{row},e1,{DAYS[1]},view_item,{DAYS[1]}\n"
    )
    report = replay_quarantine("events", mended)
    assert report["loaded"] == 1
    assert "features of 1 moments" in report["notes"][0]
    assert {f: s for f, s in files(lake).items() if f in disk} == disk
    assert sorted(str(date) for date in named(lake).values()) == DAYS[:2]
