"""Which rows an interval takes, what counts as there already, and that running it again changes nothing."""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from controltower.data import quarantine
from controltower.data.lake import Lake
from controltower.errors import BadSettings, BadSource, ControlTowerError
from controltower.jobs.ingest import ingest_data

from data.conftest import CONSENTS, CUSTOMERS, EVENTS, LINES, ORDERS, PRODUCTS, Ingest, good_customers, rows, utc

HISTORY = {
    "customers.csv": "customer_id,first_name,signed_up_at\nc1,Ann,2025-02-01\nc2,Bob,\n",
    "products.csv": "product_id,title,price,currency,available_from\n"
    "p1,Lamp,5,GBP,2025-03-01\np2,Cup,2,GBP,2027-01-01\n",
    "orders.csv": "order_id,ordered_at,currency,customer_id\no1,2025-04-01T10:00:00Z,GBP,c1\n",
    "order_lines.csv": LINES + "o1,1,p1,1,5\no1,2,p1,2,5\n",
    "events.csv": EVENTS
    + "e1,2025-04-01T09:00:00Z,view_item,2025-04-02T00:00:00Z,c1,\ne2,2025-05-01T09:00:00Z,view_item,,c1,\n",
    "consents.csv": CONSENTS + "c1,email,marketing,2025-02-01,true,shop\n",
}


def counts(report: dict[str, Any], table: str) -> tuple[int, int, int, int]:
    found = report["tables"][table]
    assert found["read"] == found["loaded"] + found["duplicates"] + found["quarantined"] + found["outside"]
    return found["loaded"], found["duplicates"], found["quarantined"], found["outside"]


