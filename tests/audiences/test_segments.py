"""Segment rules on a table whose right answer is known."""

from __future__ import annotations

import ibis
import pytest
from controltower.audiences.rules import Rule
from controltower.audiences.segments import select
from controltower.errors import BadSpec

CUSTOMERS = ibis.memtable(
    {
        "customer_id": ["a", "b", "c", "d"],
        "orders_total": [0.0, 1.0, 5.0, None],
        "lifecycle": ["prospect", "new", "active", None],
    }
)


@pytest.mark.parametrize(
    ("rules", "fits"),
    [
        ([Rule(column="orders_total", at_least=1)], "bc"),
        ([Rule(column="orders_total", at_most=1)], "ab"),
        ([Rule(column="orders_total", at_least=1, at_most=1)], "b"),
        ([Rule(column="orders_total", at_least=1, or_unknown=True)], "bcd"),
        ([Rule(column="lifecycle", is_in=["new", "active"])], "bc"),
        ([Rule(column="orders_total", is_in=["1", "5.0"])], "bc"),
        ([Rule(column="lifecycle", is_in=["new"]), Rule(column="orders_total", at_least=2)], ""),
        ([], "abcd"),
    ],
)
def test_rules_select_who_fits_all_of_them(rules: list[Rule], fits: str) -> None:
    found = select(CUSTOMERS, rules).execute()
    assert sorted(found["customer_id"]) == list(fits)


def test_a_rule_on_an_unknown_column_says_which_there_are() -> None:
    with pytest.raises(BadSpec, match="lifecycle, orders_total"):
        select(CUSTOMERS, [Rule(column="shoe_size", at_least=40)])


def test_a_rule_on_numbers_names_numbers() -> None:
    with pytest.raises(BadSpec, match="no number"):
        select(CUSTOMERS, [Rule(column="orders_total", is_in=["many"])])
