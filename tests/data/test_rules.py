"""Each rule of the contract: what breaks it is in quarantine by its name; the rest is loaded in the right types."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower import settings
from controltower.data import quarantine
from controltower.data.lake import Lake
from controltower.jobs.ingest import ingest_data

from data.conftest import CONSENTS, CUSTOMERS, EVENTS, LINES, ORDERS, PRODUCTS, Ingest, good_customers, rows, utc

LENIENT = {"source.yaml": "bad_rows_limit: 1"}

BAD = [
    # table, header, the bad row (CSV), rule, column, the value that quarantine shows
    ("customers", CUSTOMERS, ",,a@b.example,,,", "required", "customer_id", None),
    ("customers", CUSTOMERS, "c,,not an address,,,", "email", "email", "xxx xx xxxxxxx"),
    ("customers", CUSTOMERS, "c,,a@b@c.example,,,", "email", "email", "x@x@x.xxxxxxx"),
    ("customers", CUSTOMERS, "c,,,ko_KR,,", "locale", "locale", "ko_KR"),
    ("customers", CUSTOMERS, "c,,,,Seoul,", "timezone", "timezone", "Seoul"),
    ("customers", CUSTOMERS, "c,yesterday,,,,", "time", "updated_at", "yesterday"),
    ("customers", CUSTOMERS, "c,01/02/2025,,,,", "time", "updated_at", "01/02/2025"),
    ("customers", CUSTOMERS, "c,,,,,2099-01-01", "future", "signed_up_at", "2099-01-01"),
    ("customers", "customer_id,birth_date\n", "c,31.12.1999", "date", "birth_date", "99.99.9999"),
    ("customers", "customer_id,country\n", "c,Korea", "country", "country", "Korea"),
    ("customers", "customer_id,points\n", "c,many", "number", "points", "many"),
    ("customers", "customer_id,points\n", "c,inf", "number", "points", "inf"),
    ("customers", "customer_id,attributes\n", "c,[1]", "json", "attributes", "[9]"),
    ("products", PRODUCTS, "p,,1,GBP", "required", "title", None),
    ("products", PRODUCTS, 'p,Lamp,"1,50",GBP', "money", "price", "1,50"),
    ("products", PRODUCTS, "p,Lamp,-1,GBP", "negative", "price", "-1"),
    ("products", PRODUCTS, "p,Lamp,1,Pound", "currency", "currency", "Pound"),
    ("products", "product_id,title,price,currency,in_stock\n", "p,Lamp,1,GBP,maybe", "flag", "in_stock", "maybe"),
    ("events", EVENTS, "e,2025-02-30,view_item,,c,", "time", "occurred_at", "2025-02-30"),
    ("events", EVENTS, "e,2026-01-01T00:06:00Z,view_item,,c,", "future", "occurred_at", "2026-01-01T00:06:00Z"),
    ("events", EVENTS, "e,2025-01-01,view item,,c,", "event_name", "event_name", "view item"),
    ("events", EVENTS, "e,2025-01-01,purchase,,c,-5", "negative", "value", "-5"),
    ("orders", ORDERS, "o,2025-01-01,GBP,c,,lost", "status", "status", "lost"),
    ("order_lines", LINES, "nowhere,1,p,1,1", "order", "order_id", "nowhere"),
    ("order_lines", LINES, "o1,1.5,p,1,1", "integer", "line_no", "1.5"),
    ("order_lines", LINES, "o1,1,p,1,-1", "negative", "unit_price", "-1"),
    ("consents", CONSENTS, "c,E-Mail,marketing,2025-01-01,true,shop", "channel", "channel", "E-Mail"),
    ("consents", CONSENTS, "c,email,spam,2025-01-01,true,shop", "purpose", "purpose", "spam"),
    ("consents", CONSENTS, "c,email,marketing,2025-01-01,perhaps,shop", "flag", "granted", "perhaps"),
    ("consents", CONSENTS, "c,email,marketing,,true,shop", "required", "recorded_at", None),
    ("identities", "kind,value,seen_at\n", "login,kim,2025-01-01", "required", "customer_id", None),
    ("devices", "device_id,last_seen_at\n", "d,2027-01-01", "future", "last_seen_at", "2027-01-01"),
]


@pytest.fixture(scope="module")
def all_bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """All of BAD in one load, each row in a file of its own. Returns quarantine's rows by file."""
    shop, home = tmp_path_factory.mktemp("shop"), tmp_path_factory.mktemp("home")
    (shop / "source.yaml").write_text(LENIENT["source.yaml"])
    (shop / "orders-good.csv").write_text(ORDERS + "o1,2025-01-01,GBP,c,,placed\n")
    for i, (table, header, row, *_) in enumerate(BAD):
        (shop / f"{table}-{i}.csv").write_text(f"{header}{row}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTROLTOWER_HOME", str(home))
        patch.setenv("CONTROLTOWER_NOW", "2026-01-01T00:00:00+00:00")
        patch.setenv("CONTROLTOWER_SPEED", "0")
        tables = ingest_data(str(shop))["tables"]
        bad = quarantine.read(Lake(settings.load())).to_pylist()
    assert sum(found["quarantined"] for found in tables.values()) == len(bad) == len(BAD)
    assert {table: found["loaded"] for table, found in tables.items() if found["loaded"]} == {"orders": 1}
    return {row["file"]: row for row in bad}


