"""`controltower source check`: what a source would bring, told before anything is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from controltower.commands.showing import columns, plain
from controltower.data.sources import sample
from controltower.errors import BadSource
from controltower.jobs.sources import check_source, list_sources, opened
from controltower.settings import Settings
from test_cli import run

CUSTOMERS = "customer_id,email,Name\nc1,min@customers.example,민지\nc2,,Jun\nc3,no address,Sora\n"
ORDERS = "Nr,Date,amount\n1,2025-05-01T00:00,3\n2,2025-13-01,x\n"
MAPPING = """
timezone: Asia/Seoul
about: our nightly export
location: export
tables:
  customers: { columns: { Name: first_name } }
  orders:
    columns: { Nr: order_id, Date: ordered_at }
    expressions: { currency: "'KRW'", shipping: amount / 100 }
"""


@pytest.fixture
def named(conf: Settings) -> Settings:
    """A home with the named source `teas`."""
    (conf.home / "sources").mkdir()
    (conf.home / "export").mkdir()
    (conf.home / "sources" / "teas.yaml").write_text(MAPPING)
    (conf.home / "export" / "customers.csv").write_text(CUSTOMERS)
    (conf.home / "export" / "orders.csv").write_text(ORDERS)
    return conf


def told(report: dict[str, Any], table: str, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(column[name] for name in names) for column in report["tables"][table]["columns"]]


def test_a_named_source_is_shown_with_its_mapping_and_faults(named: Settings) -> None:
    report = check_source("teas")
    assert told(report, "orders", "column", "from", "expression", "type", "null") == [
        ("order_id", "Nr", None, "key", 0),
        ("ordered_at", "Date", None, "time", 0.5),
        ("currency", None, "'KRW'", "text", 0),
        ("shipping", None, "amount / 100", "money", 0.5),
    ]
    orders = report["tables"]["orders"]
    assert orders["broken"] == [
        {"rule": "time", "column": "ordered_at", "file": "orders.csv", "line": 3, "value": "2025-13-01", "rows": 1}
    ]
    assert (orders["read"], orders["good"], orders["bad"], orders["ok"]) == (2, 1, 1, False)
    assert orders["rows"] == [
        {"order_id": "1", "ordered_at": "2025-04-30 15:00:00+00:00", "updated_at": "2025-04-30 15:00:00+00:00",
         "status": "placed", "currency": "KRW", "shipping": "0.0300"}
    ]  # fmt: skip
    assert not report["ok"]
    assert not (named.home / "lake").exists()


def test_personal_values_are_masked(named: Settings) -> None:
    report = check_source("teas")["tables"]["customers"]
    assert [row.get("email") for row in report["rows"]] == ["xxx@xxxxxxxxx.xxxxxxx", None]
    assert report["rows"][0]["first_name"] == "xx"
    assert report["broken"][0]["value"] == "xx xxxxxxx"
    assert "min@" not in json.dumps(report) and "민지" not in json.dumps(report, ensure_ascii=False)


def test_a_missing_column_is_told_with_the_rest_of_the_mapping(named: Settings) -> None:
    (named.home / "export" / "orders.csv").write_text("Nr,amount,Datum\n1,3,2025-05-01\n")
    report = check_source("teas")["tables"]["orders"]
    assert ("ordered_at", None, None) in [(c["column"], c["from"], c["null"]) for c in report["columns"]]
    assert (report["missing"], report["kept"], report["ok"]) == (["ordered_at"], ["Datum"], False)
    assert "names the column 'Date', but orders.csv has no such column" in report["error"]


def test_of_a_large_file_a_sample_is_read(named: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines keep their numbers, and lines of orders outside the sample are no fault of theirs."""
    monkeypatch.setattr("controltower.data.sources.check.check.__defaults__", (20, 3))
    good = "".join(f'{i},2025-05-01,"3"\n' for i in range(10))
    (named.home / "export" / "orders.csv").write_text("Nr,Date,amount\n" + good)
    (named.home / "export" / "order_lines.jsonl").write_text(
        "".join(f'{{"order_id": {i}, "line_no": 1, "product_id": 1, "quantity": 1, "unit_price": 1}}\n'
                for i in range(9, -1, -1))
    )  # fmt: skip
    report = check_source("teas")["tables"]
    assert (report["orders"]["read"], report["orders"]["whole"]) == (3, False)
    assert (report["order_lines"]["read"], report["order_lines"]["whole"], report["order_lines"]["ok"]) == (
        3,
        False,
        True,
    )
    assert report["order_lines"]["notes"][0].startswith("rule order: not counted")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_heads(tmp_path: Path, form: str) -> None:
    from data.test_mapping import write

    file = write(tmp_path, form, "x", [{"a": str(i)} for i in range(5)])
    for rows, whole in ((2, False), (5, True), (9, True)):
        (taken,), all_of_it = sample.heads([file], tmp_path / f"{rows}", rows, "utf-8")
        assert (taken.name, all_of_it, taken.stat().st_mtime) == (file.name, whole, file.stat().st_mtime)
        assert sample.their_columns(taken, "utf-8") == ["a"]


def test_sources_are_listed(named: Settings) -> None:
    (named.home / "sources" / "broken.yaml").write_text("time_zone: UTC")
    found = {source["name"]: source for source in list_sources()}
    assert (found["teas"]["kind"], found["teas"]["about"]) == ("folder", "our nightly export")
    assert found["broken"]["kind"] == "broken" and "did you mean 'timezone'?" in found["broken"]["about"]
    assert found["simulated"]["kind"] == "built in"


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("kind: ftp\nlocation: x", "there is no kind 'ftp'.*folder"),
        ("about: x", "doesn't say where its files are"),
        ("location: nowhere\nabout: Get it from the shop.", "There is no folder .*nowhere. Get it from the shop."),
        ("location: export\nshop: shop.yaml", "names the shop file shop.yaml, which isn't there"),
    ],
)
def test_named_sources_that_can_not_be_opened(named: Settings, yaml: str, said: str) -> None:
    (named.home / "sources" / "x.yaml").write_text(yaml)
    with pytest.raises(BadSource, match=said):
        opened(named, "x")


def test_a_name_that_is_nothing(named: Settings) -> None:
    with pytest.raises(BadSource, match="no source of that name; did you mean 'teas'"):
        opened(named, "tea")


def test_the_command_prints_it_in_a_hundred_columns_and_fails_where_a_load_would(named: Settings) -> None:
    done = run(named.home, "source", "check", "teas", "--rows", "1")
    assert done.returncode == 1
    assert re.search(r"^  currency \* += 'KRW' +text +0.0%$", done.stdout, re.MULTILINE)
    assert "A load would be refused: customers, orders." in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    assert json.loads(run(named.home, "source", "check", "teas", "--json").stdout)["ok"] is False
    (named.home / "sources" / "teas.yaml").write_text(MAPPING + "bad_rows_limit: 0.5")
    assert run(named.home, "source", "check", "teas").returncode == 0
    assert "teas (folder): our nightly export" in run(named.home, "source", "list").stdout


def test_a_wide_table_goes_on_below(tmp_path: Path) -> None:
    lines = columns(["first", "second"], [["a" * 70, "b" * 70], ["가" * 20, ""]], 60)
    assert [len(line) for line in lines] == [7, 62, 22, 8, 62, 0]
    assert lines[1].endswith("a…")


def test_a_rows_own_text_gives_a_terminal_no_orders() -> None:
    assert plain(["민지", "a\x1b[2J\x00"]) == "민지, a\\x1b[2J\\x00"
