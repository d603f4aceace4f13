"""Whose an order or a device is when it was passed on: its last owner's, as readers see it."""

from __future__ import annotations

from pathlib import Path

import pytest
from controltower.data.lake import Lake
from controltower.data.persons import Persons
from controltower.settings import Settings
from support.shop_tables import ago, lake_with, order, orders

MADE = order("o", "first", ago(9), ("p1", 1, 10))


def versions(home: Path, *owners: tuple[str, float]) -> Lake:
    """The order in a load each: of whom, and how many days ago that was known."""
    for n, (owner, days) in enumerate(owners):
        lake_with(home, {"orders": [{**MADE[0], "customer_id": owner, "updated_at": ago(days)}]}, f"load{n}")
    return lake_with(home, {"order_lines": orders(MADE)["order_lines"]}, "lines")


@pytest.mark.parametrize(
    ("owners", "last"),
    [
        ((("first", 5), ("last", 4)), "last"),
        ((("last", 4), ("first", 5)), "last"),  # loaded later, but known before
        ((("first", 5), ("last", 5)), "last"),  # at the same moment the later load holds
    ],
)
def test_an_order_that_was_passed_on_is_its_last_owners(
    home: Path, owners: tuple[tuple[str, float], ...], last: str
) -> None:
    lake = versions(home, *owners)
    persons = Persons(lake)
    with lake.read() as reading:
        assert reading.frame(reading.table("orders"))["customer_id"].tolist() == [last]
    assert persons.find(["first"]).orders == set() and persons.find([last]).orders == {"o"}
    assert persons.erase(persons.find(["first"])) == {"orders": 1}
    with lake.read() as reading:
        assert reading.frame(reading.table("orders"))["customer_id"].tolist() == [last]
        assert len(reading.frame(reading.table("order_lines"))) == 1
    assert persons.erase(persons.find([last])) == {"orders": 1, "order_lines": 1}


def test_an_earlier_owner_doesnt_come_back(home: Path) -> None:
    lake = versions(home, ("first", 5), ("last", 4))
    persons = Persons(lake)
    assert persons.erase(persons.find(["last"])) == {"orders": 2, "order_lines": 1}


@pytest.mark.parametrize(("then", "now"), [("first", "last"), ("last", "first")])
def test_what_was_loaded_again_tells(home: Path, then: str, now: str) -> None:
    """Files that readers don't see any more say nothing of what those that they see say."""
    versions(home, (then, 3))
    lake = versions(home, (now, 4))
    persons = Persons(Lake(Settings(home=home)))
    assert persons.find([then]).orders == set() and persons.find([now]).orders == {"o"}
    persons.erase(persons.find([then]))
    with lake.read() as reading:
        assert reading.frame(reading.table("orders"))["customer_id"].tolist() == [now]


def test_an_order_that_only_replaced_files_have_is_found(home: Path) -> None:
    versions(home, ("first", 3))
    lake_with(home, {"orders": [order("another", "other", ago(2))[0]]}, "load0")
    assert Persons(Lake(Settings(home=home))).find(["first"]).orders == {"o"}
