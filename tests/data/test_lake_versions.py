"""Versions of the lake: read again, restored, kept for a while, and never with somebody who was erased."""

from __future__ import annotations

import errno
import json
import os
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from controltower.data import manifest as manifests
from controltower.data.gate import Checked, Gate
from controltower.data.lake import GRACE, Lake
from controltower.data.persons import Persons
from controltower.errors import BadSettings, BadSource
from controltower.settings import Settings
from support.lakes import publish_rows
from support.shop_tables import table

from data.conftest import EVENTS, Ingest
from data.test_lake import DAY, customers, names

DAYS = 86_400.0


def then(lake: Lake, version: int | datetime) -> dict[str, str]:
    with lake.read(version=version) as reading:
        found = reading.arrow(reading.table("customers")).to_pylist()
    return {row["customer_id"]: row["first_name"] for row in found}


def wait(lake: Lake, seconds: float) -> None:
    """As if so much time had passed: everything is older."""
    manifest = json.loads((lake.root / manifests.NAME).read_text())
    for replaced in manifest["replaced"]:
        replaced[1] -= seconds
    (lake.root / manifests.NAME).write_text(json.dumps(manifest))
    for file in lake.root.glob("*/*"):
        at = file.stat().st_mtime - seconds
        os.utime(file, (at, at))


def files(lake: Lake, table: str = "customers") -> set[str]:
    return {f"{table}/{file.name}" for file in (lake.root / table).iterdir()}


def test_each_publication_is_a_version_that_can_be_read(conf: Settings) -> None:
    for day in (1, 2, 3):
        lake = Lake(conf.model_copy(update={"now": DAY + timedelta(days=day)}))
        publish_rows(lake, "customers", "a", customers(("1", DAY, f"of day {day}")))
    publish_rows(lake, "customers", "b", customers(("2", DAY, "another")))
    told = [(v.number, v.published, v.interval, sorted(v.now)) for v, _ in lake.versions()]
    assert told == [
        (n, DAY + timedelta(days=min(n, 3)), "b" if n == 4 else "a", ["customers"]) for n in (4, 3, 2, 1)
    ]  # fmt: skip
    assert [then(lake, n) for n in (1, 3, 4)] == [
        {"1": "of day 1"}, {"1": "of day 3"}, {"1": "of day 3", "2": "another"},
    ]  # fmt: skip
    assert then(lake, DAY + timedelta(days=2, hours=1)) == {"1": "of day 2"}
    for missing in (5, 0, DAY):
        with pytest.raises(BadSettings, match=r"no version .* The earliest that is kept is 1\..*lake versions"):
            then(lake, missing)


def test_earlier_versions_go_after_their_days_and_files_a_grace_later(conf: Settings) -> None:
    lake = Lake(conf)
    for name in ("one", "two"):
        publish_rows(lake, "customers", "a", customers(("1", DAY, name)))
    wait(lake, 3 * DAYS + 60)
    publish_rows(lake, "customers", "a", customers(("1", DAY, "three")))
    assert len(files(lake)) == 3  # a reader of version 1 may have begun a minute ago
    assert [v.number for v, _ in lake.versions()] == [3, 2]
    assert then(lake, 2) == {"1": "two"}  # it was the newest until now
    with pytest.raises(BadSettings, match="no version 1"):
        then(lake, 1)
    wait(lake, GRACE)
    publish_rows(lake, "x", "b", pa.table({"a": [1]}))
    assert len(files(lake)) == 2 and names(lake) == {"1": "three"}
    assert then(lake, 2) == {"1": "two"}
    wait(lake, 7 * DAYS)
    publish_rows(lake, "x", "b", pa.table({"a": [1]}))
    assert len(files(lake)) == 1 and len(files(lake, manifests.LOG)) == 1
    assert then(lake, 5) == {"1": "three"}


def test_without_days_only_the_grace_holds(conf: Settings) -> None:
    lake = Lake(conf.model_copy(update={"lake_days": 0}))
    for name in ("one", "two"):
        publish_rows(lake, "customers", "a", customers(("1", DAY, name)))
    wait(lake, GRACE + 1)
    publish_rows(lake, "x", "b", pa.table({"a": [1]}))
    assert files(lake) == lake.manifest().files() - files(lake, "x")
    assert [v.number for v, _ in lake.versions()] == [3, 2]
    with pytest.raises(BadSettings, match="no version 1"):
        then(lake, 1)


