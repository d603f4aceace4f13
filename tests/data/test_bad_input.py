"""What shops hand over by mistake, one test each: the outcome is the one that docs/data.md names."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower.data import csv_file, quarantine
from controltower.data import load as loading
from controltower.data.lake import Lake
from controltower.errors import BadSource
from controltower.settings import Settings

from data.conftest import CUSTOMERS, EVENTS, LINES, ORDERS, PRODUCTS, Ingest, rows, utc

LENIENT = {"source.yaml": "bad_rows_limit: 1"}


def names(lake: Lake) -> list[str]:
    return [row["first_name"] for row in rows(lake, "customers")]


def broken(lake: Lake) -> list[tuple[str, str, str | None]]:
    return [(row["rule"], row["column"], row["value"]) for row in quarantine.read(lake).to_pylist()]


def test_a_byte_order_mark_says_utf_8_whatever_the_others_are(lake: Lake, ingest: Ingest, shop: Path) -> None:
    """Korean Excel saves one file as CP949, the next as "CSV UTF-8"."""
    text = "customer_id,first_name\n{},민지\n"
    (shop / "customers-1.csv").write_bytes(text.format("c1").encode("cp949"))
    (shop / "customers-2.csv").write_bytes(text.format("c2").encode("utf-8-sig"))
    (shop / "customers-3.jsonl").write_bytes('{"customer_id": "c3", "first_name": "민지"}'.encode("utf-8-sig"))
    report = ingest({"source.yaml": "encoding: cp949"})["tables"]["customers"]
    assert (report["files"], report["loaded"], names(lake)) == (3, 3, ["민지"] * 3)


def test_mixed_encodings_name_the_file_and_the_line(ingest: Ingest, shop: Path) -> None:
    (shop / "customers-1.csv").write_text("customer_id,first_name\nc1,Ann\n")
    (shop / "customers-2.csv").write_bytes("customer_id,first_name\nc2,Bob\nc3,민지\n".encode("cp949"))
    with pytest.raises(BadSource, match=r"customers-2.csv is not UTF-8: line 3 .*encoding: cp949"):
        ingest({})


def test_a_line_break_inside_quotes_is_part_of_the_value(lake: Lake, ingest: Ingest) -> None:
    ingest({"customers.csv": 'customer_id,first_name\nc1,"Ann\nMary"\nc2,Bob\n'})
    assert names(lake) == ["Ann\nMary", "Bob"]


@pytest.mark.parametrize(("delimiter", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_delimiter_is_told_and_may_be_set(lake: Lake, ingest: Ingest, delimiter: str, name: str) -> None:
    text = 'customer_id,first_name\nc1,"Ann, Mary"\n'.replace('"Ann, Mary"', "#").replace(",", delimiter)
    with pytest.raises(BadSource, match=f"one column if parted by commas, but 2 by {name}") as error:
        ingest({"customers.csv": text.replace("#", "Ann, Mary")})
    setting = error.value.remedy.split("`")[1]
    ingest({"source.yaml": setting})
    assert names(lake) == ["Ann, Mary"]
    with pytest.raises(BadSource, match=f"one column if parted by {name}, but 2 by commas"):
        ingest({"customers.csv": "customer_id,first_name\nc1,Ann\n"})


def test_one_column_is_no_wrong_delimiter(lake: Lake, ingest: Ingest) -> None:
    ingest({"customers.csv": "customer_id\nc;1\n"})
    assert rows(lake, "customers")[0]["customer_id"] == "c;1"


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_excels_dates_are_no_dates(lake: Lake, ingest: Ingest, shop: Path, form: str) -> None:
    """45291 is 31 December 2023 where days count from 1900, and in 2027 where from 1904: we don't guess."""
    row = {"customer_id": "c", "signed_up_at": 45291.375, "birth_date": 45291}
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), shop / "customers.parquet")
    else:
        text = "customer_id,signed_up_at,birth_date\nc,45291.375,45291\n"
        (shop / f"customers.{form}").write_text(text if form == "csv" else json.dumps(row))
    ingest(LENIENT)
    assert broken(lake) in (
        [("excel_date", "birth_date", "99999")],
        [("excel_date", "signed_up_at", "45291.375")],
    )


