"""What customers prefer, their RFM cells, and what they told, on rows whose answer is known."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
from controltower.profiles import rfm
from controltower.profiles.preferences import COLUMNS, preferences
from controltower.profiles.told import told, told_or_inferred
from controltower.profiles.words import words_of
from support.shop_tables import SHOP, T, ago, event, lake_with, money, order, orders, product

GOODS = [
    product(
        f"{kind}{n}", category=f"home > {kind}", brand=brand, title=f"{brand} {title} {n}00ml", price=money(n + 1)
    )
    for kind, title in (("soap", "Soft Soap"), ("tea", "Green Tea"))
    for n, brand in enumerate(("Ada", "Bob", "Cy", "Ada", "Bob", "Cy"))
]  # fmt: skip


def preferred(home: Path, *events: dict[str, Any], bought: Any = ()) -> dict[str, dict[str, Any]]:
    people = [{"customer_id": c} for c in {"c", "d", *(e["customer_id"] for e in events)}]
    lake = lake_with(home, {"customers": people, "products": GOODS, "events": events, **orders(*bought)})
    with lake.read(T) as reading:
        rows = reading.arrow(preferences(reading.table, T, SHOP)).to_pylist()
    return {row.pop("customer_id"): row for row in rows}


def view(product_id: str, days: float, name: str = "view_item", customer: str = "c", **more: Any) -> dict[str, Any]:
    return event(f"{customer}{product_id}{days}{name}", customer, ago(days), name, product_id=product_id, **more)


def test_what_was_done_lately_counts_more(tmp_path: Path) -> None:
    found = preferred(
        tmp_path,
        view("soap0", 3), view("soap3", 5),  # 8 each
        view("tea1", 10, "add_to_cart"),  # 12
        view("tea2", 20),  # 4
        view("tea4", 400, "add_to_cart"), view("tea4", 401, "add_to_cart"),  # too long ago
        view("soap5", -1),  # to come
        view("tea5", 5, received_at=ago(-1)),  # not known yet
        event("q", "c", ago(60), "search", query="Mint  TEA!", results_count=3),  # 8
        event("r", "c", ago(1), "search", query="nothing", results_count=0),
    )  # fmt: skip
    c = found["c"]
    assert [c[name] for name in COLUMNS if c[name] is not None] == [
        "home > soap", "home > tea",  # 16 and 16: by name
        "Ada", "Bob", "Cy",  # 16, 12, 4
        "tea", "green", "soap", "soft", "mint",  # 24, 16, 16, 16, 8
        "low",  # soap0, soap3, tea1, tea2: thirds 0, 1, 0, 1 with 8, 8, 12, 4
    ]  # fmt: skip
    assert "d" not in found, "they did nothing"


def test_price_bands_and_purchases(tmp_path: Path) -> None:
    """Thirds of a category's products by price; fewer than three tell nothing; a purchase outweighs some views."""
    viewed = {"low": "soap0 soap1 tea0", "high": "soap4 soap5 tea5", "mid": "soap2 tea3 tea2", "few": "soap0 soap1"}
    events = [view(product_id, 1, customer=c) for c, some in viewed.items() for product_id in some.split()]
    events += [view(f"soap{n}", 1, customer="bought") for n in range(5)]
    found = preferred(tmp_path, *events, bought=[order("o", "bought", ago(1), ("tea0", 1, 1))])
    bands = {c: found[c]["preferred_price_band"] for c in viewed}
    assert bands == {"low": "low", "high": "high", "mid": "mid", "few": None}
    assert [found["bought"][f"preferred_category{n}"] for n in ("", "_2")] == ["home > tea", "home > soap"]


def test_words() -> None:
    assert words_of("소프트 기저귀 3단계 56매, 50ml x a Über-cool") == ["소프트", "기저귀", "über", "cool"]


def test_rfm_fifths_and_ties() -> None:
    rows = [
        {"customer_id": f"c{n}", "days_since_last_order": float(n), "orders_total": 1.0 if n < 6 else float(n),
         "revenue_total": float(n % 5)} for n in range(10)
    ] + [{"customer_id": "none", "days_since_last_order": None, "orders_total": 0.0, "revenue_total": 0.0}]  # fmt: skip
    found = {r["customer_id"]: r for r in rfm.cells(ibis.memtable(pa.Table.from_pylist(rows))).to_pyarrow().to_pylist()}
    assert found.keys() == {f"c{n}" for n in range(10)}
    assert [found[f"c{n}"]["rfm_recency"] for n in range(10)] == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert [found[f"c{n}"]["rfm_frequency"] for n in range(10)] == [1, 1, 1, 1, 1, 1, 4, 4, 5, 5]
    assert [found[f"c{n}"]["rfm_money"] for n in range(10)] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    assert (found["c0"]["rfm_cell"], found["c9"]["rfm_cell"]) == (511, 155)


def test_what_was_told() -> None:
    given = [
        ("a", " F", date(2000, 6, 15)), ("b", "여성", date(2000, 6, 16)), ("c", "Nonbinary", None),
        ("d", "", date(1900, 1, 1)), ("e", None, date(2020, 1, 1)), ("f", "남", date(1936, 6, 15)),
    ]  # fmt: skip
    rows = pa.table({"customer_id": [g[0] for g in given], "gender": [g[1] for g in given],
                     "birth_date": pa.array([g[2] for g in given], pa.date32())})  # fmt: skip
    found = told(ibis.memtable(rows), date(2026, 6, 15)).order_by("customer_id").to_pyarrow().to_pylist()
    assert [(r["told_gender"], r["told_age"]) for r in found] == [
        ("female", 26), ("female", 25), ("nonbinary", None), (None, None), (None, None), ("male", None)
    ]  # fmt: skip


def test_told_and_inferred_stay_apart() -> None:
    columns = ["customer_id", "told_gender", "told_age", "inferred_gender", "inferred_female_probability",
               "inferred_male_probability", "inferred_age"]  # fmt: skip
    rows = [
        ("told", "female", 30, None, None, None, None), ("other", "nonbinary", None, None, None, None, 50),
        ("yes", None, None, "male", 0.2, 0.8, 40), ("unsure", None, None, None, 0.5, 0.5, None),
        ("no", None, None, "male", 0.2, 0.8, 40),
    ]  # fmt: skip
    profiles = ibis.memtable(pa.Table.from_pylist([dict(zip(columns, r, strict=True)) for r in rows]))
    agreed = ibis.memtable(pa.table({"customer_id": ["yes", "unsure", "other"]}))
    found = {r["customer_id"]: r for r in told_or_inferred(profiles, agreed).to_pyarrow().to_pylist()}
    both = {c: tuple(v for name, v in r.items() if name.startswith("told_or_inferred_")) for c, r in found.items()}
    assert both == {
        "told": ("female", 1.0, 0.0, 30), "other": ("nonbinary", 0.0, 0.0, 50), "yes": ("male", 0.2, 0.8, 40),
        "unsure": (None, 0.5, 0.5, None), "no": (None, None, None, None),
    }  # fmt: skip
    assert found["yes"]["inferred_gender"] == "male" and found["no"]["inferred_gender"] is None
