"""Features of all customers over a million synthetic events: Ibis on DuckDB, beside plain pandas.

Both read the same Parquet files. We compute all features, pandas those that `_naive` holds, and on these they must
agree; only CPU time is compared (user and system, of all threads), since the machine's other work stretches the clock.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.profiles.features import NAMES, features
from controltower.settings import Settings
from controltower.shop import Sender, Shop

AS_OF = datetime(2026, 6, 15, tzinfo=UTC)
SHOP = Shop(
    name="bench",
    currency="KRW",
    timezone="Asia/Seoul",
    url="https://bench.example",
    sender=Sender(name="b", email="b@bench.example", contact="1", postal_address="1"),
)
EVENTS, ORDERS, CUSTOMERS, PRODUCTS, PAIRS = 1_000_000, 60_000, 40_000, 5_000, 3
DAY = pd.Timedelta(days=1)


def run() -> list[dict[str, Any]]:
    """Rows per CPU-second, medians of interleaved pairs."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Settings(home=Path(folder), memory="1GB", threads=2))
        tables = _shop(np.random.default_rng(1))
        rows = sum(t.num_rows for t in tables.values())
        for name, table in tables.items():
            lake.commit("bench", {name: lake.write(name, table)})
        files = {name: [str(p) for p in (lake.root / name).glob("*.parquet")] for name in tables}
        computed = _compare(_ours(lake), _naive(files))
        ours, theirs = [], []
        for _ in range(PAIRS):
            ours.append(rows / _cpu(lambda: _ours(lake)))
            theirs.append(rows / _cpu(lambda: _naive(files)))
    return [
        {
            "name": f"{len(NAMES)} features of {CUSTOMERS:,} customers, {rows:,} rows (pandas: {computed})",
            "value": round(statistics.median(ours)),
            "unit": "rows/s",
            "naive": round(statistics.median(theirs)),
        }
    ]


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _ours(lake: Lake) -> pd.DataFrame:
    with lake.read(AS_OF) as reading:
        return reading.frame(features(reading.table, AS_OF, SHOP)).set_index("customer_id")


def _compare(ours: pd.DataFrame, theirs: pd.DataFrame) -> int:
    """How many features pandas computed, all of them as we did."""
    assert list(ours.index) == list(theirs.index)
    for name in theirs:
        same = np.isclose(ours[name].astype(float), theirs[name].astype(float), rtol=1e-9, atol=1e-6, equal_nan=True)
        assert same.all(), f"{name} differs for {(~same).sum()} customers"
    return len(theirs.columns)


