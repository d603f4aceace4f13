"""The shipped sources: a few rows in each public layout, made by hand, become the contract's tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from controltower.data.lake import Lake
from controltower.data.sources import named
from controltower.data.sources.mapping import read
from controltower.errors import BadSource
from controltower.jobs.ingest import ingest_data
from controltower.jobs.sources import list_sources
from controltower.settings import Settings

from data.conftest import rows, utc

Load = Callable[[str, dict[str, str]], dict[str, Any]]


@pytest.fixture
def load(conf: Settings) -> Load:
    """Put files where a shipped source looks for them, and ingest it: nothing may be quarantined."""

    def run(name: str, files: dict[str, str]) -> dict[str, Any]:
        folder = conf.home / "downloads" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        report = ingest_data(name)
        assert not {table: found["broken"] for table, found in report["tables"].items() if found["broken"]}
        loaded: dict[str, Any] = {table: found["loaded"] for table, found in report["tables"].items()}
        return loaded

    return run


def column(lake: Lake, table: str, *names: str) -> list[Any]:
    return [tuple(row.get(name) for name in names) if names[1:] else row.get(names[0]) for row in rows(lake, table)]


def test_retailrocket(load: Load, lake: Lake) -> None:
    at = 1433221332117  # 2015-06-02 05:02:12.117 UTC
    loaded = load(
        "retailrocket",
        {
            "events.csv": "timestamp,visitorid,event,itemid,transactionid\n"
            f"{at},257597,view,355908,\n{at + 1000},257597,addtocart,355908,\n"
            f"{at + 2000},257597,transaction,355908,4000\n",
            "item_properties_part1.csv": "timestamp,itemid,property,value\n"
            f"{at - 9000},355908,categoryid,1338\n{at - 9000},355908,790,n552.000\n{at - 9000},355908,888,n1 x\n",
            "item_properties_part2.csv": "timestamp,itemid,property,value\n"
            f"{at - 8000},355908,available,1\n{at - 7000},355908,790,n15360.000\n{at - 8000},9,available,0\n",
            "category_tree.csv": "categoryid,parentid\n1338,1016\n1016,\n",
        },
    )
    assert loaded == {"products": 3, "events": 3, "orders": 1}
    assert column(lake, "events", "event_name", "visitor_id", "product_id", "order_id") == [
        ("view_item", "257597", "355908", None),
        ("add_to_cart", "257597", "355908", None),
        ("purchase", "257597", "355908", "4000"),
    ]
    assert rows(lake, "events")[0]["occurred_at"] == utc("2015-06-02T05:02:12.117")
    assert column(lake, "products", "category", "price", "in_stock") == [("1016 > 1338", Decimal("15.36"), True)]
    (product,) = rows(lake, "products", "2015-06-02T05:02:03.5")
    assert (product["price"], product.get("in_stock")) == (Decimal("0.552"), None)


def test_rees46(load: Load, lake: Lake) -> None:
    header = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
    at, who = "2019-10-01 00:00", "520088904,4d3b30da-a5e4-49df-b1a8-ba5943f1dd33"
    loaded = load(
        "rees46",
        {
            "2019-Oct.csv": header
            + f"{at}:00 UTC,view,1004856,2053013555631882655,electronics.smartphone,samsung,130.76,{who}\n"
            f"{at}:05 UTC,cart,1004856,2053013555631882655,electronics.smartphone,samsung,130.76,{who}\n"
            f"{at}:09 UTC,purchase,1004856,2053013555631882655,electronics.smartphone,samsung,130.76,{who}\n"
            f"{at}:09 UTC,purchase,1480477,2053013561092866779,,,5.00,{who}\n",
            "2019-Nov.csv": header + f"2019-11-01 09:00:00 UTC,view,1480477,2053013561092866779,,,4.00,{who}\n",
        },
    )
    assert loaded == {"customers": 1, "products": 3, "events": 5, "orders": 1, "order_lines": 2}
    assert column(lake, "events", "event_name")[:4] == ["view_item", "add_to_cart", "purchase", "purchase"]
    assert column(lake, "products", "product_id", "title", "category", "price") == [
        ("1004856", "samsung electronics smartphone 1004856", "electronics > smartphone", Decimal("130.76")),
        ("1480477", "item 1480477", "2053013561092866779", Decimal(4)),
    ]
    assert rows(lake, "orders")[0]["ordered_at"] == utc("2019-10-01T00:00:09")
    assert column(lake, "order_lines", "line_no", "unit_price") == [(1, Decimal("130.76")), (2, Decimal(5))]


def test_dunnhumby(load: Load, lake: Lake) -> None:
    loaded = load(
        "dunnhumby",
        {
            "transaction_data.csv": "household_key,BASKET_ID,DAY,PRODUCT_ID,QUANTITY,SALES_VALUE,STORE_ID,RETAIL_DISC,"
            "TRANS_TIME,WEEK_NO,COUPON_DISC,COUPON_MATCH_DISC\n"
            "2375,26984851472,1,1004906,1,1.39,364,-0.6,1631,1,0,0\n"
            "2375,26984851472,1,1033142,2,0.82,364,0,1631,1,-0.2,0\n"
            "1364,26984896261,2,1033142,0,0,31742,0,1520,1,0,0\n",
            "product.csv": "PRODUCT_ID,MANUFACTURER,DEPARTMENT,BRAND,COMMODITY_DESC,SUB_COMMODITY_DESC,"
            "CURR_SIZE_OF_PRODUCT\n1004906,69,PRODUCE,Private,POTATOES,POTATOES RUSSET (BULK&BAG),5 LB\n"
            "1033142,2,PRODUCE,National,ONIONS,ONIONS SWEET (BULK&BAG),40 LB\n9,2,GROCERY,National,TEA,TEA BAGS, \n",
            "hh_demographic.csv": "AGE_DESC,MARITAL_STATUS_CODE,INCOME_DESC,HOMEOWNER_DESC,HH_COMP_DESC,"
            "HOUSEHOLD_SIZE_DESC,KID_CATEGORY_DESC,household_key\n"
            "65+,A,35-49K,Homeowner,2 Adults No Kids,2,None/Unknown,2375\n",
            "campaign_table.csv": "DESCRIPTION,household_key,CAMPAIGN\nTypeA,2375,26\nTypeA,1364,26\n",
            "campaign_desc.csv": "DESCRIPTION,CAMPAIGN,START_DAY,END_DAY\nTypeA,26,224,264\n",
            "coupon.csv": "COUPON_UPC,PRODUCT_ID,CAMPAIGN\n"
            "10000089061,1004906,26\n10000089061,1033142,26\n10000089064,9,26\n",
            "coupon_redempt.csv": "household_key,DAY,COUPON_UPC,CAMPAIGN\n2375,230,10000089061,26\n",
        },
    )  # fmt: skip
    assert loaded == {"customers": 2, "products": 3, "orders": 2, "order_lines": 2, "coupons": 2, "messages_history": 2,
                      "message_events": 1}  # fmt: skip
    assert rows(lake, "orders")[0]["ordered_at"] == utc("2016-01-01T16:31:00")
    assert column(lake, "order_lines", "product_id", "quantity", "unit_price", "discount") == [
        ("1004906", 1, Decimal("1.99"), Decimal("0.6")),
        ("1033142", 2, Decimal("0.51"), Decimal("0.2")),
    ]
    assert column(lake, "coupons", "coupon_code", "issued_to", "expires_at")[0] == (
        "10000089061-26", "2375", utc("2016-09-20T00:00:00")
    )  # fmt: skip
    assert column(lake, "message_events", "message_id", "event") == [("dh-26-2375", "redeemed")]
    assert '"AGE_DESC":"65+"' in rows(lake, "customers")[1]["attributes"]
    assert column(lake, "products", "title")[2] == "TEA BAGS"


def test_cdnow(load: Load, lake: Lake) -> None:
    loaded = load("cdnow", {"CDNOW_master.txt": " 00001 19970101  1   11.77\n 00002 19970112  1   12.00\n"
                            " 00002 19970112  5   77.00\n"})  # fmt: skip
    assert loaded == {"customers": 2, "products": 1, "orders": 3, "order_lines": 3}
    assert column(lake, "orders", "customer_id", "ordered_at")[2] == ("00002", utc("1997-01-12T00:00:00"))
    assert column(lake, "order_lines", "quantity", "unit_price")[2] == (5, Decimal("15.4"))


UK = "United Kingdom"
LINE = (
    "22423",
    "REGENCY CAKESTAND 3 TIER ",
    2,
    datetime.fromisoformat("2010-12-05T10:00"),
    12.75,
    13085.0,
    "United Kingdom",
)
HEADER = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")
SHEETS = (
    ("489434", 85048, "15CM CHRISTMAS GLASS BALL", 12, datetime.fromisoformat("2009-12-01T07:45"), 6.95, 13085.0, UK),
    ("537000", *LINE), ("537000", *LINE), ("C537001", *LINE[:2], -1, *LINE[3:]),
), (
    ("537000", *LINE), ("537000", *LINE), ("C537001", *LINE[:2], -1, *LINE[3:]),
    ("581587", "POST", "POSTAGE", 1, datetime.fromisoformat("2011-12-09T12:50"), 18, 12680.0, "France"),
    ("581588", "22423", "damaged", -3, datetime.fromisoformat("2011-12-09T12:51"), 0, None, "France"),
)  # fmt: skip


@pytest.mark.parametrize("form", ["xlsx", "csv"])
def test_online_retail_ii(load: Load, lake: Lake, conf: Settings, form: str) -> None:
    """What both sheets tell is taken once; what one tells twice, twice."""
    folder = conf.home / "downloads" / "online-retail-ii"
    folder.mkdir(parents=True)
    if form == "xlsx":
        book = openpyxl.Workbook()
        book.remove(book.worksheets[0])
        for name, lines in zip(("Year 2009-2010", "Year 2010-2011"), SHEETS, strict=True):
            sheet = book.create_sheet(name)
            for line in (HEADER, *lines):
                sheet.append(line)
        book.save(folder / "online_retail_II.xlsx")
    else:
        lines = [",".join("" if v is None else str(v) for v in line) for sheet in SHEETS for line in sheet]
        (folder / "online_retail_II.csv").write_text("\n".join([",".join(HEADER), *lines, ""]))
    loaded = load("online-retail-ii", {})
    assert loaded == {"customers": 2, "products": 3, "orders": 4, "order_lines": 5}
    assert column(lake, "order_lines", "order_id", "line_no", "product_id", "quantity", "unit_price") == [
        ("489434", 1, "85048", 12, Decimal("6.95")),
        ("537000", 1, "22423", 2, Decimal("12.75")),
        ("537000", 2, "22423", 2, Decimal("12.75")),
        ("581587", 1, "POST", 1, Decimal(18)),
        ("C537001", 1, "22423", -1, Decimal("12.75")),
    ]
    assert column(lake, "orders", "order_id", "status", "customer_id")[3] == ("C537001", "returned", "13085")
    assert rows(lake, "orders")[0]["ordered_at"] == utc("2009-12-01T07:45:00")
    assert column(lake, "products", "product_id", "in_stock")[2] == ("POST", False)


def test_messages_that_another_system_sent_through_sendgrid(load: Load, lake: Lake) -> None:
    event = (
        '{"email": "min@customers.example", "timestamp": %d, "event": "%s", "sg_event_id": "%s", "message_id": "m1"}\n'
    )
    loaded = load(
        "sendgrid-log",
        {
            "sends-2025.csv": "message_id,customer_id,campaign,variant,sent_at\nm1,c1,spring,a,2025-03-01T09:00:00Z\n",
            "events-1.jsonl": event % (1740819660, "delivered", "e1")
            + (event % (1740819720, "open", "e2")).replace("}", ', "sg_machine_open": true}'),
            "events-2.jsonl": '{"timestamp": 1, "event": "open", "sg_event_id": "e3"}\n'
            + event % (1740819780, "click", "e4"),
        },
    )
    assert loaded == {"messages_history": 1, "message_events": 3}
    assert rows(lake, "message_events")[1]["attributes"] == '{"machine":true}'
    assert "customers.example" not in str(rows(lake, "message_events"))
    assert column(lake, "messages_history", "channel", "sent_at") == [("email", utc("2025-03-01T09:00:00"))]
    assert column(lake, "message_events", "event", "message_id") == [
        ("delivered", "m1"),
        ("opened", "m1"),
        ("clicked", "m1"),
    ]


def test_messages_that_braze_sent(load: Load, lake: Lake) -> None:
    row = ('{"id": "%s", "event_type": "users.messages.%s", "time": %d, "external_user_id": "c1", "dispatch_id": "d",'
           ' "campaign_name": "spring", "message_variation_id": "v"}\n')  # fmt: skip
    loaded = load(
        "braze-currents",
        {
            "part-0.jsonl": row % ("a", "email.Send", 1740819600) + row % ("b", "email.Delivery", 1740819660),
            "part-1.jsonl": row % ("c", "email.MarkAsSpam", 1740819720)
            + row % ("d", "pushnotification.Open", 1740819780),
        },
    )
    assert loaded == {"messages_history": 1, "message_events": 3}
    assert column(lake, "messages_history", "message_id", "campaign", "variant") == [("d-c1", "spring", "v")]
    assert column(lake, "message_events", "event") == ["delivered", "complained", "opened"]


def test_what_is_shipped_is_valid_and_says_where_its_files_are(conf: Settings) -> None:
    shipped = {file.stem: read(file) for file in named.SHIPPED.glob("*.yaml")}
    assert len(shipped) >= 7
    assert not [s["name"] for s in list_sources() if s["kind"] == "broken"]
    for name, config in shipped.items():
        assert config.location == f"downloads/{name}" and f"HOME/downloads/{name}" in config.about
        with pytest.raises(BadSource, match=f"There is no folder .*{name}. .*HOME/downloads/{name}"):
            ingest_data(name)


@pytest.mark.parametrize(
    ("sheets", "said"),
    [(None, "not readable as a workbook"), ([], "is empty"), ([("a", "b"), ("a", "c")], "have different columns")],
)
def test_workbooks_that_can_not_be_read(conf: Settings, tmp_path: Path, sheets: Any, said: str) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "x.xlsx").write_text("no workbook")
    if sheets is not None:
        book = openpyxl.Workbook()
        for header in sheets:
            book.create_sheet().append(header)
        book.save(shop / "x.xlsx")
    (shop / "source.yaml").write_text("files: {x: x.xlsx}\ntables: {orders: {query: SELECT * FROM x}}")
    with pytest.raises(BadSource, match=said):
        ingest_data(str(shop))
