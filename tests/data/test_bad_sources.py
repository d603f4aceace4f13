"""Sources that can't be used: one clear error naming the thing and the remedy, and nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from controltower.data.lake import Lake
from controltower.errors import BadSettings, BadSource
from controltower.jobs.ingest import ingest_data
from controltower.settings import Settings

from data.conftest import EVENTS, LINES, ORDERS, PRODUCTS, Ingest, rows

GOOD = PRODUCTS + "p,Lamp,1,GBP\n"


def put(name: str, content: bytes | str) -> Callable[[Path], None]:
    def write(shop: Path) -> None:
        (shop / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


BAD: list[tuple[Callable[[Path], None], str, str]] = [
    # what is wrong, what the error says, the remedy it names
    (lambda shop: shop.rmdir(), "There is no folder", "online-retail"),
    (lambda shop: None, "holds no table of the contract", "customers.csv"),
    (put("products.csv", ""), "products.csv is empty", "Leave the file out"),
    (put("products.csv", "\n\n"), "products.csv is empty", "Leave the file out"),
    (put("products.jsonl", " \n"), "products.jsonl is empty", "Leave the file out"),
    (put("products.parquet", ""), "products.parquet is empty", "Leave the file out"),
    (put("products.parquet", "PAR1 and no more"), "products.parquet is not readable as Parquet", "again"),
    (put("products.csv", "product_id,title\np,Lamp\n"), "products must have: price, currency", "source.yaml"),
    (put("products.jsonl", '{"product_id": "p"}'), "have: title, price, currency. Its columns are: product_id", "Add"),
    (put("products.csv", "product_id,title,title,price,currency\n"), "the column 'title' twice", "each once"),
    (put("products.csv", "product_id,,price,currency\n"), "a column without a name", "The first line"),
    (put("products.csv", GOOD.encode() + "q,조명,1,KRW\n".encode("cp949")), "is not UTF-8: line 3", "encoding: cp949"),
    (put("products.csv", GOOD.encode("utf-16")), "it may be UTF-16", "Save it as UTF-8"),
    (put("products.csv", GOOD.encode() + b"q\0,Lamp,1,GBP\n"), "holds NUL bytes", "Save it as UTF-8"),
    (put("products.csv", GOOD + 'q,"Lamp,1,GBP\nr,Cup,1,GBP\n'), "never ends properly, in the row of line 3", '""'),
    (put("products.jsonl", b'{"product_id": "\xff"}'), "is not UTF-8: line 1", "Save it as UTF-8"),
    (put("source.yaml", "timezone: Korea Time"), "'Korea Time' is not an IANA time zone", "source.yaml"),
    (put("source.yaml", "encoding: utf-8\ntables: {a\n"), "not valid YAML: line 3: expected ',' or '}'", "Correct it"),
    (put("source.yaml", "time_zone: UTC"), "time_zone: unknown key; did you mean 'timezone'?", "source.yaml"),
    (put("source.yaml", "tables: {sales: {}}"), "'sales' is no table of the contract", "order_lines"),
    (put("source.yaml", "tables: {orders: {columns: {Nr: number}}}"), "orders has no column 'number'", "Correct it"),
    (put("source.yaml", "tables: {orders: {file: sales.csv}}"), "orders is in sales.csv, but", "Correct the name"),
    (put("source.yaml", "encoding: klingon\ntables: {products: {file: '*.csv'}}"), "has no such file", "Correct"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "what", "remedy"), BAD)
def test_one_clear_error(conf: Settings, shop: Path, spoil: Callable[[Path], None], what: str, remedy: str) -> None:
    spoil(shop)
    with pytest.raises(BadSource) as error:
        ingest_data(str(shop))
    assert what in error.value.what
    assert remedy in str(error.value)
    assert not (conf.home / "shop.yaml").exists()
    assert not (conf.home / "lake" / "manifest.json").exists()
    assert [f.name for f in (conf.home / "scratch").glob("*")] in ([], [".lock"])


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ("encoding: klingon", "unknown encoding, 'klingon'"),
        ("tables: {products: {columns: {Name: title}}}", "products names the column 'Name', but .*products.csv has no"),
        ("tables: {products: {columns: {title: brand}}}", "lacks what products must have: title"),
        ("tables: {products: {columns: {product_id: title}}}", "Two columns of .*products.csv are products.title"),
    ],
)
def test_mappings_that_do_not_fit_the_file(ingest: Ingest, config: str, what: str) -> None:
    with pytest.raises(BadSource, match=what):
        ingest({"products.csv": GOOD, "source.yaml": config})


def test_no_source(conf: Settings) -> None:
    with pytest.raises(BadSettings, match=r"No source is given.*online-retail"):
        ingest_data()


@pytest.mark.parametrize("name", ["CONTROLTOWER_MEMORY", "CONTROLTOWER_SPILL"])
@pytest.mark.parametrize("value", ["abc", " ", "-1GB", "1", "1GB; DROP"])
def test_a_size_that_is_none(conf: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=f"{name} can't be used: '{value}' is no size such as 512MB"):
        ingest_data("simulated")


@pytest.mark.parametrize("value", ["512MB", "1gb", "1.5 GiB", "1000000000B"])
def test_sizes_that_duckdb_reads(
    conf: Settings, shop: Path, monkeypatch: pytest.MonkeyPatch, ingest: Ingest, value: str
) -> None:
    monkeypatch.setenv("CONTROLTOWER_MEMORY", value)
    monkeypatch.setenv("CONTROLTOWER_SPILL", value)
    assert ingest({"products.csv": GOOD})["tables"]["products"]["loaded"] == 1


@pytest.mark.parametrize("home", ["file", "file/home"])
def test_a_home_that_can_not_be_one(
    conf: Settings, tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    (tmp_path / "file").write_text("")
    (shop / "products.csv").write_text(GOOD)
    monkeypatch.setenv("CONTROLTOWER_HOME", str(tmp_path / home))
    with pytest.raises(BadSettings, match=f"The home .*{home} can't be used.*CONTROLTOWER_HOME"):
        ingest_data(str(shop))


def test_the_source_may_come_from_the_settings(conf: Settings, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "products.csv").write_text(GOOD)
    monkeypatch.setenv("CONTROLTOWER_SOURCE", str(shop))
    assert ingest_data()["tables"]["products"]["loaded"] == 1


def test_a_header_without_rows_is_fine(ingest: Ingest) -> None:
    report = ingest({"products.csv": PRODUCTS, "events.csv": EVENTS})
    assert report["tables"]["products"]["notes"] == ["holds no rows"]


def test_files_that_are_no_table_are_told(ingest: Ingest) -> None:
    report = ingest({"products.csv": GOOD, "product.csv": GOOD})
    assert report["notes"] == ["product.csv belongs to no table of the contract and was not read"]


def test_many_files_of_several_shapes(lake: Lake, ingest: Ingest) -> None:
    report = ingest(
        {
            "orders-2025-01.csv": ORDERS + "o1,2025-01-01,GBP,c,,\n",
            "orders-2025-02.csv": "\ufeff"
            + ORDERS.replace("\n", "\r\n")
            + 'o2,2025-02-01,GBP,c,,\r\n\r\n"o3",2025-02-01,GBP,c,,',
            "orders/extra.jsonl": '{"order_id": "o4", "ordered_at": "2025-03-01", "currency": "GBP"}\nnot json\n',
            "orders/late.ndjson": '{"order_id": "o5", "ordered_at": "2025-03-01", "currency": "GBP"}\n[1]\n\n3',
            "order_lines.csv": LINES + "o1,1,p,1,1\no2,1,p\n",
            "source.yaml": "bad_rows_limit: 0.5",
        }
    )
    orders = report["tables"]["orders"]
    assert (orders["files"], orders["read"], orders["loaded"], orders["broken"]) == (4, 8, 5, {"json": 3})
    assert [row["order_id"] for row in rows(lake, "orders")] == ["o1", "o2", "o3", "o4", "o5"]
    assert report["tables"]["order_lines"]["broken"] == {"columns": 1}


def test_their_names_and_encoding_become_ours(lake: Lake, ingest: Ingest, shop: Path) -> None:
    (shop / "export").mkdir()
    (shop / "export" / "waren.csv").write_bytes("Nr,이름,Preis,Währung,Größe\n7.0,조명,1,KRW,L\n".encode())
    (shop / "customers.csv").write_bytes("customer_id,first_name\nc1,민지\n".encode("cp949"))
    columns = "{Nr: product_id, 이름: title, Preis: price, Währung: currency}"
    ingest(
        {"source.yaml": f"tables: {{products: {{file: export/*.csv, columns: {columns}}}}}"}
        | {"customers.csv": "customer_id,first_name\nc1,민지\n"}
    )
    (row,) = rows(lake, "products")
    assert (row["product_id"], row["title"], row["attributes"]) == ("7", "조명", '{"Größe":"L"}')
    (shop / "customers.csv").write_bytes("customer_id,first_name\nc1,민서\n".encode("cp949"))
    (shop / "export" / "waren.csv").unlink()
    ingest({"source.yaml": "encoding: cp949"})
    assert rows(lake, "customers")[0]["first_name"] == "민서"
