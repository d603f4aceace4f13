"""Quarantined rows that are mended and loaded after all: once, through the same rules, and consents fail closed."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from controltower.data import quarantine
from controltower.data.lake import Lake
from controltower.errors import BadSource, NoData
from controltower.jobs.quarantine import export_quarantine, list_quarantine, replay_quarantine
from controltower.settings import Settings

from data.conftest import CONSENTS, CUSTOMERS, EVENTS, LINES, ORDERS, Ingest, good_customers, rows, utc
from data.test_withdrawals import GRANTS, granted

LENIENT = {"source.yaml": "bad_rows_limit: 1"}
Mend = Callable[..., dict[str, Any]]


@pytest.fixture
def mend(conf: Settings, tmp_path: Path) -> Mend:
    """Export a table's rows, change each by `change`, write them back and replay the file. Returns the report."""

    def run(table: str, change: Callable[[dict[str, str]], object]) -> dict[str, Any]:
        file = tmp_path / "mended.csv"
        export_quarantine(table, file)
        with file.open(newline="") as given:
            found = list(csv.DictReader(given))
        for row in found:
            change(row)
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(found[0]))
            writer.writeheader()
            writer.writerows(found)
        return replay_quarantine(table, file)

    return run


def test_what_waits_is_counted_and_shown_masked(conf: Settings, ingest: Ingest) -> None:
    bad = "c98,,john.smith at mail.example,,,\nc99,,,ko_KR,,\n"
    ingest(LENIENT | {"customers.csv": CUSTOMERS + bad, "events.csv": EVENTS + "e,never,view_item,,c,\n"})
    found = list_quarantine()
    assert (found["waiting"], found["replayed"], len(found["rows"])) == (3, 0, 3)
    assert {"table": "events", "rule": "time", "column": "occurred_at", "file": "events.csv",
            "interval": "../2026-01-01T00:00:00Z", "rows": 1} in found["counts"]  # fmt: skip
    (email,) = list_quarantine("customers", "email", "../2026-01-01T00:00:00Z")["rows"]
    assert (email["key"], email["line"], email["value"]) == ("c98", 2, "xxxx.xxxxx xx xxxx.xxxxxxx")
    assert "smith" not in str(found)
    assert list_quarantine(load="another")["waiting"] == 0
    assert (list_quarantine(at_most=1)["waiting"], len(list_quarantine(at_most=1)["rows"])) == (3, 1)


def test_a_mended_row_is_loaded_once_into_its_interval(lake: Lake, ingest: Ingest, mend: Mend) -> None:
    text = EVENTS + "e1,2025-06-01T10:00,view_item,2025-06-01T10:01,c,1\n" * 30
    text += "e2,1.6.2025,view_item,2025-06-01T10:01:00Z,c,2\n"
    files = {"events.csv": text, "source.yaml": "timezone: Asia/Seoul"}
    ingest(files, "2025-06-01", "2025-06-02")
    report = mend("events", lambda row: row.update(occurred_at="2025-06-01T10:00"))
    assert (report["given"], report["replayed"], report["loaded"], report["broken"]) == (1, 1, 1, {})
    assert [(row["event_id"], row["occurred_at"]) for row in rows(lake, "events")] == [
        ("e1", utc("2025-06-01T01:00")),
        ("e2", utc("2025-06-01T01:00")),  # the source's zone, as in the load
    ]
    assert rows(lake, "events", as_of="2025-06-01T10:01")[1]["event_id"] == "e2"
    assert (list_quarantine()["waiting"], list_quarantine()["replayed"]) == (0, 1)
    before = lake.manifest()
    again = replay_quarantine("events", ingest_file(lake))
    assert (again["before"], again["replayed"], again["loaded"]) == (1, 0, 0)
    assert lake.manifest() == before
    ingest(files, "2025-06-01", "2025-06-02")  # loading the interval again keeps what was mended
    assert [row["event_id"] for row in rows(lake, "events")] == ["e1", "e2"]
    assert list_quarantine()["waiting"] == 0
    ingest({"events.csv": text.replace("1.6.2025", "2025-06-01T10:00")}, "2025-06-01", "2025-06-02")
    assert [row["event_id"] for row in rows(lake, "events")] == ["e1", "e2"]  # and a mended source adds nothing