@pytest.mark.parametrize("number", range(len(BAD)), ids=lambda i: f"{BAD[i][0]}-{BAD[i][3]}-{BAD[i][4]}")
def test_a_bad_row_is_in_quarantine_under_its_rule(all_bad: dict[str, dict[str, Any]], number: int) -> None:
    table, _, _, rule, column, value = BAD[number]
    bad = all_bad[f"{table}-{number}.csv"]
    assert (bad["table"], bad["rule"], bad["column"], bad["value"]) == (table, rule, column, value)
    assert (bad["line"], bad["interval"]) == (2, "../2026-01-01T00:00:00Z")


def test_only_the_bad_rows_are_held_back(lake: Lake, ingest: Ingest) -> None:
    bad = "c99,,john.smith at mail.example,,,\n"
    report = ingest({"customers.csv": CUSTOMERS + good_customers(30) + bad})["tables"]["customers"]
    assert (report["read"], report["loaded"], report["quarantined"]) == (31, 30, 1)
    (row,) = quarantine.read(lake).to_pylist()
    assert (row["key"], row["value"], row["line"]) == ("c99", "xxxx.xxxxx xx xxxx.xxxxxxx", 32)


def test_personal_values_are_masked_wherever_they_stand(lake: Lake, ingest: Ingest) -> None:
    ingest(LENIENT | {"identities.csv": "kind,value,seen_at,customer_id\nlogin,kim.minji,never,c1\n"})
    (row,) = quarantine.read(lake).to_pylist()
    assert row["key"] == "login xxx.xxxxx c1"


def test_money_may_be_negative_where_it_flows_back(lake: Lake, ingest: Ingest) -> None:
    report = ingest(
        {
            "orders.csv": "order_id,ordered_at,currency,status,shipping\no1,2025-01-01,GBP,returned,-3\n",
            "order_lines.csv": LINES + "o1,1,p,-2,-5\n",
            "events.csv": EVENTS + "e,2025-01-01,refund,,c,-5\n",
        }
    )
    assert [report["tables"][t]["loaded"] for t in ("orders", "order_lines", "events")] == [1, 1, 1]


def test_values_are_read_into_the_contracts_types(lake: Lake, ingest: Ingest) -> None:
    header = "customer_id,updated_at,country,birth_date,points,attributes,Favourite colour,note\n"
    ingest({"customers.csv": header + '17850.0,2025-01-02T03:04:05.678+09:00,kr,1990-12-31,7,"{""a"": 1}",red,\n'})
    (row,) = rows(lake, "customers")
    assert json.loads(row.pop("attributes")) == {"a": 1, "Favourite colour": "red"}
    assert row == {
        "customer_id": "17850",
        "updated_at": datetime(2025, 1, 1, 18, 4, 5, 678000, UTC),
        "country": "KR",
        "birth_date": date(1990, 12, 31),
        "points": 7.0,
    }


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("17850.0", "17850"),
        ("17850", "17850"),
        ("017850", "017850"),
        ("-3.00", "-3"),
        ("1.5", "1.5"),
        ("v1.0b", "v1.0b"),
    ],
)
def test_keys_that_look_like_floats_are_integers(lake: Lake, ingest: Ingest, given: str, key: str) -> None:
    ingest({"customers.csv": f"customer_id\n{given}\n"})
    assert rows(lake, "customers")[0]["customer_id"] == key