def test_a_file_full_of_excels_dates_is_refused_by_that_name(ingest: Ingest) -> None:
    with pytest.raises(BadSource, match="most often rule 'excel_date' of ordered_at"):
        ingest({"orders.csv": ORDERS + "o1,45291,GBP,c,,\no2,45292.5,GBP,c,,\n"})


def test_naive_times_and_mixed_offsets_in_one_column(lake: Lake, ingest: Ingest) -> None:
    times = ["2025-06-01T09:00", "2025-06-01T00:00Z", "2025-06-01T09:00+09:00", "2025-05-31 20:00-0400"]
    text = EVENTS + "".join(f"e{i},{time},view_item,,c,\n" for i, time in enumerate(times))
    ingest({"events.csv": text, "source.yaml": "timezone: Asia/Seoul"})
    assert [row["occurred_at"] for row in rows(lake, "events")] == [utc("2025-06-01")] * 4


def test_float_ids_are_whole_and_those_that_lost_digits_are_bad(lake: Lake, ingest: Ingest, shop: Path) -> None:
    products = {"title": "Lamp", "price": 1.0, "currency": "GBP"}
    table = pa.Table.from_pylist([{"product_id": 17850.0, **products}, {"product_id": 8.80123e17, **products}])
    pq.write_table(table, shop / "products.parquet")
    ingest(LENIENT | {"customers.csv": "customer_id\n17850.0\n8.80123E+12\n1E5\nx+1\n"})
    assert [row["product_id"] for row in rows(lake, "products")] == ["17850"]
    assert [row["customer_id"] for row in rows(lake, "customers")] == ["17850", "1E5", "x+1"]
    assert [(row["rule"], row["key"]) for row in quarantine.read(lake).to_pylist()] == [
        ("float_key", "8.80123E+12"),
        ("float_key", "8.80123e+17"),
    ]


def test_the_same_ids_in_several_files(lake: Lake, ingest: Ingest) -> None:
    report = ingest(
        {
            "events-1.csv": EVENTS + "e1,2025-06-01,view_item,2025-06-01,c,1\n",
            "events-2.csv": EVENTS + "e1,2025-06-01,view_item,2025-06-01,c,1\ne2,2025-06-01,search,2025-06-01,c,\n",
            "products-1.csv": PRODUCTS + "p,Lamp,1,GBP\nq,Cup,1,GBP\n",
            "products-2.csv": PRODUCTS + "p,Lamp,2,GBP\nq,Cup,1,GBP\n",
        }
    )["tables"]
    assert (report["events"]["loaded"], report["events"]["duplicates"]) == (2, 1)
    assert (report["products"]["loaded"], report["products"]["duplicates"]) == (3, 1)
    assert [str(row["price"]) for row in rows(lake, "products")] == ["2.0000", "1.0000"]  # the later file's


def test_a_required_column_renamed_overnight_is_refused_another_one_stops_campaigns(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give(day: int, header: str) -> list[str]:
        monkeypatch.setenv("CONTROLTOWER_NOW", f"2026-01-{day:02d}T00:00:00+00:00")
        lines = "".join(f"c{i},c{i}@mail.example,{day}\n" for i in range(30))
        found: list[str] = ingest({"customers.csv": f"{header}\n{lines}"})["anomalies"]
        return found

    assert give(1, "customer_id,email,points") == []
    (told,) = give(2, "customer_id,e_mail,points")
    assert "have no email, where 100 % had one: renamed?" in told
    with pytest.raises(BadSource, match=r"lacks what customers must have: customer_id. Its columns are: id, email"):
        give(3, "id,email,points")
    assert give(3, "customer_id,email,points") == []


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("customers.csv", lambda long: f"customer_id,first_name\nc1,Ann\nc2,{long}\n"),
        ("customers.csv", lambda long: f"customer_id,{long}\nc1,Ann\n"),
        ("customers.csv", lambda long: f'customer_id,first_name\nc1,Ann\nc2,"{long}"\nc3,5" pipe\n'),
        ("customers.csv", lambda long: 'customer_id,first_name\nc1,Ann\nc2,"' + "x\n" * len(long) + '"\n'),
        (
            "customers.jsonl",
            lambda long: json.dumps({"customer_id": "c1"}) + f'\n{{"customer_id": "c2", "first_name": "{long}"}}\n',
        ),
    ],
)
def test_an_endless_line_is_refused(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[str], str]
) -> None:
    """By hand at two gigabytes; here the bound is lowered. What is read at once stays within it."""
    monkeypatch.setattr(csv_file, "LONGEST_ROW", 1 << 16)
    with pytest.raises(BadSource, match=r"row of over 0\.0625 MB"):
        ingest({name: write("x" * 70_000)})
    assert ingest({name: write("x" * 1000)})["tables"]["customers"]["read"]


