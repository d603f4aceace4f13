"""The same features, profiles and audience rules on every engine, compared row by row with DuckDB's."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from controltower.audiences.rules import Rule
from controltower.audiences.segments import ranked, select
from controltower.data.contract import CONTRACT
from controltower.profiles.features import NAMES, features
from controltower.profiles.journey import journeys
from controltower.profiles.preferences import preferences
from controltower.profiles.rfm import cells
from support.postgres import Postgres
from support.random_shop import random_shop
from support.shop_tables import SHOP, T, ago, lake_with, money, product

RULES = (
    [Rule(column="orders_90d", at_least=1), Rule(column="view_to_cart_90d", at_most=0.5, or_unknown=True)],
    [Rule(column="lifecycle", is_in=["active", "lapsing"]), Rule(column="average_order_value", at_least=10)],
    [Rule(column="orders_total", is_in=["1", "2.0"])],
    [Rule(column="days_since_last_click", at_most=60, or_unknown=True)],
    [Rule(column="propensity_28d", at_least=0.1, at_most=0.3), Rule(column="orders_total", at_most=1000)],  # both ends
    [Rule(column="model_version", is_in=["it's 1", "m2"], or_unknown=True)],
)


class Found(NamedTuple):
    """The features, the customers that each set of rules selects, those who come first by a feature and a score, and
    rows of what else is known of customers."""

    features: pd.DataFrame
    selected: list[list[str]]
    first: list[list[str]]
    profiles: dict[str, list[dict[str, Any]]]


MOST = 20  # of an audience: those that are equal or unknown at its end are cut apart


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """A random shop as of T."""
    shop = random_shop(random.Random(7), ago(300), ago(), "x")
    kin = {"category": "w", "updated_at": ago(250)}  # so that a category has prices enough for bands
    shop["products"] += [product(f"p{n}", price=money(n - 5), **kin) for n in (9, 10)]
    lake = lake_with(tmp_path_factory.mktemp("lake"), shop)
    with lake.read(T) as reading:
        return {name: reading.arrow(reading.table(name)).cast(_schema(name)) for name in CONTRACT}


def _schema(name: str) -> pa.Schema:
    """The contract's, as an engine tells it: any column may be null."""
    return pa.schema([pa.field(f.name, f.type) for f in CONTRACT[name].schema])


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory, tables: dict[str, pa.Table]) -> Found:
    found = _found(_load(ibis.duckdb.connect(), tables, tmp_path_factory.mktemp("wanted")))
    assert all(found.selected), "each rule should select somebody"
    assert len(set(map(len, found.selected))) > 3 and all(len(ids) == MOST for ids in found.first)
    unknown = {name for name in NAMES if found.features[name].isna().all()}
    assert unknown == {"weather", "precipitation"}, "the shop should tell every feature but these"
    told = {column: {r[column] for r in rows} for rows in found.profiles.values() for column in rows[0]}
    assert {c for c, values in told.items() if len(values - {None}) < 2} == set(), "nor is any column of profiles empty"
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


def _found(backend: Any, *, briefly: bool = False) -> Found:
    rows = features(backend.table, T, SHOP).to_pyarrow()
    with TemporaryDirectory() as folder:  # as the lake keeps them
        _load(backend, {"features": rows, "scores": _scores(rows["customer_id"].to_pylist())}, Path(folder))
        kept = backend.table("features").join(backend.table("scores"), "customer_id", how="left")
        selected = [sorted(select(kept, rules).to_pyarrow()["customer_id"].to_pylist()) for rules in RULES]
        first = [
            ranked(select(kept, rules), by, MOST).select("customer_id").to_pyarrow()["customer_id"].to_pylist()
            for rules, by in (((), "propensity_28d"), (RULES[3], "average_order_value"))
        ]
        profiles = {
            "rfm": cells(backend.table("features")),
            "journey": journeys(backend.table, T),
        }
        if not briefly:
            profiles["preferences"] = preferences(backend.table, T, SHOP)
        told = {name: expr.order_by("customer_id").to_pyarrow().to_pylist() for name, expr in profiles.items()}
    return Found(rows.to_pandas().set_index("customer_id"), selected, first, told)


def _scores(customers: list[str]) -> pa.Table:
    """Of two thirds of the customers; equal, unknown and at the rules' very ends."""
    scored = [c for n, c in enumerate(sorted(customers)) if n % 3]
    return pa.table({
        "customer_id": scored,
        "propensity_28d": pa.array([(None, 0.1, 0.3, 0.30000000000000004, 0.2)[n % 5] for n in range(len(scored))]),
        "model_version": pa.array([("it's 1", "m2", None, "M2")[n % 4] for n in range(len(scored))]),
    })  # fmt: skip


def _compare(found: Found, wanted: Found) -> None:
    ours, theirs = found.features, wanted.features
    assert list(ours.index) == list(theirs.index)
    assert list(ours["lifecycle"]) == list(theirs["lifecycle"])
    unequal = {n: int((~(ours[n].eq(theirs[n]) | (ours[n].isna() & theirs[n].isna()))).sum()) for n in NAMES}
    assert {name: count for name, count in unequal.items() if count} == {}
    assert found[1:3] == wanted[1:3]
    for name, rows in found.profiles.items():
        assert rows == wanted.profiles[name], name


def test_postgresql(postgres_server: Postgres, tmp_path: Path, tables: dict[str, pa.Table], wanted: Found) -> None:
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
        .config(
            "spark.driver.extraJavaOptions", f"-Dderby.system.home={tmp_path} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
        )
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.mark.filterwarnings("ignore:Failed to set spark")  # they are the server's, who has them
@pytest.mark.slow
def test_spark(spark: Any, tmp_path: Path, tables: dict[str, pa.Table], wanted: Found) -> None:
    backend = ibis.pyspark.connect(spark)
    _compare(_found(_load(backend, tables, tmp_path), briefly=True), wanted)  # preferences take Spark minutes
