"""A database as a source, on SQLite and PostgreSQL: what an interval reads of it, and what it is never asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from controltower.data.lake import Lake
from controltower.data.sources import sql
from controltower.errors import BadSource
from controltower.jobs.ingest import ingest_data
from controltower.jobs.sources import check_source
from controltower.settings import Settings

from data.conftest import rows

MADE = """
CREATE TABLE "Sale" (nr integer, placed timestamp, "changed at" timestamp, who text, paid numeric(12,2));
INSERT INTO "Sale" VALUES (1, '2025-06-01 10:00:00', '2025-06-01 10:00:00', 'c1', 12.50);
INSERT INTO "Sale" VALUES (2, '2025-06-02 00:00:00', '2025-06-02 00:00:00', 'c2', 7);
INSERT INTO "Sale" VALUES (3, '2025-06-02 23:59:59', '2025-06-02 23:59:59', NULL, NULL);
INSERT INTO "Sale" VALUES (4, '2025-06-03 00:00:00', '2025-06-03 00:00:00', 'c1', 1);
CREATE TABLE member (id text, mail text, note text);
INSERT INTO member VALUES ('c1', 'min@customers.example', 'a:b'), ('c2', NULL, 'x::y');
"""
CONFIG: dict[str, Any] = {
    "kind": "sql",
    "connection": "shop_db",
    "timezone": "UTC",
    "tables": {
        "customers": {"query": "SELECT id AS customer_id, mail AS email, note FROM member WHERE note <> ':z';"},
        "orders": {
            "table": "Sale",
            "cursor": "changed at",
            "columns": {"nr": "order_id", "placed": "ordered_at", "who": "customer_id"},
            "expressions": {"currency": "'KRW'", "shipping": "paid / 100"},
        },
    },
}


@pytest.fixture
def database(empty_database: str, conf: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Engine]:
    """A shop's database, named by the connection shop_db as outside Airflow."""
    plain = empty_database.replace("postgresql+psycopg://", "postgres://")  # as Airflow writes it
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", plain)
    engine = sa.create_engine(empty_database)
    with engine.begin() as connection:
        for statement in MADE.strip().split(";\n"):
            connection.exec_driver_sql(statement.rstrip(";"))
    yield engine
    engine.dispose()


@pytest.fixture
def source(conf: Settings) -> Callable[..., str]:
    """Write the source `teas`, with changes to its orders; returns its name."""

    def write(config: dict[str, Any] = CONFIG, **orders: Any) -> str:
        made = json.loads(json.dumps(config))
        made["tables"]["orders"] |= orders
        made["tables"]["orders"] = {k: v for k, v in made["tables"]["orders"].items() if v is not None}
        (conf.home / "sources").mkdir(exist_ok=True)
        (conf.home / "sources" / "teas.yaml").write_text(json.dumps(made))
        return "teas"

    return write


def change(database: sa.Engine, statement: str) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(statement)


def orders(lake: Lake) -> dict[str, str]:
    """Order -> when it was known."""
    return {row["order_id"]: row["updated_at"].isoformat()[:19] for row in rows(lake, "orders")}


def test_all_of_history(database: sa.Engine, source: Callable[..., str], lake: Lake) -> None:
    report = ingest_data(source(), end="2025-06-03")
    assert report["tables"]["orders"]["read"] == 3  # the fourth was known at the end, not before it
    first = rows(lake, "orders")[0]
    assert (first["customer_id"], first["currency"], str(first["shipping"])) == ("c1", "KRW", "0.1250")
    assert json.loads(first["attributes"]) == {"changed at": first["updated_at"].isoformat()[:19].replace("T", " ")}
    assert orders(lake) == {"1": "2025-06-01T10:00:00", "2": "2025-06-02T00:00:00", "3": "2025-06-02T23:59:59"}
    assert [json.loads(row["attributes"])["note"] for row in rows(lake, "customers")] == ["a:b", "x::y"]