def test_many_long_lines_are_written_down_in_pieces(
    lake: Lake, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controltower.data.staging._BYTES_PER_BATCH", 100)
    ingest(
        {"customers.jsonl": "".join(json.dumps({"customer_id": f"c{i}", "note": "x" * 60}) + "\n" for i in range(9))}
    )
    assert len(rows(lake, "customers")) == 9


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("customers.csv", b"0" * 10_000_000)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("customers.csv.gz", lambda path: path.write_bytes(gzip.compress(b"0" * 10_000_000))),
        ("customers.zip", bomb),
        ("customers.csv", bomb),
        ("customers/all.csv.zip", bomb),
        ("export.gz", lambda path: path.write_bytes(gzip.compress(b"0" * 10_000_000))),
    ],
)
def test_compressed_files_are_refused_unopened(
    conf: Settings, ingest: Ingest, shop: Path, name: str, write: Callable[[Path], None]
) -> None:
    (shop / "customers").mkdir()
    write(shop / name)
    mapped = {"source.yaml": "tables: {customers: {file: export.gz}}"} if name == "export.gz" else {}
    with pytest.raises(BadSource, match=f"{name} is compressed, or a spreadsheet.*Unpack it"):
        ingest(mapped)


def test_a_mapped_file_of_no_known_form(ingest: Ingest, shop: Path) -> None:
    (shop / "export.txt").write_text("customer_id\n")
    with pytest.raises(BadSource, match=r"export.txt has no form that we read. Its name must end in .csv"):
        ingest({"source.yaml": "tables: {customers: {file: export.txt}}"})


@pytest.mark.parametrize("word", ["nan", "NaN", "<NA>", "NULL", "None", "NaT", " nan "])
def test_a_key_that_says_there_is_none_is_none(lake: Lake, ingest: Ingest, word: str) -> None:
    ingest(LENIENT | {"events.csv": EVENTS + f"e1,2025-06-01,view_item,,{word},\n{word},2025-06-01,view_item,,c,\n"})
    assert [row.get("customer_id") for row in rows(lake, "events")] == [None]
    assert broken(lake) == [("required", "event_id", word.strip())]


def test_nan_keys_in_parquet(lake: Lake, ingest: Ingest, shop: Path) -> None:
    """Of several: a file's least and greatest values make DuckDB believe that there is no NaN."""
    keys = [17850.0, *map(float, range(50)), float("nan")]
    events = {"event_id": [f"e{n:02}" for n in range(len(keys))], "occurred_at": [date(2025, 6, 1)] * len(keys)}
    events |= {"event_name": ["view_item"] * len(keys), "value": keys}
    pq.write_table(pa.table(events | {"customer_id": keys}), shop / "events.parquet")
    ingest(LENIENT)
    found = {row["event_id"]: (row.get("customer_id"), row.get("value")) for row in rows(lake, "events")}
    assert found["e00"] == ("17850", 17850) and found["e50"] == ("49", 49) and found["e51"] == (None, None)


@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/New_York"])
def test_a_date_that_stands_for_none_is_bad(lake: Lake, ingest: Ingest, zone: str) -> None:
    """As .NET and SQL Server write them: the first and the last moment that they know."""
    files = {"orders.csv": ORDERS + "o1,0001-01-01 00:00:00,GBP,c,,placed\no2,2025-01-01,GBP,c,,placed\n"}
    files["coupons.csv"] = "coupon_code,pool,updated_at,expires_at\nk,a,2025-01-01,9999-12-31 23:59:59\n"
    ingest(files | {"source.yaml": f"bad_rows_limit: 1\ntimezone: {zone}"})
    assert broken(lake) == [
        ("time", "ordered_at", "0001-01-01 00:00:00"), ("time", "expires_at", "9999-12-31 23:59:59")
    ]  # fmt: skip
    assert [row["order_id"] for row in rows(lake, "orders")] == ["o2"]


