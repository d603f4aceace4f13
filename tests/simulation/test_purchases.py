"""What messages cause is written in the contract's form, once, and the truth beside it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower.data.contract import CONTRACT
from controltower.simulation import answers, purchases
from controltower.simulation.answers import Click, Delivery, Message, Purchase
from controltower.simulation.parameters import Parameters
from controltower.simulation.truth import Customer, Truth

from .conftest import SEED

AT = datetime.fromisoformat("2026-06-06T20:15:00+09:00")
MESSAGE_ID = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def truth(small_shop: Path) -> Truth:
    return Truth(small_shop, SEED, 1.0, Parameters.load())


@pytest.fixture
def customer(truth: Truth) -> Customer:
    return truth.customers["C000003"]


def purchase(truth: Truth, after_click: bool = True, cancelled: bool = False) -> Purchase:
    products = tuple(list(truth.products.values())[:2])
    return Purchase(AT, products, after_click, AT + timedelta(hours=3) if cancelled else None)


def test_rows_keep_the_contract(truth: Truth, customer: Customer, tmp_path: Path) -> None:
    bought = purchases.bought(customer, truth, purchase(truth), "Mfeed", MESSAGE_ID)
    visit = purchases.visit(customer, truth, Click(AT - timedelta(minutes=5), "P00001"), 1, "Mfeed", MESSAGE_ID)
    purchases.keep(tmp_path, {name: bought.get(name, []) + visit.get(name, []) for name in purchases.TABLES})
    tables = {name: pa.concat_tables(map(pq.read_table, purchases.files(tmp_path, name))) for name in purchases.TABLES}
    for name, table in tables.items():
        table.cast(CONTRACT[name].schema).validate(full=True)
    events = tables["events"].sort_by("occurred_at").to_pylist()
    assert [e["event_name"] for e in events][-4:] == ["add_to_cart", "add_to_cart", "begin_checkout", "purchase"]
    assert {e["click_id"] for e in events} == {MESSAGE_ID}
    assert {e["customer_id"] for e in events} == {"C000003"}
    (order,) = tables["orders"].to_pylist()
    assert order["status"] == "placed"
    assert order["order_id"] == events[-1]["order_id"]
    assert set(tables["order_lines"]["order_id"].to_pylist()) == {order["order_id"]}
    assert events[-1]["occurred_at"] == order["ordered_at"] == AT
    assert purchases.known_at(bought) > AT


def test_who_comes_later_by_themselves_names_no_click(truth: Truth, customer: Customer) -> None:
    rows = purchases.bought(customer, truth, purchase(truth, after_click=False), "Mfeed", MESSAGE_ID)
    assert all("click_id" not in e for e in rows["events"])
    assert [e["event_name"] for e in rows["events"]][:2] == ["view_item", "view_item"]


def test_a_cancellation_is_the_orders_next_version(truth: Truth, customer: Customer) -> None:
    one = purchase(truth, cancelled=True)
    (placed,) = purchases.bought(customer, truth, one, "Mfeed", MESSAGE_ID)["orders"]
    (ended,) = purchases.cancelled(customer, truth, one, "Mfeed")["orders"]
    assert ended == placed | {"status": "cancelled", "updated_at": AT + timedelta(hours=3)}


def test_rows_survive_json(truth: Truth, customer: Customer) -> None:
    rows = purchases.bought(customer, truth, purchase(truth), "Mfeed", MESSAGE_ID)
    assert purchases.from_json(purchases.as_json(rows)) == rows


def test_ids_differ_from_the_shops_own(truth: Truth, customer: Customer, tables: dict[str, pa.Table]) -> None:
    rows = purchases.bought(customer, truth, purchase(truth), purchases.short_name("k"), MESSAGE_ID)
    assert not {o["order_id"] for o in rows["orders"]} & set(tables["orders"]["order_id"].to_pylist())
    assert not {e["event_id"] for e in rows["events"]} & set(tables["events"]["event_id"].to_pylist())
    assert rows["orders"][0]["order_id"].startswith("M")
    assert len({purchases.short_name(str(i)) for i in range(5000)}) == 5000


def test_what_is_kept_appears_whole_and_nothing_makes_no_folder(
    truth: Truth, customer: Customer, tmp_path: Path
) -> None:
    purchases.keep(tmp_path, {"orders": [], "events": []})
    assert not (tmp_path / "simulated").exists()
    rows = purchases.bought(customer, truth, purchase(truth), "Mfeed", MESSAGE_ID)
    purchases.keep(tmp_path, rows)
    purchases.keep(tmp_path, {"orders": rows["orders"]})
    assert len(purchases.files(tmp_path, "orders")) == 2
    assert len(purchases.files(tmp_path, "order_lines")) == 1
    assert sorted(p.name for p in (tmp_path / "simulated" / "answers").iterdir()) == ["000001", "000002"]


def test_the_truth_has_a_row_for_each_message(truth: Truth, customer: Customer, tmp_path: Path) -> None:
    message = Message("c", "Hello", "email", AT, ("P00001",))
    reaction = answers.react(truth, customer, message, AT)
    bought = purchase(truth)
    row = purchases.true_message(
        MESSAGE_ID, customer, message, Delivery("delivered", AT),
        answers.Reaction(reaction.fit, 0.3, 0.2, 0.1, seen_at=AT, purchase=bought), "Mfeed",
    )  # fmt: skip
    bounced = purchases.true_message("f" * 32, customer, message, Delivery("bounced", AT), None, "Mdead")
    purchases.keep(tmp_path, {purchases.MESSAGES: [row, bounced]})
    purchases.keep(tmp_path, {purchases.MESSAGES: [row]})  # a repeat after a crash
    found = purchases.true_messages(tmp_path).to_pylist()
    assert len(found) == 2
    assert found[0]["caused_order_id"] == "Mfeed-260606"
    assert found[0]["amount"] == bought.amount
    assert found[1]["delivery"] == "bounced"
    assert found[1]["caused_order_id"] is None


def test_a_home_without_a_simulated_shop_has_no_truth(tmp_path: Path) -> None:
    assert Truth.of_home(tmp_path) is None
    assert purchases.true_messages(tmp_path).num_rows == 0
    purchases.keep(tmp_path, {"orders": []})
    assert Truth.of_home(tmp_path) is None
