"""The simulated shop keeps the contract, is the same every time, and grows by days."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from controltower.data.contract import CONTRACT, CORE
from controltower.errors import BadSettings
from controltower.simulation import shop

from .conftest import SEED, UNTIL, read, small


def keys(table: pa.Table, *columns: str) -> list[tuple[object, ...]]:
    return list(zip(*(table[c].to_pylist() for c in columns), strict=True))


def rows(table: pa.Table) -> Counter[tuple[object, ...]]:
    return Counter(keys(table, *table.column_names))


def test_every_core_table_is_there_and_keeps_the_contract(tables: dict[str, pa.Table]) -> None:
    assert set(CORE) <= set(tables)
    for name, table in tables.items():
        strict = table.cast(CONTRACT[name].schema)  # raises where a required column is empty or a type differs
        strict.validate(full=True)
        assert strict.num_rows > 0, name
        key = [*CONTRACT[name].key]
        if CONTRACT[name].kind == "version":
            key.append("updated_at")
        assert len(set(keys(strict, *key))) == strict.num_rows, name


def test_no_time_is_later_than_until(tables: dict[str, pa.Table]) -> None:
    planned = {"ends_at", "expires_at"}
    for name, table in tables.items():
        for field in table.schema:
            if (
                pa.types.is_timestamp(field.type)
                and field.name not in planned
                and table[field.name].null_count < len(table)
            ):
                assert pc.max(table[field.name]).as_py() <= UNTIL, (name, field.name)


def test_known_is_never_before_it_happened(tables: dict[str, pa.Table]) -> None:
    for name, happened, known in (("events", "occurred_at", "received_at"), ("orders", "ordered_at", "updated_at")):
        table = tables[name]
        assert table[known].null_count == 0
        assert pc.all(pc.greater_equal(table[known], table[happened])).as_py()


def test_references_hold(tables: dict[str, pa.Table]) -> None:
    ids = {name: set(tables[name][key].to_pylist()) for name, key in
           (("customers", "customer_id"), ("products", "product_id"), ("orders", "order_id"))}  # fmt: skip
    for name in ("orders", "events", "consents", "devices", "identities"):
        assert set(tables[name]["customer_id"].to_pylist()) - {None} <= ids["customers"], name
    for name in ("events", "order_lines", "collection_products"):
        assert set(tables[name]["product_id"].to_pylist()) - {None} <= ids["products"], name
    assert set(tables["order_lines"]["order_id"].to_pylist()) == ids["orders"]
    assert set(tables["events"]["order_id"].to_pylist()) - {None} <= ids["orders"]


def test_each_order_is_told_by_one_purchase_event(tables: dict[str, pa.Table]) -> None:
    events = tables["events"].to_pandas()
    bought = events[events["event_name"] == "purchase"].set_index("order_id")
    orders = tables["orders"].to_pandas().drop_duplicates("order_id").set_index("order_id")
    assert bought.index.is_unique
    told = orders.loc[bought.index]
    assert (told["ordered_at"] == bought["occurred_at"]).all()
    assert told["customer_id"].fillna("").eq(bought["customer_id"].fillna("")).all()
    lines = tables["order_lines"].to_pandas()
    lines = lines[lines["quantity"] > 0].astype({"unit_price": float, "discount": float})
    net = (lines["quantity"] * lines["unit_price"] - lines["discount"]).groupby(lines["order_id"]).sum()
    assert (net.loc[bought.index] == bought["value"].astype(float)).all()


def test_customers_are_known_before_they_act(tables: dict[str, pa.Table]) -> None:
    signed = tables["customers"].to_pandas().groupby("customer_id")["updated_at"].min()
    for name, when in (
        ("orders", "ordered_at"),
        ("events", "occurred_at"),
        ("consents", "recorded_at"),
        ("devices", "updated_at"),
    ):
        table = tables[name].to_pandas().dropna(subset=["customer_id"])
        assert (table[when] >= table["customer_id"].map(signed)).all(), name


def test_the_same_seed_gives_the_same_shop(tables: dict[str, pa.Table], tmp_path: Path) -> None:
    shop.generate(tmp_path / "again", until=UNTIL, parameters=small(), seed=SEED)
    again = read(tmp_path / "again")
    assert {n: t.equals(again[n]) for n, t in tables.items()} == dict.fromkeys(tables, True)
    shop.generate(tmp_path / "other", until=UNTIL, parameters=small(), seed=SEED + 1)
    assert not read(tmp_path / "other")["orders"].equals(tables["orders"])


@pytest.mark.parametrize("days", [1, 26])  # 26: into the next month, where tiers and devices are looked at
def test_a_later_day_only_adds_rows(tables: dict[str, pa.Table], tmp_path: Path, days: int) -> None:
    parameters = small(opened=shop.opening(UNTIL, small()))
    shop.generate(tmp_path, until=UNTIL + timedelta(days=days), parameters=parameters, seed=SEED)
    for name, table in read(tmp_path).items():
        before, after = rows(tables[name]), rows(table)
        assert not before - after, name
        known = table.column_names.index(CONTRACT[name].known)
        assert all(row[known] > UNTIL for row in after - before), name


def test_a_broken_share_of_events_breaks_the_contract(tables: dict[str, pa.Table], tmp_path: Path) -> None:
    shop.generate(tmp_path, until=UNTIL, parameters=small(broken_share=0.02), seed=SEED)
    events, sound = read(tmp_path)["events"].to_pandas(), tables["events"].to_pandas()
    bad = {
        "name": events["event_name"].isna(),
        "time": events["occurred_at"] > pd.Timestamp(UNTIL),
        "value": events["value"].astype(float) < 0,
    }
    assert all(b.any() for b in bad.values())
    broken = bad["name"] | bad["time"] | bad["value"]
    assert 0.005 < broken.mean() < 0.03
    pd.testing.assert_frame_equal(events[~broken], sound[~broken])


def test_a_shop_keeps_its_opening_day(tmp_path: Path) -> None:
    parameters = small(customers=40, days=30)
    march = datetime(2026, 3, 20, tzinfo=UTC)
    assert shop.opening(march, parameters) == date(2026, 2, 1)
    assert shop.opening(march + timedelta(days=60), parameters) == date(2026, 4, 1)
    shop.generate(tmp_path, until=march, parameters=parameters, seed=SEED)
    before = rows(read(tmp_path)["orders"])
    shop.generate(tmp_path, until=march + timedelta(days=60), parameters=parameters, seed=SEED)
    assert not before - rows(read(tmp_path)["orders"])


def test_times_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no time zone"):
        shop.generate(tmp_path, until=datetime(2026, 3, 1), parameters=small(), seed=1)  # noqa: DTZ001
    with pytest.raises(BadSettings, match="opens on"):
        shop.generate(tmp_path, until=UNTIL, parameters=small(opened="2026-06-20"), seed=1)
    assert not list(tmp_path.iterdir())