def test_an_interval_reads_what_its_cursor_says(database: sa.Engine, source: Callable[..., str], lake: Lake) -> None:
    report = ingest_data(source(), "2025-06-02", "2025-06-03")["tables"]["orders"]
    assert (report["read"], report["loaded"]) == (2, 2)
    assert ingest_data("teas", "2025-06-02", "2025-06-03")["tables"]["orders"]["loaded"] == 2  # again: replaced
    assert sorted(orders(lake)) == ["2", "3"]


def test_what_was_committed_late_is_read_by_the_next_interval(
    database: sa.Engine, source: Callable[..., str], lake: Lake
) -> None:
    ingest_data(source(), "2025-06-02", "2025-06-03")
    change(database, "INSERT INTO \"Sale\" VALUES (5, '2025-06-02 23:30:00', '2025-06-02 23:30:00', 'c1', 1)")
    change(database, "INSERT INTO \"Sale\" VALUES (6, '2025-06-02 22:30:00', '2025-06-02 22:30:00', 'c1', 1)")
    report = ingest_data("teas", "2025-06-03", "2025-06-04")["tables"]["orders"]
    assert (report["read"], report["loaded"], report["duplicates"]) == (3, 2, 1)
    assert orders(lake) == {
        "2": "2025-06-02T00:00:00", "3": "2025-06-02T23:59:59", "4": "2025-06-03T00:00:00",
        "5": "2025-06-03T00:00:00",  # it reached us in this interval; 6 lies before the overlap of an hour
    }  # fmt: skip


def test_a_table_without_a_cursor_is_known_at_the_end_of_the_day_it_is_loaded_for(
    database: sa.Engine, source: Callable[..., str], lake: Lake
) -> None:
    """The clock stands at 2026-01-01. The next day's load finds the same rows again, and adds only what changed."""
    first = ingest_data(source(), "2025-12-31", "2026-01-01")
    assert first["tables"]["customers"]["loaded"] == 2
    assert {row["updated_at"].isoformat() for row in rows(lake, "customers")} == {"2025-12-31T23:59:59+00:00"}
    past = ingest_data("teas", "2025-06-01", "2025-06-02")
    assert (past["tables"]["customers"]["loaded"], past["tables"]["customers"]["outside"]) == (0, 2)
    assert "customers has no cursor, and is read as it is now" in past["notes"][0]


def test_it_streams_in_batches_whatever_types_they_have(
    database: sa.Engine, source: Callable[..., str], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "_BATCH", 1)
    ingest_data(source(), end="2025-06-04")
    assert sorted(orders(lake)) == ["1", "2", "3", "4"]
    assert [row.get("customer_id") for row in rows(lake, "orders")] == ["c1", "c2", None, "c1"]


@pytest.mark.parametrize(
    ("change_to", "said"),
    [
        ({"table": "Sail"}, "refuses the table of orders: "),
        ({"table": None, "query": "DELETE FROM member"}, "refuses the query of orders: "),
        ({"table": None, "query": "SELECT 1 AS nr; DROP TABLE member"}, "refuses the query of orders: "),
        ({"cursor": "nr"}, "The cursor nr holds no times, but int"),
        ({"cursor": "changed"}, "refuses the table of orders: |cursor changed holds no times"),
        (
            {"table": None, "query": 'SELECT nr, nr FROM "Sale"', "cursor": None},
            "has the column 'nr' twice|names the column 'placed'",
        ),
        ({"columns": {"nrr": "order_id"}}, "names the column 'nrr', but .*did you mean 'nr'"),
    ],
)
def test_what_can_not_be_read(
    database: sa.Engine, source: Callable[..., str], change_to: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadSource, match=said):
        ingest_data(source(**change_to))
    with database.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM member").scalar() == 2


def test_nothing_can_be_written(database: sa.Engine) -> None:
    with pytest.raises(BadSource, match="can't be read"), sql._reading(database.url) as reading:
        reading.exec_driver_sql("DELETE FROM member", execution_options={"stream_results": False})
        reading.exec_driver_sql("COMMIT", execution_options={"stream_results": False})
    with database.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM member").scalar() == 2