def test_an_erased_person_is_in_no_version_and_their_files_go_after_the_grace(conf: Settings) -> None:
    lake = Lake(conf)
    publish_rows(lake, "customers", "a", customers(("1", DAY, "gone"), ("2", DAY, "old")))
    publish_rows(lake, "customers", "a", customers(("1", DAY, "gone"), ("2", DAY, "new")))
    publish_rows(lake, "customers", "b", customers(("1", DAY + timedelta(1), "gone, too")))
    before = files(lake)
    persons = Persons(lake)
    traces = persons.find(["1"])
    assert persons.erase(traces) == {"customers": 2}  # of the newest version, which is what there is of them
    assert [then(lake, n) for n in (1, 2, 3, 4)] == [{"2": "old"}, {"2": "new"}, {"2": "new"}, {"2": "new"}]
    assert persons.left_over(traces, delete=False) == 3
    wait(lake, GRACE + 1)
    publish_rows(lake, "x", "b", pa.table({"customer_id": ["9"]}))
    assert not files(lake) & before and persons.left_over(traces, delete=False) == 0
    assert [then(lake, n) for n in (1, 2, 3, 4)] == [{"2": "old"}, {"2": "new"}, {"2": "new"}, {"2": "new"}]
    lake.restore("a", 1)
    assert names(lake) == {"2": "old"}
    assert persons.find(["1"]).emails == frozenset() and persons.erase(traces) == {}


def test_rows_that_only_earlier_versions_have_are_erased_as_well(lake: Lake) -> None:
    publish_rows(lake, "customers", "a", customers(("1", DAY, "gone"), ("2", DAY, "old")))
    publish_rows(lake, "customers", "a", customers(("2", DAY, "new")))
    persons = Persons(lake)
    traces = persons.find(["1"])
    assert [row["first_name"] for _, some in persons.rows(traces) for row in some] == ["gone"]  # so it is held
    assert persons.erase(traces) == {} and not list(persons.rows(traces))
    assert [then(lake, n) for n in (1, 2, 3)] == [{"2": "old"}, {"2": "new"}, {"2": "new"}]


def test_two_erasures_of_one_file_reach_every_version(lake: Lake) -> None:
    publish_rows(lake, "customers", "a", customers(*((n, DAY, "x") for n in "123")))
    for who in "12":
        Persons(lake).erase(Persons(lake).find([who]))
    publish_rows(lake, "customers", "a", customers(("4", DAY, "x")))
    assert [set(then(lake, n)) for n in (1, 2, 3, 4)] == [{"3"}, {"3"}, {"3"}, {"4"}]


def test_a_load_is_restored_and_the_others_stay(lake: Lake) -> None:
    publish_rows(lake, "customers", "a", customers(("1", DAY, "good"), ("2", DAY, "good")))
    publish_rows(lake, "customers", "a", customers(("1", DAY, "bad")))
    publish_rows(lake, "customers", "b", customers(("3", DAY, "later")))
    assert lake.restore("a", 1) == {"customers": (1, 2)}
    assert names(lake) == {"1": "good", "2": "good", "3": "later"}
    assert lake.restore("a", 1) == {} and len(lake.versions()) == 4
    assert lake.restore("a", 3) == {"customers": (2, 1)}  # and what was restored can be undone
    assert names(lake) == {"1": "bad", "3": "later"}
    publish_rows(lake, "x", "a", pa.table({"a": [1]}))
    assert lake.restore("a", 1) == {"customers": (1, 2), "x": (1, 0)}
    assert lake.intervals("x") == []


def test_an_event_that_another_load_brought_meanwhile_is_restored_once(lake: Lake) -> None:
    def seen(*events: tuple[str, int]) -> pa.Table:
        rows = [{"event_id": e, "event_name": "view_item", "occurred_at": DAY + timedelta(d)} for e, d in events]
        return table("events", rows)

    publish_rows(lake, "events", "a", seen(("1", 0), ("2", 1), ("long ago", -9)))
    publish_rows(lake, "events", "a", seen(("bad", 0)))
    publish_rows(lake, "events", "b", seen(("2", 1), ("3", 2)))
    publish_rows(lake, "events", "c", seen(("long ago", 9)))
    assert lake.restore("a", 1) == {"events": (1, 2)}
    with lake.read() as reading:
        assert sorted(reading.arrow(reading.table("events"))["event_id"].to_pylist()) == [
            "1",
            "2",
            "3",
            *["long ago"] * 2,
        ]
    assert [(p.date, p.rows) for p in lake.manifest().loads("events")["a"].parts] == [
        ("2025-05-23", 1), ("2025-06-01", 1)
    ]  # fmt: skip