def test_parquet_keeps_its_types_and_json_its_nesting(lake: Lake, ingest: Ingest, shop: Path) -> None:
    naive = pa.array([datetime(2025, 7, 1, 12)], pa.timestamp("ns"))  # noqa: DTZ001
    orders = {"order_id": [1.0], "ordered_at": naive, "currency": ["GBP"], "customer_id": [17850.0]}
    pq.write_table(pa.table(orders | {"tax": [float("nan")], "basket": [{"size": 2}]}), shop / "orders.parquet")
    line = {"order_id": 1.0, "line_no": 1, "product_id": "p", "quantity": 2, "unit_price": 2.5, "gift": {"to": ["a"]}}
    files = {"source.yaml": "timezone: Europe/London", "order_lines.jsonl": f"\n{json.dumps(line)}\n"}
    report = ingest(files)
    assert report["tables"]["orders"]["quarantined"] == 0
    (order,), (found,) = rows(lake, "orders"), rows(lake, "order_lines")
    assert (order["order_id"], order["customer_id"], order.get("tax")) == ("1", "17850", None)
    assert order["ordered_at"] == datetime(2025, 7, 1, 11, tzinfo=UTC)
    assert json.loads(order["attributes"]) == {"basket": {"size": 2}}
    assert (found["unit_price"], json.loads(found["attributes"])) == (Decimal("2.5"), {"gift": {"to": ["a"]}})


TIMES = [
    "2025-01-15 12:00",
    "2025-07-15T12:00:00",
    "2025-03-30T00:59:59",
    "2025-03-30T02:00",
    "2025-10-26 00:30:00",
    "2025-06-15",
]  # the last is its midnight


@pytest.mark.parametrize("zone", ["Europe/London", "Asia/Seoul", "America/New_York", "UTC"])
def test_naive_times_are_the_sources_over_summer_time_too(lake: Lake, ingest: Ingest, zone: str) -> None:
    events = "".join(f"e{i},{time},view_item,,c,\n" for i, time in enumerate(TIMES))
    ingest({"events.csv": EVENTS + events, "source.yaml": f"timezone: {zone}"})
    expected = [datetime.fromisoformat(t).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for t in TIMES]
    assert [row["occurred_at"] for row in rows(lake, "events")] == expected


def test_an_hour_that_clocks_skip_or_repeat(lake: Lake, ingest: Ingest) -> None:
    events = "e0,2025-03-30T01:30,view_item,,c,\ne1,2025-10-26T01:30,view_item,,c,\n"
    ingest({"events.csv": EVENTS + events, "source.yaml": "timezone: Europe/London"})
    assert [row["occurred_at"] for row in rows(lake, "events")] == [utc("2025-03-30T01:30"), utc("2025-10-26T01:30")]


@pytest.mark.parametrize(
    "time", ["2025-01-01T09:00:00+09:00", "2025-01-01T09:00+0900", "2025-01-01 09:00:00+09", "2025-01-01T00:00:00.000Z"]
)
def test_a_time_with_an_offset_is_its_own(lake: Lake, ingest: Ingest, time: str) -> None:
    ingest({"events.csv": EVENTS + f"e,{time},view_item,,c,\n", "source.yaml": "timezone: America/New_York"})
    assert rows(lake, "events")[0]["occurred_at"] == utc("2025-01-01")


def test_lines_may_point_at_orders_of_an_earlier_load(lake: Lake, ingest: Ingest, shop: Path) -> None:
    ingest({"orders.csv": ORDERS + "o1,2025-01-01,GBP,c,,placed\n"}, end="2025-06-01")
    (shop / "orders.csv").unlink()
    report: dict[str, Any] = ingest({"order_lines.csv": LINES + "o1,1,p,1,1\n"}, end="2025-07-01")
    assert report["tables"]["order_lines"]["loaded"] == 1
    assert rows(lake, "order_lines")[0]["updated_at"] == utc("2025-01-01")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Seoul"])
def test_parquet_times_of_every_kind(lake: Lake, ingest: Ingest, shop: Path, unit: str, zone: str | None) -> None:
    moment = datetime(2025, 6, 1, 12, tzinfo=ZoneInfo(zone) if zone else None)
    events = {
        "event_id": ["e"],
        "event_name": ["view_item"],
        "occurred_at": pa.array([moment], pa.timestamp(unit, zone)),
    }
    pq.write_table(pa.table(events), shop / "events.parquet")
    ingest({"source.yaml": "timezone: America/New_York"})
    expected = moment if zone else moment.replace(tzinfo=ZoneInfo("America/New_York"))
    assert rows(lake, "events")[0]["occurred_at"] == expected
