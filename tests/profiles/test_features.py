"""Features whose right values are known, and the rules that all of them keep."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from controltower.data.lake import Lake
from controltower.profiles import facts as facts_room
from controltower.profiles.features import FEATURES, NAMES, features
from support.shop_tables import SHOP, T, ago, event, lake_with, money, order, orders, product

WANTED = (
    "days_since_last_order days_since_first_order days_since_signup orders_30d orders_90d orders_365d orders_total"
    " revenue_30d revenue_90d revenue_365d revenue_total average_order_value items_per_order distinct_products"
    " distinct_categories returned_lines discount_share mean_gap_days overdue_ratio weekend_share views_7d views_30d"
    " carts_7d carts_30d searches_30d sessions_30d days_since_last_event open_cart messages_30d messages_90d emails_30d"
    " pushes_30d days_since_last_message opens_30d clicks_30d clicks_90d click_rate days_since_last_click"
    " unsubscribed_90d"
).split()


def of(lake: Lake, as_of: datetime = T, shop: Any = SHOP) -> pa.Table:
    with lake.read(as_of) as reading:
        return reading.arrow(features(reading.table, as_of, shop))


def frame(lake: Lake, **more: Any) -> pd.DataFrame:
    return of(lake, **more).to_pandas().set_index("customer_id")


def test_all_promised_features_are_there_once_and_described() -> None:
    assert set(WANTED) <= set(NAMES)
    assert len(set(NAMES)) == len(NAMES) >= 20
    assert all(f.description and "\n" not in f.description for f in FEATURES)


def test_orders_money_and_gaps(tmp_path: Path) -> None:
    lake = lake_with(
        tmp_path,
        {
            "customers": [{"customer_id": "a", "signed_up_at": ago(200)}],
            "products": [product("p", category="x > y"), product("q", category="z")],
            **orders(
                order("1", "a", ago(100), ("p", 2, 5.25)),
                order("2", "a", ago(40), ("p", 1, 5), ("q", 3, 2)),
                order("3", "a", ago(10), ("q", 1, 4), ("p", -1, 5)),
            ),
        },
    )
    a = frame(lake).loc["a"]
    assert [a.orders_7d, a.orders_14d, a.orders_30d, a.orders_60d, a.orders_365d, a.orders_total] == [0, 1, 1, 2, 3, 3]
    assert [a.revenue_30d, a.revenue_90d, a.revenue_total] == [-1, 10, 20.5]
    assert a.average_order_value == pytest.approx((10.5 + 11 + 4) / 3)
    assert [a.largest_order_value, a.last_order_value, a.items_per_order] == [11, 4, pytest.approx(7 / 3)]
    assert [a.distinct_products, a.distinct_categories, a.returned_lines] == [2, 2, 1]
    assert [a.days_since_last_order, a.days_since_first_order, a.days_since_signup] == [10, 100, 200]
    assert [a.mean_gap_days, a.longest_gap_days, a.last_gap_days] == [45, 60, 30]
    assert a.gap_spread_days == pytest.approx(math.sqrt(450))
    assert [a.days_since_second_last, a.days_since_third_last] == [40, 100]
    assert a.overdue_ratio == pytest.approx(10 / 45)
    assert a.order_trend == pytest.approx(3 * 1 / 2)
    assert a.lifecycle == "active"


def test_cancelled_orders_count_nothing_and_returned_ones_no_money(tmp_path: Path) -> None:
    lake = lake_with(
        tmp_path,
        orders(
            order("1", "a", ago(20), ("p", 1, 5)),
            order("2", "a", ago(10), ("p", 1, 100), status="cancelled"),
            order("3", "b", ago(10), ("p", 1, 100), ("q", 1, 1), status="returned"),
            order("4", "c", ago(10), ("p", 1, 0)),
            order("5", None, ago(10), ("p", 1, 9)),
            order("6", "d", ago(10), ("p", 1, 100), ("p", -1, 100), status="returned"),
            order("7", "e", ago(20), ("p", 3, 10)),
            order("8", "e", ago(10), ("p", -1, 10), status="returned"),
        ),
    )
    rows = frame(lake)
    assert rows.loc["d", "revenue_total"] == 0  # undone once, though both the order and its line say so
    assert rows.loc["e", "revenue_total"] == 20  # a return booked as an order of its own
    assert [rows.loc["a", "orders_total"], rows.loc["a", "revenue_total"]] == [1, 5]
    assert [rows.loc["b", "orders_total"], rows.loc["b", "revenue_total"], rows.loc["b", "returned_lines"]] == [1, 0, 2]
    assert [rows.loc["c", "orders_total"], rows.loc["c", "lifecycle"]] == [0, "prospect"]
    assert list(rows.index) == ["a", "b", "c", "d", "e"]


def test_money_in_other_currencies_needs_that_days_rate(tmp_path: Path) -> None:
    day = ago(10).date()
    lake = lake_with(
        tmp_path,
        {
            **orders(
                order("1", "a", ago(10), ("p", 1, 100), currency="USD"),
                order("2", "b", ago(9), ("p", 1, 100), currency="USD"),
            ),
            "exchange_rates": [{"date": day, "from": "USD", "to": "GBP", "rate": 0.75}],
        },
    )
    rows = frame(lake)
    assert rows.loc["a", "revenue_total"] == 75
    assert [rows.loc["b", "revenue_total"], rows.loc["b", "orders_total"]] == [0, 1]
    assert math.isnan(rows.loc["b", "average_order_value"])
    with lake.read(T) as reading:
        gathered = facts_room.gather(reading.table, T, SHOP)
        assert facts_room.uncounted_orders(gathered).to_pyarrow().as_py() == 1


def test_discounts_lower_revenue_and_give_a_share(tmp_path: Path) -> None:
    head, lines = order("1", "a", ago(10), ("p", 2, 50))
    lines[0]["discount"] = money(20)
    a = frame(lake_with(tmp_path, orders((head, lines)))).loc["a"]
    assert [a.revenue_total, a.discount_share] == [80, 0.2]


def test_events_and_the_open_cart(tmp_path: Path) -> None:
    lake = lake_with(
        tmp_path,
        {
            **orders(order("1", "b", ago(1), ("p", 1, 5))),
            "events": [
                event("1", "a", ago(2), "add_to_cart", product_id="p", session_id="s"),
                event("2", "a", ago(2), "view_item", product_id="p", session_id="s"),
                event("3", "a", ago(20), "view_item", product_id="p", session_id="t"),
                event("4", "a", ago(20), "search", query="x", session_id="t"),
                event("5", "b", ago(2), "add_to_cart", product_id="p"),
                event("6", "a", ago(2), "purchase", value=money(1000)),
                event("7", None, ago(2), "view_item"),
            ],
        },
    )
    rows = frame(lake)
    a, b = rows.loc["a"], rows.loc["b"]
    assert [a.views_7d, a.views_30d, a.carts_7d, a.searches_30d, a.sessions_30d] == [1, 2, 1, 1, 2]
    assert [a.open_cart, b.open_cart] == [1, 0]
    assert a.revenue_total == 0, "purchase events never count money"
    assert a.lifecycle == "prospect"


def test_without_any_events_their_features_are_unknown(tmp_path: Path) -> None:
    a = frame(lake_with(tmp_path, orders(order("1", "a", ago(1), ("p", 1, 5))))).loc["a"]
    assert all(math.isnan(a[name]) for name in ("views_7d", "open_cart", "days_since_last_event"))


def test_an_empty_shop_has_no_rows_but_all_columns(tmp_path: Path) -> None:
    rows = of(lake_with(tmp_path, {}))
    assert rows.num_rows == 0
    assert rows.column_names == ["customer_id", "as_of", *NAMES, "lifecycle"]


def test_weekends_are_local(tmp_path: Path) -> None:
    """Friday 2026-06-12, 23:30 in London is Saturday 07:30 in Seoul; BST and KST differ by 8 hours."""
    at = datetime(2026, 6, 12, 22, 30, tzinfo=UTC)
    lake = lake_with(
        tmp_path,
        {
            "customers": [
                {"customer_id": "a", "timezone": "Asia/Seoul"},
                {"customer_id": "b", "timezone": "Europe/London"},
                {"customer_id": "c", "timezone": "Nowhere/Land"},
            ],
            **orders(*(order(c, c, at, ("p", 1, 5)) for c in "abcd")),
        },
    )
    shares = frame(lake, shop=SHOP.model_copy(update={"timezone": "Asia/Tokyo"}))["weekend_share"]
    assert shares.to_dict() == {"a": 1, "b": 0, "c": 1, "d": 1}


def test_lifecycle(tmp_path: Path) -> None:
    stages = {
        (): "prospect", (5,): "new", (50,): "active", (100,): "lapsing", (190,): "lost",
        (20, 30, 40): "active", (40, 50, 60): "lapsing", (100, 110, 120): "lost", (110, 210, 310): "active",
    }  # fmt: skip
    names = {str(days): days for days in stages}
    made = [order(f"{name}{d}", name, ago(d), ("p", 1, 5)) for name, days in names.items() for d in days]
    lake = lake_with(tmp_path, {"customers": [{"customer_id": name} for name in names], **orders(*made)})
    assert frame(lake)["lifecycle"].to_dict() == {str(days): stage for days, stage in stages.items()}