def contents(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    return {
        table: rows(lake, table) for table in ("customers", "products", "orders", "order_lines", "events", "consents")
    }


def test_in_a_load_of_history_facts_are_known_when_they_happened(lake: Lake, ingest: Ingest) -> None:
    report = ingest(HISTORY)
    assert report["as_of"] == "2026-01-01T00:00:00+00:00"
    known = {table: [row[column] for row in rows(lake, table)] for table, column in
             {"customers": "updated_at", "orders": "updated_at", "order_lines": "updated_at", "events": "received_at",
              "products": "updated_at"}.items()}  # fmt: skip
    assert known["customers"] == [utc("2025-02-01"), utc("1970-01-01")]
    assert known["products"] == [utc("2025-03-01"), utc("1970-01-01")]  # the second is known, but still to come
    assert known["orders"] == [utc("2025-04-01T10:00")]
    assert known["order_lines"] == [utc("2025-04-01T10:00")] * 2
    assert known["events"] == [utc("2025-04-02"), utc("2025-05-01T09:00")]
    notes = {table: found["notes"] for table, found in report["tables"].items()}
    assert notes["events"] == ["1 rows carry no received_at: taken as known when they happened"]
    assert notes["order_lines"] == ["2 rows carry no updated_at: taken as known when they were ordered"]
    assert rows(lake, "events", as_of="2025-04-01T12:00") == []
    assert rows(lake, "orders", as_of="2025-04-01T09:59") == []


def test_a_source_may_say_that_facts_are_known_at_their_files_time(lake: Lake, ingest: Ingest, shop: Path) -> None:
    (shop / "orders.csv").write_text(HISTORY["orders.csv"])
    noon = utc("2025-12-24T12:00").timestamp()
    os.utime(shop / "orders.csv", (noon, noon))
    ingest({"source.yaml": "known_at: file"})
    assert rows(lake, "orders", as_of="2025-12-24T11:59") == []
    assert [row["order_id"] for row in rows(lake, "orders", as_of="2025-12-24T12:00")] == ["o1"]


def test_running_an_interval_again_leaves_the_same_rows(lake: Lake, ingest: Ingest) -> None:
    first = ingest(HISTORY)
    before = contents(lake)
    second = ingest(HISTORY)
    assert contents(lake) == before
    assert second["consents"] == 0
    assert first["tables"] == second["tables"]
    assert lake.intervals("orders") == ["../2026-01-01T00:00:00Z"]


def test_running_an_interval_again_replaces_what_it_had(lake: Lake, ingest: Ingest) -> None:
    ingest({"events.csv": EVENTS + "e1,2025-01-01,view_item,,c1,\ne2,2025-01-02,view_item,,c1,\n"})
    ingest({"events.csv": EVENTS + "e2,2025-01-02,add_to_cart,,c1,\n"})
    assert [(row["event_id"], row["event_name"]) for row in rows(lake, "events")] == [("e2", "add_to_cart")]


def test_an_interval_inside_a_loaded_one_finds_only_duplicates(lake: Lake, ingest: Ingest) -> None:
    files = HISTORY | {"source.yaml": "known_at: happened"}
    ingest(files)
    before = contents(lake)
    report = ingest(files, "2025-04-01", "2025-04-03")
    assert counts(report, "events") == (0, 1, 0, 1)
    assert counts(report, "orders") == (0, 1, 0, 0)
    assert counts(report, "order_lines") == (0, 2, 0, 0)
    assert counts(report, "consents") == (0, 1, 0, 0)
    assert contents(lake) == before


def test_intervals_one_after_the_other_take_each_row_once(lake: Lake, ingest: Ingest) -> None:
    days = [f"2025-06-0{d}" for d in range(1, 6)]
    lines = "".join(f"e{i},{day}T12:00:00Z,view_item,{day}T23:59:59Z,c,\n" for i, day in enumerate(days))
    first = ingest({"events.csv": EVENTS + lines}, end="2025-06-02")
    assert counts(first, "events") == (1, 0, 0, 4)
    for start, end in pairwise(days[1:]):
        assert counts(ingest({}, start, end), "events") == (1, 0, 0, 4)
    assert [row["event_id"] for row in rows(lake, "events")] == ["e0", "e1", "e2", "e3"]


def test_an_event_sent_twice_is_one_also_in_the_late_window(lake: Lake, ingest: Ingest) -> None:
    line = "e1,2025-06-01T12:00:00Z,view_item,{},c,\n"
    twice = EVENTS + line.format("2025-06-01T12:00:01Z") * 2 + line.format("2025-06-01T12:30:00Z")
    assert counts(ingest({"events.csv": twice}, "2025-06-01", "2025-06-02"), "events") == (1, 2, 0, 0)
    again = EVENTS + line.format("2025-06-03T08:00:00Z")
    assert counts(ingest({"events.csv": again}, "2025-06-03", "2025-06-04"), "events") == (0, 1, 0, 0)
    assert rows(lake, "events")[0]["received_at"] == utc("2025-06-01T12:00:01")


def test_versions_that_say_nothing_new_are_duplicates(lake: Lake, ingest: Ingest) -> None:
    header = "order_id,ordered_at,currency,status,updated_at\n"
    line = "o1,2025-06-01,GBP,{},{}\n"
    given = [("placed", "2025-06-01"), ("placed", "2025-06-02"), ("cancelled", "2025-06-03"), ("placed", "2025-06-04")]
    text = header + "".join(line.format(*version) for version in given)
    assert counts(ingest({"orders.csv": text}), "orders") == (3, 1, 0, 0)
    assert rows(lake, "orders", "2025-06-03T12:00")[0]["status"] == "cancelled"
    assert rows(lake, "orders", "2025-06-02T12:00")[0]["updated_at"] == utc("2025-06-01")
    more = header + line.format("placed", "2025-06-05") + line.format("returned", "2025-06-06")
    assert counts(ingest({"orders.csv": more}, "2025-06-05", "2025-06-07"), "orders") == (1, 1, 0, 0)
    assert rows(lake, "orders")[0]["status"] == "returned"


def test_two_versions_of_one_moment_stay_and_the_later_line_wins(lake: Lake, ingest: Ingest) -> None:
    text = "customer_id,updated_at,first_name\nc,2025-01-01,Ann\nc,2025-01-01,Bea\n"
    assert counts(ingest({"customers.csv": text}), "customers") == (2, 0, 0, 0)
    assert rows(lake, "customers")[0]["first_name"] == "Bea"
    assert counts(ingest({}, "2025-01-01", "2025-01-02"), "customers") == (0, 2, 0, 0)


def test_rows_not_yet_known_are_left_for_later_and_those_of_the_future_are_bad(lake: Lake, ingest: Ingest) -> None:
    text = EVENTS + "e1,2025-06-01,view_item,2025-06-01,c,\ne2,2025-06-09,view_item,2025-06-09,c,\n"
    text += "e3,2026-01-01T00:03:00Z,view_item,,c,\n"  # five minutes' difference of clocks is not the future
    text += "".join(f"g{i},2025-06-01,view_item,2025-06-01,c,\n" for i in range(40))
    text += "e4,2099-01-01,view_item,,c,\n"
    report = ingest({"events.csv": text, "source.yaml": "known_at: happened"}, end="2025-06-05")
    assert counts(report, "events") == (41, 0, 1, 2)
    assert quarantine.read(lake)["key"].to_pylist() == ["e4"]


def test_consents_go_to_the_ledger_and_late_ones_are_never_lost(lake: Lake, conf: Any, ingest: Ingest) -> None:
    from controltower.ledger import consents
    from controltower.ledger.database import reading

    first = ingest(HISTORY, end="2025-06-01")
    assert first["consents"] == 1
    late = HISTORY["consents.csv"] + "c1,email,marketing,2025-05-20,false,call centre\n"
    report = ingest({"consents.csv": late}, "2025-06-01", "2025-06-02")
    assert counts(report, "consents") == (1, 1, 0, 0)
    assert report["consents"] == 1
    with reading(conf) as connection:
        assert consents.granted(connection, "email", "marketing", utc("2025-05-19")) == {"c1"}
        assert consents.granted(connection, "email", "marketing", utc("2025-06-02")) == set()


def test_too_many_bad_rows_stop_the_whole_load(lake: Lake, ingest: Ingest, conf: Any) -> None:
    ingest(HISTORY, end="2025-06-01")
    before, parts = contents(lake), lake.manifest().parts("orders")
    bad = good_customers(18) + "c1,,nowhere,,,\nc2,,nobody,,,\n"
    new = HISTORY | {"customers.csv": CUSTOMERS + bad, "orders.csv": ORDERS + "o9,2025-05-01,GBP,c,,\n"}
    with pytest.raises(BadSource) as error:
        ingest(new, end="2025-12-01")
    text = str(error.value)
    assert "2 of 20 rows of customers break the contract (10%, more than 5%)" in text
    assert "rule 'email' of email: customers.csv line 20 and 1 more" in text
    assert "bad_rows_limit" in text
    assert "nowhere" not in text
    assert contents(lake) == before
    assert lake.manifest().parts("orders") == parts
    assert {row["rule"] for row in quarantine.read(lake).to_pylist()} == {"email"}
    ingest(new | {"source.yaml": "bad_rows_limit: 0.1"}, end="2025-12-01")
    assert len(rows(lake, "customers")) == 18


def test_a_load_that_fails_late_changes_nothing(lake: Lake, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(HISTORY, end="2025-06-01")
    before = contents(lake)
    monkeypatch.setenv("CONTROLTOWER_DATABASE_URL", "nonsense")
    with pytest.raises(ControlTowerError):
        ingest({"consents.csv": CONSENTS + "c9,email,marketing,2025-02-01,true,shop\n"}, end="2025-07-01")
    assert contents(lake) == before
    assert lake.intervals("orders") == ["../2025-06-01T00:00:00Z"]


def test_a_table_that_is_not_handed_over_again_keeps_what_it_had(lake: Lake, ingest: Ingest, shop: Path) -> None:
    ingest(HISTORY)
    (shop / "products.csv").unlink()
    ingest({})
    assert len(rows(lake, "products")) == 2


@pytest.mark.parametrize(
    ("start", "end", "what"),
    [("2025-06-02", "2025-06-01", "is empty"), ("soon", None, "'soon' is not a date"), (None, "1/2", "'1/2' is not")],
)
def test_intervals_that_make_no_sense(ingest: Ingest, start: str | None, end: str | None, what: str) -> None:
    with pytest.raises(BadSettings, match=what):
        ingest(HISTORY, start, end)


def test_the_first_load_brings_the_shops_file_and_later_ones_leave_it(ingest: Ingest, shop: Path, home: Path) -> None:
    own = (Path(__file__).parents[2] / "include/shops/folder.yaml").read_text()
    (shop / "shop.yaml").write_text(own.replace("timezone: UTC", "timezone: Asia/Seoul"))
    report = ingest(HISTORY, end="2025-06-01")
    assert "timezone: Asia/Seoul" in (home / "shop.yaml").read_text()
    assert report["as_of"] == "2025-05-31T15:00:00+00:00"  # midnight in the shop's zone
    (home / "shop.yaml").write_text(own)
    ingest({})
    assert (home / "shop.yaml").read_text() == own


def test_a_failed_first_load_leaves_no_shop_file(ingest: Ingest, home: Path) -> None:
    with pytest.raises(BadSource):
        ingest({"products.csv": PRODUCTS + "p,Lamp,cheap,GBP\n"})
    assert not (home / "shop.yaml").exists()


def test_naive_times_are_in_the_shops_zone_unless_the_source_has_its_own(
    lake: Lake, ingest: Ingest, shop: Path
) -> None:
    own = (Path(__file__).parents[2] / "include/shops/folder.yaml").read_text()
    (shop / "shop.yaml").write_text(own.replace("timezone: UTC", "timezone: Asia/Seoul"))
    ingest({"events.csv": EVENTS + "e,2025-06-01T09:00,view_item,,c,\n"})
    assert rows(lake, "events")[0]["occurred_at"] == utc("2025-06-01")
    ingest({"source.yaml": "timezone: UTC"})
    assert rows(lake, "events")[0]["occurred_at"] == utc("2025-06-01") + timedelta(hours=9)


def test_a_second_source_adds_to_what_the_first_loaded_of_an_interval(
    lake: Lake, ingest: Ingest, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    day = {"start": "2025-05-01", "end": "2025-05-02"}
    ingest({"events.csv": EVENTS + "e1,2025-05-01T09:00:00Z,view_item,2025-05-01T09:00:00Z,c1,\n"}, **day)
    (more / "events.csv").write_text(EVENTS + "e2,2025-05-01T09:00:00Z,search,2025-05-01T09:00:00Z,c1,\n")
    for _ in range(2):
        ingest_data(str(more), **day)
        ingest({}, **day)
        assert [row["event_id"] for row in rows(lake, "events")] == ["e1", "e2"]
    assert len(lake.intervals("events")) == 2
