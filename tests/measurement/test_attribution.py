"""Which message an order is credited to: by hand, and whatever the order of things."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from controltower.measurement.attribution import Order, Touch, attribute, credits
from controltower.measurement.funnel import RUN
from hypothesis import given
from hypothesis import strategies as st

T = datetime(2026, 6, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)


def touch(seq: int, at: float, *, run_id: int = 1, subject: int = 1, days: int = 7, **more: Any) -> Touch:
    given = {"channel": "email", "variant": "a"} | more
    return Touch(seq, run_id, subject, given["channel"], given["variant"], T + at * HOUR, timedelta(days=days))


def order(name: str, at: float, *, subject: int = 1, revenue: str = "10", **more: Any) -> Order:
    given = {"currency": "KRW", "bought": True} | more
    return Order(name, subject, T + at * HOUR, given["currency"], given["bought"], Decimal(revenue))


def credited(touches: list[Touch], orders: list[Order]) -> dict[str, int]:
    return {o.order_id: t.seq for o, t in attribute(touches, orders)}


def test_an_order_goes_to_the_newest_message_before_it() -> None:
    touches = [touch(1, 0), touch(2, 10, run_id=2), touch(3, 20, run_id=3), touch(4, 0, subject=2)]
    assert credited(touches, [order("x", 15), order("y", 25), order("z", 5)]) == {"x": 2, "y": 3, "z": 1}


def test_one_before_its_message_or_with_it_goes_to_none() -> None:
    assert credited([touch(1, 10)], [order("before", 9), order("with", 10), order("another", 12, subject=2)]) == {}


def test_the_window_ends() -> None:
    assert credited([touch(1, 0, days=1)], [order("in", 23.99), order("out", 24)]) == {"in": 1}


def test_a_newer_message_whose_window_is_over_takes_nothing() -> None:
    assert credited([touch(1, 0, days=30), touch(2, 10, days=1)], [order("x", 40)]) == {"x": 1}


def test_of_two_at_the_same_moment_the_later_made() -> None:
    assert credited([touch(2, 0), touch(1, 0)], [order("x", 1)]) == {"x": 2}


def test_credits_are_summed_by_level_and_currency() -> None:
    pairs = [
        (order("1", 1), touch(1, 0)),
        (order("2", 2, revenue="5.5"), touch(1, 0)),
        (order("3", 3, revenue="-4", bought=False), touch(1, 0)),  # a return booked by itself
        (order("4", 1, revenue="1", currency="USD"), touch(2, 0, channel="push", variant="b")),
        (order("5", 1), touch(9, 0, run_id=2)),
    ]
    found = credits(pairs, 1, "KRW")
    assert found.levels[RUN] == {"ordered": 2, "orders": 3, "revenue": Decimal("11.5")}
    assert found.levels["channel", "email"] == {"ordered": 1, "orders": 2, "revenue": Decimal("11.5")}
    assert found.levels["variant", "b"] == {"ordered": 1, "orders": 1, "revenue": 0}
    assert found.other_currencies == {"USD": (1, Decimal(1))}


touches_ = st.lists(
    st.builds(
        touch, st.integers(1, 10**6), st.integers(0, 400), run_id=st.integers(1, 3), subject=st.integers(1, 3),
        days=st.integers(1, 10), channel=st.sampled_from(["email", "push"]), variant=st.sampled_from(["a", "b"]),
    ),
    max_size=12, unique_by=lambda t: t.seq,
)  # fmt: skip
orders_ = st.lists(
    st.builds(
        order, st.uuids().map(str), st.integers(0, 600), subject=st.integers(1, 3),
        revenue=st.integers(-9, 99).map(str),
    ),
    max_size=12,
)  # fmt: skip


@given(touches_, orders_, st.randoms())
def test_neither_lists_order_matters_and_no_order_counts_twice(touches: Any, orders: Any, random: Any) -> None:
    first = credited(touches, orders)
    mixed_touches, mixed_orders = list(touches), list(orders)
    random.shuffle(mixed_touches)
    random.shuffle(mixed_orders)
    assert credited(mixed_touches, mixed_orders) == first
    found = attribute(touches, orders)
    assert len({o.order_id for o, _ in found}) == len(found)
    assert all(t.subject_id == o.subject_id and t.sent_at < o.ordered_at < t.sent_at + t.window for o, t in found)


@given(touches_, orders_)
def test_runs_share_out_what_is_credited_and_levels_sum_up(touches: Any, orders: Any) -> None:
    found = attribute(touches, orders)
    runs = [credits(found, run_id, "KRW").levels for run_id in (1, 2, 3)]
    assert sum(levels[RUN]["orders"] for levels in runs) == len(found)
    assert sum(levels[RUN]["revenue"] for levels in runs) == sum(o.revenue for o, _ in found)
    for levels in runs:
        for name in ("ordered", "orders", "revenue"):
            for kind in ("channel", "variant"):
                assert sum(c[name] for (k, _), c in levels.items() if k == kind) == levels[RUN][name]