def _shop(rng: np.random.Generator) -> dict[str, pa.Table]:
    def times(count: int) -> pd.Series:
        ago = rng.exponential(60, count).clip(max=500) * 86_400 + 1
        return pd.Series(pd.Timestamp(AS_OF) - pd.to_timedelta(ago.astype(int), unit="s")).sort_values(
            ignore_index=True
        )

    customers = np.array([f"c{i:06}" for i in range(CUSTOMERS)])
    products = np.array([f"p{i:05}" for i in range(PRODUCTS)])
    at, ordered = times(EVENTS), times(ORDERS)
    names = np.array(["view_item", "add_to_cart", "search", "purchase"])
    line_order = np.repeat(np.arange(ORDERS), rng.integers(1, 5, ORDERS))
    line_no = np.arange(len(line_order)) - np.searchsorted(line_order, line_order)
    frames = {
        "customers": pd.DataFrame({"customer_id": customers, "signed_up_at": times(CUSTOMERS)}).assign(
            updated_at=lambda f: f["signed_up_at"]
        ),
        "products": pd.DataFrame(
            {"product_id": products, "title": products, "price": 10.0, "currency": "KRW", "updated_at": ordered[0]}
        ).assign(category=[f"k{i % 40}" for i in range(PRODUCTS)]),
        "events": pd.DataFrame(
            {
                "event_id": np.arange(EVENTS).astype(str), "occurred_at": at, "received_at": at,
                "event_name": rng.choice(names, EVENTS, p=[0.8, 0.1, 0.08, 0.02]),
                "customer_id": rng.choice(customers, EVENTS), "product_id": rng.choice(products, EVENTS),
                "session_id": rng.integers(0, EVENTS // 5, EVENTS).astype(str),
            }
        ),
        "orders": pd.DataFrame(
            {
                "order_id": np.arange(ORDERS).astype(str), "ordered_at": ordered, "updated_at": ordered,
                "customer_id": rng.choice(customers, ORDERS), "currency": "KRW",
                "status": rng.choice(["placed", "cancelled"], ORDERS, p=[0.95, 0.05]),
            }
        ),
        "order_lines": pd.DataFrame(
            {
                "order_id": line_order.astype(str), "line_no": line_no, "updated_at": ordered.to_numpy()[line_order],
                "product_id": rng.choice(products, len(line_order)),
                "quantity": rng.choice([1.0, 2.0, 3.0, -1.0], len(line_order), p=[0.7, 0.2, 0.07, 0.03]),
                "unit_price": rng.integers(1, 100, len(line_order)) * 1000.0,
                "discount": rng.choice([0.0, 500.0], len(line_order)),
            }
        ).assign(updated_at=lambda f: pd.to_datetime(f["updated_at"], utc=True)),
    }  # fmt: skip
    return {name: _conform(name, frame) for name, frame in frames.items()}


def _conform(name: str, frame: pd.DataFrame) -> pa.Table:
    columns = [
        pa.array(frame[f.name], from_pandas=True).cast(f.type) if f.name in frame else pa.nulls(len(frame), f.type)
        for f in CONTRACT[name].schema
    ]
    return pa.table(columns, schema=CONTRACT[name].schema)


def _naive(files: dict[str, list[str]]) -> pd.DataFrame:
    """What one writes in a notebook: read everything, group by customer."""
    as_of = pd.Timestamp(AS_OF)
    read = {name: pd.concat([pd.read_parquet(p) for p in paths]) for name, paths in files.items()}
    customers, events, orders = read["customers"], read["events"], read["orders"]
    events = events[(events["received_at"] <= as_of) & events["customer_id"].notna()]
    orders = orders[(orders["updated_at"] <= as_of) & (orders["ordered_at"] <= as_of) & orders["customer_id"].notna()]
    lines = (
        read["order_lines"].merge(orders, on="order_id").merge(read["products"][["product_id", "category"]], how="left")
    )
    for column in ("quantity", "unit_price", "discount"):
        lines[column] = lines[column].astype(float)
    lines = lines[(lines["quantity"] < 0) | (lines["status"] != "cancelled")]
    lines["gross"] = lines["quantity"] * lines["unit_price"]
    lines["amount"] = lines["gross"] - lines["discount"] * np.sign(lines["quantity"])
    lines["age"] = (as_of - lines["ordered_at"]) / DAY
    bought = lines[lines["quantity"] > 0]
    people = pd.DataFrame(
        index=pd.Index(sorted({*customers["customer_id"], *orders["customer_id"]}), name="customer_id")
    )
    people["days_since_signup"] = (as_of - customers.set_index("customer_id")["signed_up_at"]) / DAY
    _naive_orders(people, lines, bought)
    _naive_visits(people, bought)
    _naive_events(people, events, as_of)
    return people


def _naive_orders(people: pd.DataFrame, lines: pd.DataFrame, bought: pd.DataFrame) -> None:
    order = bought.groupby(["customer_id", "order_id"]).agg(
        age=("age", "first"), at=("ordered_at", "first"), amount=("amount", "sum"), quantity=("quantity", "sum")
    )
    order = order.reset_index()
    by = order.groupby("customer_id")
    people["days_since_last_order"], people["days_since_first_order"] = by["age"].min(), by["age"].max()
    for days in (7, 14, 30, 60, 90, 180, 365):
        people[f"orders_{days}d"] = order[order["age"] < days].groupby("customer_id").size()
    people["orders_total"] = by.size()
    for days in (30, 90, 365):
        people[f"revenue_{days}d"] = lines[lines["age"] < days].groupby("customer_id")["amount"].sum()
    people["revenue_total"] = lines.groupby("customer_id")["amount"].sum()
    people["average_order_value"], people["largest_order_value"] = by["amount"].mean(), by["amount"].max()
    last = order[order["age"] == by["age"].transform("min")]
    people["last_order_value"] = last.groupby("customer_id")["amount"].max()
    people["items_per_order"] = by["quantity"].sum() / by.size()
    grouped = bought.groupby("customer_id")
    people["lines_per_order"] = grouped.size() / grouped["order_id"].nunique()
    people["distinct_products"] = grouped["product_id"].nunique()
    people["distinct_categories"] = grouped["category"].nunique()
    people["returned_lines"] = lines[lines["quantity"] < 0].groupby("customer_id").size()
    people["discount_share"] = grouped["discount"].sum() / grouped["gross"].sum()
    local = order[order["age"] < 366].assign(day=lambda f: f["at"].dt.tz_convert("Asia/Seoul").dt.day_of_week >= 5)
    people["weekend_share"] = local.groupby("customer_id")["day"].mean()
    counts = [c for c in people if c.startswith(("orders_", "revenue_", "distinct_"))] + ["returned_lines"]
    people[counts] = people[counts].fillna(0)


def _naive_visits(people: pd.DataFrame, bought: pd.DataFrame) -> None:
    days = bought.assign(day=np.floor(bought["age"]))[["customer_id", "day"]].drop_duplicates()
    days = days.sort_values(["customer_id", "day"])
    days["gap"] = days.groupby("customer_id")["day"].shift(-1) - days["day"]
    days["place"] = days.groupby("customer_id").cumcount()
    by = days.groupby("customer_id")
    people["purchase_days"] = by.size()
    people["purchase_days"] = people["purchase_days"].fillna(0)
    people["mean_gap_days"], people["gap_spread_days"] = by["gap"].mean(), by["gap"].std()
    people["longest_gap_days"] = by["gap"].max()
    people["last_gap_days"] = days[days["place"] == 0].set_index("customer_id")["gap"]
    people["days_since_second_last"] = days[days["place"] == 1].set_index("customer_id")["day"]
    people["days_since_third_last"] = days[days["place"] == 2].set_index("customer_id")["day"]
    people["overdue_ratio"] = people["days_since_last_order"] / people["mean_gap_days"]
    people["order_trend"] = people["orders_30d"] * 3 / people["orders_90d"].replace(0, np.nan)
    people["order_rate"] = people["purchase_days"] / people["days_since_first_order"].clip(lower=30).fillna(30)
    people["recency_share"] = people["days_since_last_order"] / people["days_since_first_order"]


def _naive_events(people: pd.DataFrame, events: pd.DataFrame, as_of: pd.Timestamp) -> None:
    age = (as_of - events["occurred_at"]) / DAY
    for name, event, days in (
        ("views_7d", "view_item", 7), ("views_30d", "view_item", 30), ("carts_7d", "add_to_cart", 7),
        ("carts_30d", "add_to_cart", 30), ("searches_30d", "search", 30),
    ):  # fmt: skip
        people[name] = events[(events["event_name"] == event) & (age < days)].groupby("customer_id").size()
        people[name] = people[name].fillna(0)
    people["sessions_30d"] = events[age < 30].groupby("customer_id")["session_id"].nunique()
    people["sessions_30d"] = people["sessions_30d"].fillna(0)
    people["days_since_last_event"] = age.groupby(events["customer_id"]).min()
    carts = events["event_name"] == "add_to_cart"
    people["days_since_last_cart"] = age[carts].groupby(events.loc[carts, "customer_id"]).min()
    since = people["days_since_last_order"].fillna(np.inf)
    people["open_cart"] = (people["days_since_last_cart"].le(7) & (since > people["days_since_last_cart"])).astype(
        float
    )


if __name__ == "__main__":
    print(run())