def ingest_file(lake: Lake) -> Path:
    return lake.settings.home.parent / "mended.csv"


def test_what_is_still_wrong_stays(lake: Lake, ingest: Ingest, mend: Mend) -> None:
    ingest(LENIENT | {"customers.csv": CUSTOMERS + "c1,,one,,,\nc2,,two,,,\n"})

    def one_of_them(row: dict[str, str]) -> None:
        row.update(email="a@mail.example" if row["customer_id"] == "c1" else "a b@mail.example")

    report = mend("customers", one_of_them)
    assert (report["replayed"], report["broken"]) == (1, {"email of email": 1})
    assert report["rows"] == [{"line": 3, "rule": "email", "column": "email"}]
    assert [row["customer_id"] for row in rows(lake, "customers")] == ["c1"]
    report = mend("customers", lambda row: row.update(email=""))
    assert (report["given"], report["loaded"]) == (1, 1)
    assert len(rows(lake, "customers")) == 2


def test_without_a_file_what_passes_by_now_is_loaded(lake: Lake, ingest: Ingest, shop: Path) -> None:
    ingest(LENIENT | {"order_lines.csv": LINES + "o1,1,p,1,1\no2,1,p,1,1\n"}, end="2025-07-01")
    (shop / "order_lines.csv").unlink()
    ingest({"orders.csv": ORDERS + "o1,2025-06-01,GBP,c,,placed\n"}, end="2025-08-01")
    report = replay_quarantine("order_lines")
    assert (report["given"], report["loaded"], report["broken"]) == (2, 1, {"order of order_id": 1})
    (line,) = rows(lake, "order_lines")
    assert (line["order_id"], line["updated_at"]) == ("o1", utc("2025-06-01"))


def test_a_row_keeps_its_files_time_and_its_other_columns(lake: Lake, ingest: Ingest, shop: Path, mend: Mend) -> None:
    (shop / "customers.csv").write_text("customer_id,email,phone,shoe size\nc1,nowhere,+82 10-1234-5678,42\n")
    noon = utc("2025-12-24T12:00").timestamp()
    os.utime(shop / "customers.csv", (noon, noon))
    ingest({"source.yaml": "known_at: file\nbad_rows_limit: 1"})
    mend("customers", lambda row: row.update(email="", updated_at=""))
    (row,) = rows(lake, "customers")
    assert row["updated_at"] == utc("2025-12-24T12:00")
    assert (row["phone"], row["attributes"]) == ("+82 10-1234-5678", '{"shoe size":"42"}')


def test_a_line_that_was_no_row_becomes_one(lake: Lake, ingest: Ingest, mend: Mend) -> None:
    ingest(LENIENT | {"customers.csv": "customer_id,first_name\nc1,Kim, Minji\n", "orders.jsonl": "{'order_id': 1}\n"})
    given: list[str] = []
    mend("customers", lambda row: (given.append(row["_line"]), row.update(customer_id="c1", first_name="Kim, Minji")))
    assert given == ["c1,Kim, Minji"]
    assert rows(lake, "customers")[0]["first_name"] == "Kim, Minji"
    assert mend("orders", lambda row: given.append(row["_line"]))["broken"] == {"required of order_id": 1}
    assert given[-1] == "{'order_id': 1}"


