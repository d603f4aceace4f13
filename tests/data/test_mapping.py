"""Mappings: their columns and expressions become ours, on CSV, JSON Lines and Parquet alike."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower.data import quarantine
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.errors import BadSource
from controltower.jobs.ingest import ingest_data

from data.conftest import Ingest, rows, utc

MAPPING = """
timezone: Asia/Seoul
bad_rows_limit: 0.5
tables:
  products:
    file: items*
    columns: { Nr: product_id, Name: title }
    expressions:
      price: price_cents / 100.0
      currency: "'KRW'"
      in_stock: stock > 0
      attributes: "{'shelf': shelf, 'stock': CAST(stock AS INTEGER)}"
    where: kind = 'goods'
"""
ITEMS = [
    {"Nr": "1", "Name": "조명", "price_cents": "123450", "stock": "3", "shelf": "A", "kind": "goods", "hue": "red"},
    {"Nr": "2", "Name": "컵", "price_cents": "99", "stock": "0", "shelf": None, "kind": "goods", "hue": None},
    {"Nr": "3", "Name": "배송", "price_cents": "1", "stock": "0", "shelf": None, "kind": "service", "hue": None},
    {"Nr": "4", "Name": "꽃", "price_cents": "dear", "stock": "1", "shelf": None, "kind": "goods", "hue": None},
]


def write(shop: Path, form: str, name: str, given: list[dict[str, Any]]) -> Path:
    """The rows as a file of that form; of CSV and JSON Lines as texts."""
    file = shop / f"{name}.{form}"
    if form == "csv":
        lines = [",".join(given[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in given)]
        file.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    elif form == "jsonl":
        file.write_text("".join(json.dumps(row, default=str) + "\n" for row in given), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(given), file)
    return file


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_columns_expressions_and_where(lake: Lake, ingest: Ingest, shop: Path, form: str) -> None:
    write(shop, form, "items", ITEMS)
    report = ingest({"source.yaml": MAPPING})["tables"]["products"]
    assert (report["read"], report["loaded"], report["broken"]) == (3, 2, {"money of price": 1})
    assert report["notes"] == [
        "1 rows are left out by the mapping's `where`",
        "2 rows carry no updated_at: taken as known from available_from, or from the beginning where that is empty or"
        " still to come",
    ]
    lamp, cup = ({k: row[k] for k in row if k != "updated_at"} for row in rows(lake, "products"))
    assert json.loads(lamp.pop("attributes")) == {"shelf": "A", "stock": 3, "kind": "goods", "hue": "red"}
    assert lamp == {"product_id": "1", "title": "조명", "price": Decimal("1234.5"), "currency": "KRW", "in_stock": True}
    assert (cup["price"], cup["in_stock"]) == (Decimal("0.99"), False)
    (bad,) = quarantine.read(lake).to_pylist()
    # the value as it came, and its line in their file
    assert (bad["key"], bad["value"], bad["line"]) == ("4", "dear", {"csv": 5, "jsonl": 4, "parquet": 4}[form])


def test_typed_parquet_is_reckoned_with_as_it_is(lake: Lake, ingest: Ingest, shop: Path) -> None:
    given = [{"Nr": 1, "Name": "a", "price_cents": 250, "stock": 1.0, "shelf": "A", "kind": "goods"}]
    write(shop, "parquet", "items", given)
    ingest({"source.yaml": MAPPING})
    assert rows(lake, "products")[0]["price"] == Decimal("2.5")


def test_an_expression_over_a_column_of_its_own_name(lake: Lake, ingest: Ingest) -> None:
    """The raw column is used up: it isn't kept in attributes as well."""
    mapping = "tables: {customers: {expressions: {email: lower(email), timezone: \"'Asia/Seoul'\"}}}"
    ingest({"customers.csv": "customer_id,email,zone\nc,Min@Customers.Example,KST\n\n", "source.yaml": mapping})
    (row,) = rows(lake, "customers")
    assert row["email"] == "min@customers.example"
    assert json.loads(row["attributes"]) == {"zone": "KST"}