def test_what_two_load_at_once_is_loaded_by_one(lake: Lake, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines with a lake in common don't see each other's lock: both would have the same event."""
    checked = Gate.check

    def meanwhile(self: Gate, *given: Any) -> Checked:
        publish_rows(
            lake, "events", "another's", table("events", [{"event_id": "e", "event_name": "x", "occurred_at": DAY}])
        )
        return checked(self, *given)

    posted = {"events.csv": EVENTS + "e,2025-06-01,view_item,,,\n"}
    with monkeypatch.context() as patch, pytest.raises(BadSource, match="Another process loaded events meanwhile"):
        patch.setattr(Gate, "check", meanwhile)
        ingest(posted)
    assert lake.intervals("events") == ["another's"]
    assert ingest(posted)["tables"]["events"]["duplicates"] == 1


def test_a_file_system_without_hard_links_is_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(BadSettings, match=r"without hard links.*CONTROLTOWER_HOME"):
        publish_rows(lake, "x", "a", pa.table({"a": [1]}))
    assert lake.manifest().version == 0 and not list(lake.root.rglob(".*"))


def test_a_table_that_the_load_did_not_have_is_empty_again(lake: Lake) -> None:
    """Its interval stays: one that is gone is taken for merged."""
    publish_rows(lake, "customers", "a", customers(("1", DAY, "x")))
    publish_rows(lake, "orders", "a", table("orders", [{"order_id": "o", "ordered_at": DAY, "currency": "KRW"}]))
    assert lake.restore("a", 1) == {"orders": (1, 0)} and lake.sizes("orders") == {"a": 0}
    assert lake.restore("a", 2) == {"orders": (0, 1)}


def test_what_went_into_another_interval_is_not_restored_beside_it(lake: Lake) -> None:
    for interval in "ab":
        publish_rows(lake, "customers", interval, customers((interval, DAY, "x")))
    lake.merge(("customers",), ["a", "b"], "a-b")
    assert [set(then(lake, n)) for n in (1, 2, 3)] == [{"a"}, {"a", "b"}, {"a", "b"}]
    with pytest.raises(BadSettings, match="went into another one"):
        lake.restore("a", 2)
    with pytest.raises(BadSettings, match="Version 2 has no interval 'c'"):
        lake.restore("c", 2)


def test_restored_files_are_kept_as_what_they_are_now(lake: Lake) -> None:
    for name in ("one", "two"):
        publish_rows(lake, "customers", "a", customers(("1", DAY, name)))
    lake.restore("a", 1)
    wait(lake, 4 * DAYS)
    publish_rows(lake, "x", "b", pa.table({"a": [1]}))
    assert names(lake) == {"1": "one"} and len(files(lake)) == 1


def test_a_merge_never_undoes_what_came_between(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_rows(lake, "customers", "a", customers(("1", DAY, "old")))
    publish_rows(lake, "customers", "b", customers(("2", DAY, "x")))
    written = Lake.write

    def meanwhile(self: Lake, table: str, rows: pa.RecordBatchReader) -> tuple[manifests.Part, ...]:
        parts = written(self, table, rows)
        monkeypatch.undo()
        publish_rows(lake, "customers", "a", customers(("1", DAY, "new")))
        return parts

    monkeypatch.setattr(Lake, "write", meanwhile)
    with pytest.raises(BadSource, match="published anew meanwhile"):
        lake.merge(("customers",), ["a", "b"], "a-b")
    assert names(lake) == {"1": "new", "2": "x"} and lake.intervals("customers") == ["a", "b"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("step", ["put", "written", "remove"])
def test_a_publication_that_was_cut_short_holds_and_the_next_follows(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, step: str, error: type[BaseException]
) -> None:
    """Killed it is told to nobody; an error is no reason to tell that it failed. No file is left behind."""
    for name in ("oldest", "old"):
        publish_rows(lake, "customers", "a", customers(("1", DAY, name)))
    wait(lake, 3 * DAYS + GRACE + 60)
    with monkeypatch.context() as patch:
        patch.setattr(type(lake.store), step, lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(error) if error is KeyboardInterrupt else nullcontext():
            publish_rows(lake, "customers", "a", customers(("1", DAY, "new")))
    assert names(lake) == {"1": "new"} and then(lake, 2) == {"1": "old"}
    publish_rows(lake, "x", "b", pa.table({"a": [1]}))
    assert names(lake) == {"1": "new"} and len(files(lake)) == (3 if step == "remove" else 2)
    for file in files(lake):
        os.utime(lake.root / file, (0, 0))
    lake.sweep()
    assert len(files(lake)) == 2 and then(lake, 2) == {"1": "old"}
    assert [v.number for v, _ in lake.versions()] == [4, 3, 2]


def test_of_two_who_take_one_number_one_comes_after_the_other(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    created = type(lake.store).create

    def late(self: object, name: str, data: bytes) -> bool:
        monkeypatch.undo()
        publish_rows(Lake(lake.settings), "customers", "a", customers(("1", DAY, "first")))
        return created(self, name, data)  # type: ignore[arg-type]

    monkeypatch.setattr(type(lake.store), "create", late)
    publish_rows(lake, "customers", "b", customers(("2", DAY, "second")))
    assert names(lake) == {"1": "first", "2": "second"}
    assert [v.interval for v, _ in lake.versions()] == ["b", "a"]


def test_an_old_manifest_put_in_place_late_hides_nothing(lake: Lake) -> None:
    publish_rows(lake, "customers", "a", customers(("1", DAY, "x")))
    early = (lake.root / manifests.NAME).read_bytes()
    for interval in "bc":
        publish_rows(lake, "customers", interval, customers((interval, DAY, "x")))
    (lake.root / manifests.NAME).write_bytes(early)
    assert set(names(lake)) == {"1", "b", "c"}


def test_a_home_of_before_is_read_and_goes_on(lake: Lake) -> None:
    """Its manifest knew no replaced files, and no entries were written."""
    publish_rows(lake, "customers", "a", customers(("1", DAY, "old")))
    raw = json.loads((lake.root / manifests.NAME).read_text())
    tables = raw["tables"]
    (lake.root / manifests.NAME).write_text(json.dumps({"schema": 1, "version": 41, "tables": tables}))
    for entry in (lake.root / manifests.LOG).iterdir():
        entry.unlink()
    (lake.root / manifests.LOG).rmdir()
    assert names(lake) == {"1": "old"} and lake.versions() == [] and then(lake, 41) == {"1": "old"}
    publish_rows(lake, "customers", "a", customers(("1", DAY, "new")))
    assert names(lake) == {"1": "new"} and [v.number for v, _ in lake.versions()] == [42]
    raw = json.loads((lake.root / manifests.NAME).read_text())  # and the version before this one refuses it
    assert (raw["schema"], raw["version"], set(raw["tables"])) == (2, 42, {"customers"})


def test_a_lake_that_lost_its_manifest_is_not_taken_for_empty(lake: Lake) -> None:
    for interval in "ab":
        publish_rows(lake, "customers", interval, customers((interval, DAY, "x")))
    (lake.root / manifests.NAME).unlink()
    assert set(names(lake)) == {"a", "b"}  # its entries are all there
    (lake.root / manifests.LOG / "0000000001.json").unlink()
    with pytest.raises(BadSource, match=r"manifest.json is damaged"):
        names(lake)


def test_files_of_a_writer_that_died_go_after_a_week(lake: Lake) -> None:
    lake.write("customers", customers(("1", DAY, "never published")))
    for half in (lake.root / ".manifest.json-0a", lake.root / "customers" / ".part-1.parquet-0a"):
        half.write_bytes(b"{")
    wait_for = lake.write("customers", customers(("2", DAY, "yet to be published")))
    at = (lake.root / wait_for[0].file).stat().st_mtime
    publish_rows(lake, "x", "a", pa.table({"a": [1]}))
    for file in lake.root.rglob("*"):
        os.utime(file, (at - 7 * DAYS - 1,) * 2)
    os.utime(lake.root / wait_for[0].file, (at - 6 * DAYS,) * 2)
    lake.sweep()
    assert files(lake) == {wait_for[0].file} and not list(lake.root.rglob(".*"))
    assert files(lake, "x") == lake.manifest().files()
    lake.commit("b", {"customers": wait_for})
    assert set(names(lake)) == {"2"}
    with pytest.raises(BadSource, match="vanished from the lake"):
        lake.commit("c", {"customers": (wait_for[0]._replace(file="customers/gone.parquet"),)})


def test_all_of_it_is_its_owners_alone(lake: Lake, conf: Settings) -> None:
    old = os.umask(0o002)
    try:
        publish_rows(lake, "customers", "a", customers(("1", DAY, "gone"), ("2", DAY, "x")))
        Persons(lake).erase(Persons(lake).find(["1"]))
        lake.merge(("customers",), ["a"], "b")
    finally:
        os.umask(old)
    modes = {path: path.stat().st_mode & 0o777 for path in [conf.home / "lake", *(conf.home / "lake").rglob("*")]}
    assert len(modes) > 6
    assert {path: oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


def test_no_name_leaves_the_folder(lake: Lake, tmp_path: Path) -> None:
    """Also what is written beside the parts is swept: no temporary file stays."""
    for n in range(3):
        publish_rows(lake, "customers", "a", customers(("1", DAY, str(n))))
    assert {path.name for path in lake.root.iterdir()} == {manifests.NAME, manifests.LOG, "customers"}
    assert not list(lake.root.rglob(".*"))
