"""Funnel, interests, prices, habits, fatigue, holidays and weather: small shops whose right values are known."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from controltower.profiles.features import features
from support.shop_tables import SHOP, T, ago, event, lake_with, money, order, orders, product


def frame(home: Path, tables: dict[str, Any], as_of: datetime = T, **shop: Any) -> pd.DataFrame:
    with lake_with(home, tables).read(as_of) as reading:
        rows = reading.arrow(features(reading.table, as_of, SHOP.model_copy(update=shop)))
    return rows.to_pandas().set_index("customer_id")


def test_the_way_from_a_view_to_a_purchase(tmp_path: Path) -> None:
    steps = {
        "s1": ["view_item", "add_to_cart", "begin_checkout", "purchase"],
        "s2": ["view_item", "add_to_cart", "begin_checkout"],
        "s3": ["view_item", "add_to_cart"],
        "s4": ["view_item"],
        None: ["add_to_cart"],
    }
    made = [
        event(f"{session}{n}", "a", ago(10, minutes=-n), name, session_id=session)
        for session, names in steps.items()
        for n, name in enumerate(names)
    ]
    made.append(event("old", "a", ago(91), "view_item", session_id="old"))
    a = frame(tmp_path, {"events": made}).loc["a"]
    assert [a.view_to_cart_90d, a.cart_to_checkout_90d] == [3 / 4, 2 / 3]
    assert [a.checkout_to_purchase_90d, a.cart_abandonment_90d] == [1 / 2, 2 / 3]
    assert [a.sessions_90d, a.session_days_90d, a.single_event_share_90d] == [4, 2, 1 / 4]
    assert [a.events_per_session_90d, a.minutes_per_session_90d] == [10 / 4, 6 / 4]
    assert [a.days_since_first_event, a.days_known] == [91, 91]


def test_searches_categories_and_prices(tmp_path: Path) -> None:
    prices = {"cheap": 10, "dear": 30, "other": 5, "nowhere": 99}
    categories = {"cheap": "x", "dear": "x", "other": "y", "nowhere": None}
    viewed = ["dear", "dear", "cheap", "other", "nowhere", "unknown"]
    head, lines = order("1", "a", ago(5), ("dear", 1, 30), ("cheap", 1, 10), coupon_code="C", channel="store")
    lines[0]["discount"] = money(3)
    a = frame(
        tmp_path,
        {
            "products": [product(p, category=categories[p], price=money(price)) for p, price in prices.items()],
            "events": [
                *(event(f"v{n}", "a", ago(3), "view_item", product_id=p) for n, p in enumerate(viewed)),
                event("q1", "a", ago(2), "search", query="tea", results_count=0, channel="app"),
                event("q2", "a", ago(2), "search", query="tea", results_count=4, channel="web"),
                event("q3", "a", ago(1), "search", query="차", channel="app"),
                event("f", "a", ago(1), "coupon_failed", channel="app"),
            ],
            **orders((head, lines), order("2", "a", ago(4), ("dear", 1, 30), channel="app")),
            "coupons": [
                {"coupon_code": "1", "pool": "p", "issued_to": "a", "redeemed_order_id": "1"},
                {"coupon_code": "2", "pool": "p", "issued_to": "a", "expires_at": ago(-1)},
                {"coupon_code": "3", "pool": "p", "issued_to": "a", "expires_at": ago(1)},
            ],
            "devices": [{"device_id": "d", "customer_id": "a", "platform": "ios", "push_token": "t"}],
        },
    ).loc["a"]
    assert [a.searches_90d, a.empty_searches_90d, a.distinct_queries_90d, a.days_since_last_search] == [3, 1, 2, 1]
    assert [a.distinct_products_viewed_90d, a.distinct_categories_viewed_90d] == [5, 2]
    assert [a.top_category_viewed_share_90d, a.views_per_product_90d] == [3 / 4, 6 / 5]
    assert a.viewed_price_level_90d == (30 + 30 + 10 + 5) / (3 * 20 + 5)
    assert [a.bought_price_level, a.repeat_share, a.top_category_bought_share] == [(30 + 10 + 30) / 60, 1 / 3, 1]
    assert [a.discounted_line_share, a.discounted_order_share] == [1 / 3, 1 / 2]
    assert [a.coupon_order_share, a.coupon_orders_365d, a.coupon_failures_90d] == [1 / 2, 1, 1]
    assert [a.coupons_open, a.coupon_use_share] == [1, 1 / 3]
    assert [a.app_event_share_90d, a.web_event_share_90d, a.store_order_share] == [3 / 4, 1 / 4, 1 / 2]
    assert [a.ios_devices, a.android_devices, a.push_devices] == [1, 0, 1]


def test_parts_of_the_day_are_the_customers_own(tmp_path: Path) -> None:
    """22:30 UTC on Friday 12 June 2026 is 07:30 on Saturday in Seoul."""
    at = datetime(2026, 6, 12, 22, 30, tzinfo=UTC)
    known = [{"customer_id": "a", "timezone": "Asia/Seoul"}, {"customer_id": "b"}]
    rows = frame(tmp_path, {"customers": known, "events": [event(c, c, at, "login") for c in "ab"]})
    names = ["night_share_90d", "morning_share_90d", "evening_share_90d", "weekend_event_share_90d"]
    assert rows.loc["a", names].tolist() == [0, 1, 0, 1]
    assert rows.loc["b", names].tolist() == [0, 0, 1, 0]


def test_messages_since_the_last_click_and_in_a_row_without_an_answer(tmp_path: Path) -> None:
    def sent(number: int, customer: str) -> dict[str, Any]:
        return {
            "message_id": f"{customer}{number}",
            "customer_id": customer,
            "channel": "email",
            "sent_at": ago(number),
        }

    back = [
        {"event_id": "1", "message_id": "a5", "event": "clicked", "occurred_at": ago(4.5)},
        {"event_id": "2", "message_id": "a3", "event": "opened", "occurred_at": ago(2.5)},
        {"event_id": "3", "message_id": "a1", "event": "delivered", "occurred_at": ago(1)},
    ]
    rows = frame(
        tmp_path,
        {
            "customers": [{"customer_id": "a"}, {"customer_id": "b"}, {"customer_id": "c"}],
            "messages_history": [*(sent(n, "a") for n in range(1, 7)), sent(1, "b"), sent(40, "b")],
            "message_events": back,
        },
    )
    names = ["messages_since_last_click", "messages_unanswered", "message_trend"]
    assert rows.loc["a", names].tolist() == [4, 2, 3]
    assert rows.loc["b", names].tolist() == [2, 2, 1.5]
    assert rows.loc["c", names[:2]].tolist() == [0, 0]
    assert math.isnan(rows.loc["c", "message_trend"])


@pytest.mark.parametrize(
    ("country", "holiday", "festival"),
    [("KR", 32, 102), ("US", 4, 193), ("XX", None, None)],  # 제헌절, 추석; Juneteenth, Christmas
)
def test_days_to_holidays_are_those_of_the_country(
    tmp_path: Path, country: str, holiday: float | None, festival: float | None
) -> None:
    a = frame(tmp_path, {"customers": [{"customer_id": "a", "country": country}]}).loc["a"]
    for found, wanted in ((a.days_to_holiday, holiday), (a.days_to_festival, festival)):
        assert math.isnan(found) if wanted is None else found == wanted


def test_purchases_around_festivals(tmp_path: Path) -> None:
    """설날 was on 17 February 2026, 추석 on 6 October 2025."""
    days = {"1": (2026, 2, 17), "2": (2026, 2, 3), "3": (2026, 2, 2), "4": (2026, 3, 2), "5": (2025, 10, 1)}
    made = [order(name, "a", datetime(*day, 12, tzinfo=UTC), ("p", 1, 5)) for name, day in days.items()]
    a = frame(tmp_path, orders(*made)).loc["a"]
    assert [a.festival_order_share, a.holiday_order_share] == [3 / 5, 2 / 5]


def test_a_holiday_of_a_year_ago_is_by_the_customers_date(tmp_path: Path) -> None:
    """It is 4 July there; the shop's clock, and its calendar, are a day ahead."""
    there = {"customer_id": "a", "country": "US", "timezone": "America/Los_Angeles"}
    made = orders(order("1", "a", datetime(2025, 7, 5, 1, tzinfo=UTC), ("p", 1, 5)))
    as_of = datetime(2026, 7, 6, tzinfo=UTC)
    assert frame(tmp_path, {"customers": [there], **made}, as_of).loc["a"].holiday_order_share == 1


def test_the_shops_own_holidays_and_weather(tmp_path: Path) -> None:
    def told(day: date, region: str, name: str, value: str, **more: Any) -> dict[str, Any]:
        return {"date": day, "region": region, "name": name, "value": value, **more}

    today = T.date()
    rows = frame(
        tmp_path,
        {
            "customers": [{"customer_id": "a", "home_store": "s"}, {"customer_id": "b"}],
            "external": [
                told(date(2026, 6, 20), "KR", "holiday", "설날"),
                told(date(2026, 6, 16), "KR", "holiday", "0"),
                told(today, "KR", "temperature", "21.5"),
                told(today, "s", "temperature", "-3"),
                told(today, "KR", "precipitation", "much"),
                told(today, "KR", "weather", "4", updated_at=ago(-1)),
            ],
        },
    )
    names = ["days_to_holiday", "days_to_festival", "temperature"]
    assert rows.loc["a", names].tolist() == [5, 5, -3]
    assert rows.loc["b", names].tolist() == [5, 5, 21.5]
    assert rows[["precipitation", "weather"]].isna().all(axis=None), "no number, and not known yet"