def test_raw_rows_are_for_their_owner(lake: Lake, ingest: Ingest, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        ingest(LENIENT | {"customers.csv": CUSTOMERS + "c1,,a b@mail.example,,,\n"})
        export_quarantine("customers", tmp_path / "out.csv")
    finally:
        os.umask(before)
    (part,) = lake.manifest().parts(quarantine.TABLE)
    assert (lake.root / part.file).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o600


def test_a_refused_load_keeps_no_raw_rows(conf: Settings, lake: Lake, ingest: Ingest) -> None:
    with pytest.raises(BadSource):
        ingest({"customers.csv": CUSTOMERS + "c1,,nowhere,,,\n"})
    assert quarantine.read(lake)["row"].to_pylist() == [None]
    with pytest.raises(NoData, match=r"No row of customers .* mend its file"):
        replay_quarantine("customers")


def test_a_table_that_isnt_handed_over_again_keeps_its_bad_rows(lake: Lake, ingest: Ingest, shop: Path) -> None:
    ingest(LENIENT | {"customers.csv": CUSTOMERS + "c1,,nowhere,,,\n", "events.csv": EVENTS + "e,never,x,,c,\n"})
    (shop / "customers.csv").unlink()
    ingest({"events.csv": EVENTS + "e,2025-01-01,x,,c,\n"})
    assert quarantine.read(lake)["table"].to_pylist() == ["customers"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("customer_id\nc1\n", "has no column _quarantine"),
        ("_quarantine,shoe\nx,1\n", "has a column 'shoe', which customers has not"),
        ("_quarantine,email\nx,1,2\n", "mended.csv line 2 has 3 fields, 2 expected"),
        ("_quarantine,email\nx,a\n\nx,b\n", "line 4 has a row of quarantine again"),
        ("_quarantine,email\nx,a\n,b\n", "line 3 has no _quarantine"),
        ("_quarantine,_extras\nx,{\n", "line 2 has an _extras that is no JSON object"),
    ],
)
def test_a_file_that_isnt_what_was_exported(
    conf: Settings, ingest: Ingest, tmp_path: Path, text: str, what: str
) -> None:
    ingest(LENIENT | {"customers.csv": CUSTOMERS + "c1,,nowhere,,,\n"})
    file = tmp_path / "mended.csv"
    file.write_text(text)
    with pytest.raises(BadSource, match=what):
        replay_quarantine("customers", file)
    file.write_text("_quarantine,customer_id\nsomething else,c1\n\n,\n")
    assert replay_quarantine("customers", file)["unknown"] == 1


def test_a_mended_consent_holds_from_its_own_time(conf: Settings, lake: Lake, ingest: Ingest, mend: Mend) -> None:
    ingest(LENIENT | {"consents.csv": CONSENTS + GRANTS + "c,email,marketing,2025-06-01,perhaps,shop\n"})
    assert granted(conf) == {"push", "in_app"}
    report = mend("consents", lambda row: row.update(granted="true"))
    assert (report["replayed"], report["consents"]) == (1, 1)
    assert granted(conf) == {"email", "push", "in_app"}


def test_consents_fail_closed_in_a_replay_too(conf: Settings, lake: Lake, ingest: Ingest, mend: Mend) -> None:
    """A time that could not be read withdrew at the load's time: no mended grant of an earlier time undoes that."""
    bad = "c,email,marketing,soon,false,shop\nc,push,marketing,2025-06-01,true,\n"
    ingest(LENIENT | {"consents.csv": CONSENTS + GRANTS + bad})
    assert granted(conf) == {"push", "in_app"}

    def still_wrong(row: dict[str, str]) -> None:
        row.update(recorded_at="2025-06-01", granted="true") if row["channel"] == "email" else row.update(granted="?")

    report = mend("consents", still_wrong)
    assert (report["replayed"], report["broken"]) == (1, {"flag of granted": 1})
    assert granted(conf) == {"in_app"}  # what is still wrong may be a withdrawal by now
    assert len(rows(lake, "consents")) == 7


def test_only_the_bad_rows_wait(lake: Lake, ingest: Ingest, mend: Mend) -> None:
    ingest({"customers.csv": CUSTOMERS + good_customers(30) + "c99,,nowhere,,,\n"})
    assert mend("customers", lambda row: row.update(email="x@mail.example"))["given"] == 1
    assert len(rows(lake, "customers")) == 31