def test_a_consent_whose_expression_fails_still_withdraws(ingest: Ingest) -> None:
    mapping = "bad_rows_limit: 1\ntables: {consents: {expressions: {granted: CAST(ok AS BOOLEAN)}}}"
    text = "customer_id,channel,purpose,recorded_at,ok,source\nc,email,marketing,2025-01-01,perhaps,form\n"
    report = ingest({"consents.csv": text, "source.yaml": mapping})
    assert report["tables"]["consents"]["broken"] == {"flag of granted": 1}
    assert report["consents"] == 1


PRODUCT = "product_id,title,price,currency\np,Lamp,1,GBP\n"
BAD = [
    ("tables: {products: {columns: {x: titel}}}", "products has no column 'titel'; did you mean 'title'?"),
    ("tables: {product: {}}", "'product' is no table of the contract; did you mean 'products'?"),
    ("tables: {products: {expressions: {titel: x}}}", "products has no column 'titel'; did you mean 'title'?"),
    ("tables: {products: {expression: {title: x}}}", "expression: unknown key; did you mean 'expressions'?"),
    ("tables: {products: {expressions: {title: lower(}}}", "tables.products.expressions: title: 'lower(', character 7"),
    (
        "tables: {products: {where: (SELECT true)}}",
        "products.where: '(SELECT true)', character 1: a query can't",
    ),
    ("tables: {products: {columns: {x: title}, expressions: {title: y}}}", "title has both a column and an expression"),
    ("tables: {products: {file: x.csv, query: SELECT 1}}", "file and query: give one of them"),
    ("tables: {products: {cursor: x}}", "tables.products.cursor says nothing to a source of kind folder"),
    ("url: sqlite:///x", "url says nothing to a source of kind folder"),
    ("kind: sql\nurl: 'postgresql://u:secret@h/d'", "no password may stand here"),
    ("kind: sql", "is of kind sql"),
    ("tables: {products: {columns: {Titel: title}}}", "products names the column 'Titel', but"),
    ("tables: {products: {columns: {titles: brand}}}", "has no such column; did you mean 'title'?"),
    (
        "tables: {products: {expressions: {price: pricee / 100}}}",
        "'pricee', which .* lacks; did you mean 'price'?",
    ),
    ("tables: {products: {where: current_date > '2025'}}", "names 'current_date', which .* lacks"),
    ("tables: {products: {expressions: {price: 'round(price, 2)'}}}", "of products.price can't run: .*CAST"),
]


@pytest.mark.parametrize(("config", "said"), BAD)
def test_what_is_wrong_with_a_mapping(ingest: Ingest, config: str, said: str) -> None:
    with pytest.raises(BadSource) as error:
        ingest({"products.csv": PRODUCT, "source.yaml": config})
    found = str(error.value)
    assert all(part in found for part in said.split(".*")), found
    assert "secret" not in found


def test_a_query_makes_orders_of_sale_lines(lake: Lake, ingest: Ingest, shop: Path) -> None:
    source = """
        files: {sales: "sales-*.csv"}
        tables:
          orders:
            query: SELECT DISTINCT nr AS order_id, day AS ordered_at, 'KRW' AS currency FROM sales
          order_lines:
            query: >
              SELECT nr, row_number() OVER (PARTITION BY nr ORDER BY item) AS line_no, item AS product_id,
              qty AS quantity, CAST(paid AS DOUBLE) / CAST(qty AS DOUBLE) AS unit_price FROM sales
            columns: {nr: order_id}
    """
    report = ingest(
        {"sales-1.csv": "nr,day,item,qty,paid\n7,2025-06-01,a,2,10\n7,2025-06-01,b,1,3\n",
         "sales-2.csv": "day,nr,item,qty,paid\n2025-06-02,8,a,1,5\n", "source.yaml": source}
    )  # fmt: skip
    assert [row["order_id"] for row in rows(lake, "orders")] == ["7", "8"]
    assert [(row["line_no"], row["unit_price"]) for row in rows(lake, "order_lines")] == [(1, 5), (2, 3), (1, 5)]
    assert report["notes"] == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM read_csv('{shop}/secret.csv')", "can't run: Permission Error"),
        ("SELECT * FROM '{shop}/secret.csv'", "can't run: "),
        ("SET enable_external_access = true", "is not one SELECT"),
        ("COPY (SELECT 1) TO '{shop}/out.csv'", "is not one SELECT"),
        ("SELECT 1; SELECT 2", "is not one SELECT"),
        ("SELECT * FROM orders", "can't run: Catalog Error"),
    ],
)
def test_a_query_reads_its_files_and_nothing_else(ingest: Ingest, shop: Path, query: str, said: str) -> None:
    config = {"files": {"sales": "sales.csv"}, "tables": {"orders": {"query": query.format(shop=shop)}}}
    with pytest.raises(BadSource, match=said) as error:
        ingest({"sales.csv": "nr\n1\n", "secret.csv": "token\nabc\n", "source.yaml": json.dumps(config)})
    assert "It may read sales" in error.value.remedy
    assert not (shop / "out.csv").exists()


