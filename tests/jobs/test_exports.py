"""The likeliest buyers as a file."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from controltower.errors import NoData
from controltower.jobs.exports import derived, export_top_customers, write
from controltower.settings import Settings, load
from support.daily_shop import open_shop, score

NOW = datetime.fromisoformat("2026-06-15T06:30+09:00")
SCORED = NOW - timedelta(hours=6)


@pytest.fixture
def shop(home: object) -> Settings:
    open_shop(load(), NOW, ["c0", "c1", "c2"])
    return load()


def test_the_likeliest_buyers_are_written_and_written_again(shop: Settings) -> None:
    score(shop, SCORED, ["c2", "c1", "c0"])
    for _ in range(2):
        report = export_top_customers(SCORED.isoformat(), at_most=2)
        assert (datetime.fromisoformat(report["as_of"]), report["customers"]) == (SCORED, 2)
        rows = (shop.home / "exports" / report["file"]).read_text().splitlines()
        assert [row.split(",")[0].strip('"') for row in rows] == ["customer_id", "c0", "c1"]
    assert len(list((shop.home / "exports").iterdir())) == 1
    assert export_top_customers()["customers"] == 3, "as of the clock's now"


FORMULA = "=cmd()"


def test_an_id_like_a_formula_is_text_in_a_csv_file_and_itself_in_others(shop: Settings, tmp_path: Path) -> None:
    score(shop, SCORED, ["c1", FORMULA])
    report = export_top_customers()
    with (shop.home / "exports" / report["file"]).open() as file:
        assert [row["customer_id"] for row in csv.DictReader(file)] == ["'=cmd()", "c1"]
    for table in ("features", "scores", "recommendations"):
        for form in ("csv", "parquet", "json"):
            write(derived(table, NOW.isoformat()), tmp_path / f"{table}.{form}")
        with (tmp_path / f"{table}.csv").open() as file:
            assert {row["customer_id"] for row in csv.DictReader(file)} == {"'=cmd()", "c1"}
        kept = pq.read_table(tmp_path / f"{table}.parquet").to_pylist()
        listed = json.loads((tmp_path / f"{table}.json").read_text())
        assert {r["customer_id"] for r in kept} == {r["customer_id"] for r in listed} == {FORMULA, "c1"}


def test_without_scores_it_says_what_to_run(shop: Settings) -> None:
    with pytest.raises(NoData, match="no scores"):
        export_top_customers()