def test_a_file_whose_ending_is_written_large_is_told(ingest: Ingest, shop: Path) -> None:
    (shop / "Orders.CSV").write_text(ORDERS)
    report = ingest({"customers.csv": CUSTOMERS + "c,,,,,\n"})
    assert any("Orders.CSV belongs to no table" in note for note in report["notes"])


def test_a_negative_price_is_bad_and_a_return_isnt(lake: Lake, ingest: Ingest) -> None:
    files = {"products.csv": PRODUCTS + "p,Lamp,-1,GBP\n", "orders.csv": ORDERS + "o1,2025-01-01,GBP,c,,placed\n"}
    ingest(LENIENT | files | {"order_lines.csv": LINES + "o1,1,p,1,-1\no1,2,p,-1,-1\n"})
    assert broken(lake) == [("negative", "price", "-1"), ("negative", "unit_price", "-1")]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_that_is_still_being_written(
    conf: Settings, ingest: Ingest, shop: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    if form == "parquet":
        pq.write_table(pa.table({"customer_id": ["c1"]}), shop / "customers.parquet")
    real = loading.stage

    def slow(*args: Any) -> Any:
        groups = real(*args)
        with (shop / f"customers.{form}").open("ab") as file:
            file.write(b"c2,,,,,\n")
        return groups

    monkeypatch.setattr(loading, "stage", slow)
    with pytest.raises(BadSource, match=f"customers.{form} was changed while it was read"):
        ingest({"customers.csv": CUSTOMERS + "c1,,,,,\n"} if form == "csv" else {})
    assert not (conf.home / "lake" / "manifest.json").exists()


def test_half_a_last_row_is_bad(lake: Lake, ingest: Ingest) -> None:
    ingest(LENIENT | {"customers.csv": CUSTOMERS + "c1,,,,,\nc2,,c2@ma"})
    assert broken(lake) == [("columns", None, "3 fields, 6 expected")]
    assert len(rows(lake, "customers")) == 1


def test_a_parquet_file_whose_pages_are_damaged(ingest: Ingest, shop: Path) -> None:
    path = shop / "customers.parquet"
    pq.write_table(pa.table({"customer_id": [f"c{i}" for i in range(1000)]}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[100:400] = b"\xff" * 300
    path.write_bytes(content)
    with pytest.raises(BadSource, match="A Parquet file of customers is damaged"):
        ingest({})


def test_an_old_bad_row_in_a_file_of_all_there_is_refuses_no_later_day(lake: Lake, ingest: Ingest) -> None:
    good = "".join(f"o{n},2025-06-{n % 28 + 1:02},GBP,c,,placed\n" for n in range(60))
    lines = "".join(f"o{n},1,p,1,1\n" for n in range(60)) + "lost,1,p,1,1\nhalf\n"
    dump = {
        "source.yaml": "known_at: happened\nbad_rows_limit: 0.1\n",
        "orders.csv": ORDERS + good + "bad,2025-13-01,GBP,c,,placed\n",
        "order_lines.csv": LINES + lines,
    }
    ingest(dump, end="2025-07-01")
    assert len(broken(lake)) == 3
    dump["orders.csv"] += "new,2025-07-01,GBP,c,,placed\n"
    dump["order_lines.csv"] += "new,1,p,1,1\n"
    for _ in range(2):
        report = ingest(dump, "2025-07-01", "2025-07-02")["tables"]
        told = {name: (found["loaded"], found["quarantined"], found["outside"]) for name, found in report.items()}
        assert told == {"orders": (1, 0, 61), "order_lines": (1, 0, 62)}
    assert len(broken(lake)) == 3
    dump["orders.csv"] += "worse,2025-13-01,GBP,c,,placed\n"  # a new one counts
    with pytest.raises(BadSource, match="1 of 2 rows of orders break the contract"):
        ingest(dump, "2025-07-01", "2025-07-02")