@pytest.mark.parametrize(
    ("expression", "line", "said"),
    [
        ("CAST(day AS DATE)", "8,1.6.,zq", "can't convert: .*sales.csv line 3"),
        ("strptime(day, '%Y-%m-%d')", "8,1.6.,zq", "can't convert: .*sales.csv line 3"),
        ("day", "8,2025-06-01", "line 3 has 2 fields, 3 expected"),
    ],
)
def test_a_line_that_a_query_cannot_read_is_told(
    ingest: Ingest, shop: Path, expression: str, line: str, said: str
) -> None:
    query = f"SELECT nr AS order_id, {expression} AS ordered_at, 'KRW' AS currency FROM sales"
    config = {"files": {"sales": "sales.csv"}, "tables": {"orders": {"query": query}}}
    with pytest.raises(BadSource, match=said) as error:
        ingest({"sales.csv": f"nr,day,who\n7,2025-06-01,a\n{line}\n", "source.yaml": json.dumps(config)})
    assert "zq" not in str(error.value) and "1.6." not in str(error.value)
    query = query.replace("CAST", "TRY_CAST").replace("strptime", "try_strptime")
    config = {"files": {"sales": "sales.csv"}, "bad_rows_limit": 0.5, "tables": {"orders": {"query": query}}}
    report = ingest({"sales.csv": "nr,day,who\n7,2025-06-01,a\n8,1.6.,zq\n", "source.yaml": json.dumps(config)})
    assert (report["tables"]["orders"]["loaded"], report["tables"]["orders"]["quarantined"]) == (1, 1)


SAMPLE: dict[str, Any] = {
    "key": "k1", "text": "text", "word": "email", "time": "2025-05-01T10:00:00Z", "date": "2025-05-01", "money": "12.5",
    "number": "1.5", "integer": "2", "flag": "true", "json": '{"a": 1}',
}  # fmt: skip
SHAPED = {"email": "c@customers.example", "locale": "ko-KR", "timezone": "Asia/Seoul", "country": "KR",
          "currency": "KRW", "event_name": "purchase", "purpose": "marketing", "channel": "email",
          "status": "placed"}  # fmt: skip
TYPED = {"money": Decimal("12.5"), "number": 1.5, "integer": 2, "flag": True}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_every_table_of_the_contract_loads_whole(lake: Lake, shop: Path, conf: Any, form: str) -> None:
    """A row with every column, of every table, comes out as it went in."""
    for name, table in CONTRACT.items():
        row = {c.name: SHAPED.get(c.name, SAMPLE[c.type.value]) for c in table.columns}
        if form == "csv":
            del row["attributes"]  # its commas
        if form == "parquet":
            row |= {c.name: TYPED[c.type.value] for c in table.columns if c.type.value in TYPED}
            row |= {c.name: utc("2025-05-01T10:00:00") for c in table.columns if c.type.value == "time"}
        write(shop, form, name, [row])
    tables = ingest_data(str(shop))["tables"]
    assert {name: (report["loaded"], report["broken"]) for name, report in tables.items()} == dict.fromkeys(
        CONTRACT, (1, {})
    )
    for name, table in CONTRACT.items():
        with lake.read() as reading:
            (found,) = reading.arrow(reading.table(name)).select([c.name for c in table.columns]).to_pylist()
        assert [c for c, value in found.items() if value is None] == (["attributes"] if form == "csv" else []), name
        for column in table.columns:
            if column.type.value in TYPED:
                assert found[column.name] == TYPED[column.type.value], (name, column.name)
            if column.type.value == "time":
                assert found[column.name] == utc("2025-05-01T10:00:00")