def test_a_check_reads_some_rows(
    database: sa.Engine, source: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controltower.data.sources.check.check.__defaults__", (20, 2))
    report = check_source(source())
    assert report["tables"]["orders"]["read"] == 2
    assert [row["customer_id"] for row in report["tables"]["customers"]["rows"]] == ["c1", "c2"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"connection": "other"}, "finds no connection other. Make it in Airflow, or set AIRFLOW_CONN_OTHER"),
        ({"connection": None}, "names no database. Add `connection:` or `url:`"),
        ({"connection": None, "url": "postgresql+psycopg://u@127.0.0.1:1/x"}, "The database can't be read: "),
        ({"connection": None, "url": "nosuch://h/d"}, "There is no driver for nosuch"),
        ({"connection": None, "url": "nonsense"}, "no URL such as"),
        ({"tables": {}}, "names no tables"),
        ({"tables": {"orders": {}}}, "tables.orders names no table"),
        ({"encoding": "cp949"}, "encoding says nothing to a source of kind sql"),
    ],
)
def test_a_database_that_is_not_there(conf: Settings, config: dict[str, Any], said: str) -> None:
    (conf.home / "sources").mkdir()
    made = {k: v for k, v in (CONFIG | config).items() if v is not None}
    (conf.home / "sources" / "teas.yaml").write_text(json.dumps(made))
    with pytest.raises(BadSource) as error:
        ingest_data("teas")
    assert said in str(error.value)


def test_a_connection_that_is_no_url(conf: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "se:cret")
    (conf.home / "sources").mkdir()
    (conf.home / "sources" / "teas.yaml").write_text(json.dumps(CONFIG | {"connection": "other"}))
    with pytest.raises(BadSource, match="The connection of the source teas is no URL of a database") as error:
        ingest_data("teas")
    assert "cret" not in str(error.value)


@pytest.mark.parametrize("text", ["2025-06-02 00:00:00", "2025-06-02T00:00:00Z", "2025-06-02"])
def test_times_that_a_database_keeps_as_text(conf: Settings, lake: Lake, tmp_path: Path, text: str) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    change(engine, "CREATE TABLE sale (nr, at)")
    for nr, day in enumerate(("01", "02", "03"), start=1):
        change(engine, f"INSERT INTO sale VALUES ({nr}, '{text.replace('-02', f'-{day}')}')")
    engine.dispose()
    (conf.home / "sources").mkdir()
    made = {
        "kind": "sql", "url": f"sqlite:///{tmp_path / 'shop.db'}", "timezone": "UTC",
        "tables": {"orders": {"table": "sale", "cursor": "at", "columns": {"nr": "order_id", "at": "ordered_at"},
                              "expressions": {"currency": "'KRW'"}}},
    }  # fmt: skip
    (conf.home / "sources" / "teas.yaml").write_text(json.dumps(made))
    ingest_data("teas", "2025-06-02", "2025-06-03")
    assert sorted(orders(lake)) == ["2"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_cursors_of_each_kind_on_postgresql(
    conf: Settings, lake: Lake, postgres_server: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A day in Seoul is what its clock says, whatever the zone of the database's session."""
    with postgres_server.database() as url:
        engine = sa.create_engine(url)
        change(engine, f"CREATE TABLE sale (nr integer, at {kind}, data jsonb, id uuid)")
        offset = "+09" if kind == "timestamptz" else ""
        for nr, at in enumerate(("01 22:59", "02 00:00", "02 23:59", "03 00:00"), start=1):
            row = f"{nr}, '2025-06-{at}{offset}', '{{\"a\": {nr}}}', gen_random_uuid()"
            change(engine, f"INSERT INTO sale VALUES ({row})")
        engine.dispose()
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", url)
        orders_ = {"table": "public.sale", "cursor": "at", "columns": {"nr": "order_id", "at": "ordered_at", "data":
                   "attributes"}, "expressions": {"currency": "'KRW'"}}  # fmt: skip
        (conf.home / "sources").mkdir()
        made = CONFIG | {"timezone": "Asia/Seoul", "tables": {"orders": orders_}}
        (conf.home / "sources" / "teas.yaml").write_text(json.dumps(made))
        ingest_data("teas", "2025-06-02T00:00+09:00", "2025-06-03T00:00+09:00")
    assert sorted(orders(lake)) == ["2", "3"]
    assert json.loads(rows(lake, "orders")[0]["attributes"])["a"] == 2
