"""What is kept of the features: their page in the docs, and their SQL for engines that no test can reach."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest
from controltower.audiences.rules import Rule
from controltower.audiences.segments import select
from controltower.profiles.features import FEATURES, features
from controltower.profiles.features.page import page
from ibis.backends.sql.compilers import BigQueryCompiler, SnowflakeCompiler
from support.random_shop import random_shop
from support.shop_tables import SHOP, T, ago, lake_with

ROOT = Path(__file__).resolve().parents[2]
COMPILERS = {"snowflake": SnowflakeCompiler(), "bigquery": BigQueryCompiler()}
RULES = [Rule(column="orders_90d", at_least=1), Rule(column="lifecycle", is_in=["active"], or_unknown=True)]


def check(path: Path, text: str) -> None:
    """Compare with the kept file; `make golden` (GOLDEN=write) keeps what is given instead."""
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: run `make golden` and look at the difference"


def test_golden_page_of_the_docs() -> None:
    check(ROOT / "docs" / "features.md", page())


def test_each_feature_has_one_line_of_description() -> None:
    assert not [f.name for f in FEATURES if not f.description or re.search(r"[\n|]", f.description)]
    assert len({f.description for f in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("engine", COMPILERS)
def test_golden_sql(engine: str, tmp_path: Path) -> None:
    """The features of a small shop and an audience of them, as Snowflake and BigQuery would run it."""
    lake = lake_with(tmp_path, random_shop(random.Random(3), ago(100), ago(), "x", size=5))
    with lake.read(T) as reading:
        chosen = select(features(reading.table, T, SHOP), RULES)
        tree = COMPILERS[engine].to_sqlglot(chosen)
    sql = tree.sql(dialect=engine, pretty=True)
    assert "`" in sql if engine == "bigquery" else '"' in sql
    names = dict.fromkeys(re.findall(r"ibis_\w*memtable_\w+", sql))
    for number, name in enumerate(names, 1):  # they are drawn anew in each run
        sql = sql.replace(name, f"small_table_{number}")
    check(ROOT / "tests" / "golden" / "sql" / f"{engine}.sql", sql + "\n")
