"""The same features and audience rules on every engine, compared row by row with DuckDB's."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from controltower.audiences.rules import Rule
from controltower.audiences.segments import select
from controltower.data.contract import CONTRACT
from controltower.profiles.features import NAMES, features
from support.postgres import Postgres
from support.random_shop import random_shop
from support.shop_tables import SHOP, T, ago, lake_with

RULES = (
    [Rule(column="orders_90d", at_least=1), Rule(column="view_to_cart_90d", at_most=0.5, or_unknown=True)],
    [Rule(column="lifecycle", is_in=["active", "lapsing"]), Rule(column="average_order_value", at_least=10)],
    [Rule(column="orders_total", is_in=["1", "2.0"])],
    [Rule(column="days_since_last_click", at_most=60, or_unknown=True)],
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """A random shop as of T."""
    lake = lake_with(tmp_path_factory.mktemp("lake"), random_shop(random.Random(7), ago(300), ago(), "x"))
    with lake.read(T) as reading:
        return {name: reading.arrow(reading.table(name)).cast(_schema(name)) for name in CONTRACT}


def _schema(name: str) -> pa.Schema:
    """The contract's, as an engine tells it: any column may be null."""
    return pa.schema([pa.field(f.name, f.type) for f in CONTRACT[name].schema])


@pytest.fixture(scope="module")
def wanted(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, pa.Table]
) -> tuple[pd.DataFrame, list[list[str]]]:
    found = _found(_load(ibis.duckdb.connect(), tables, tmp_path_factory.mktemp("wanted")))
    assert all(found[1]), "each rule should select somebody"
    unknown = {name for name in NAMES if found[0][name].isna().all()}
    assert unknown == {"weather", "precipitation"}, "the shop should tell every feature but these"
    return found


def _load(backend: Any, tables: dict[str, pa.Table], folder: Path) -> Any:
    """Spark reads files (through a data frame a null would become NaN), the others take the rows."""
    for name, rows in tables.items():
        if backend.name == "pyspark":
            pq.write_table(rows, folder / f"{name}.parquet")
            backend.read_parquet(folder / f"{name}.parquet", table_name=name)
        else:
            backend.create_table(name, rows)
    return backend


def _found(backend: Any) -> tuple[pd.DataFrame, list[list[str]]]:
    """The features, and the customers that each set of rules selects."""
    rows = features(backend.table, T, SHOP).to_pyarrow()
    with TemporaryDirectory() as folder:  # as the lake keeps them
        _load(backend, {"features": rows}, Path(folder))
        kept = backend.table("features")
        selected = [sorted(select(kept, rules).to_pyarrow()["customer_id"].to_pylist()) for rules in RULES]
    return rows.to_pandas().set_index("customer_id"), selected


def _compare(found: tuple[pd.DataFrame, list[list[str]]], wanted: tuple[pd.DataFrame, list[list[str]]]) -> None:
    ours, theirs = found[0], wanted[0]
    assert list(ours.index) == list(theirs.index)
    assert list(ours["lifecycle"]) == list(theirs["lifecycle"])
    unequal = {n: int((~(ours[n].eq(theirs[n]) | (ours[n].isna() & theirs[n].isna()))).sum()) for n in NAMES}
    assert {name: count for name, count in unequal.items() if count} == {}
    assert found[1] == wanted[1]


def test_postgresql(
    postgres_server: Postgres, tmp_path: Path, tables: dict[str, pa.Table], wanted: tuple[pd.DataFrame, list[list[str]]]
) -> None:
    with postgres_server.database() as url:
        name = sa.engine.make_url(url).database
        backend = ibis.postgres.connect(host=postgres_server.socket_folder, user="postgres", database=name)
        try:
            _compare(_found(_load(backend, tables, tmp_path)), wanted)
        finally:
            backend.disconnect()


@pytest.fixture
def spark(tmp_path: Path) -> Iterator[Any]:
    """Spark in a server of its own, reached through Spark Connect as a cluster is."""
    if not shutil.which("java"):
        pytest.skip("Spark needs Java, and there is none here")
    from pyspark.sql import SparkSession

    builder: Any = SparkSession.builder
    session = (
        builder.remote("local[1]")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.warehouse.dir", str(tmp_path / "warehouse"))
        .config("spark.driver.extraJavaOptions", f"-Dderby.system.home={tmp_path}")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.mark.filterwarnings("ignore:Failed to set spark")  # they are the server's, who has them
@pytest.mark.slow
def test_spark(
    spark: Any, tmp_path: Path, tables: dict[str, pa.Table], wanted: tuple[pd.DataFrame, list[list[str]]]
) -> None:
    backend = ibis.pyspark.connect(spark)
    _compare(_found(_load(backend, tables, tmp_path)), wanted)
