"""A synthetic shop of any size in a lake: sessions of five events, orders, messages and clicks, in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake

AS_OF = datetime(2026, 6, 15, tzinfo=UTC)
PRODUCTS, CATEGORIES = 5_000, 40
EVENTS_PER_SESSION, LINES_PER_ORDER, CHUNK = 5, 3, 1_000_000
NAMES = np.array(["view_item", "add_to_cart", "begin_checkout", "search", "purchase"])


def fill(lake: Lake, events: int, customers: int, seed: int = 1, days: int | None = None) -> int:
    """Publish the shop: as many orders as 6 % of the events, a message per ten events. Returns the rows written.

    As much happens on each of the last `days`; by default ever more, half of all in the last six weeks.
    """
    rng = _Random(seed, days)
    rows = 0
    for name, tables in (
        ("customers", _customers(rng, customers)),
        ("products", _products()),
        ("events", _events(rng, events, customers)),
        ("orders", _orders(rng, events * 6 // 100, customers)),
        ("messages", _messages(rng, events // 10, customers)),
    ):
        for number, made in enumerate(tables):
            for table, body in made.items():
                lake.commit(f"{name}-{number:04}", {table: lake.write(table, body)})
                rows += body.num_rows
    return rows


def _table(name: str, **columns: pa.Array) -> pa.Table:
    length = len(next(iter(columns.values())))
    return pa.table(
        [
            columns[f.name].cast(f.type) if f.name in columns else pa.nulls(length, f.type)
            for f in CONTRACT[name].schema
        ],
        schema=CONTRACT[name].schema,
    )


def _ids(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pa.array(np.char.add(prefix, numbers.astype("U9")))


def _named(prefix: str, count: int, chosen: np.ndarray) -> pa.Array:
    """Ids of a known set, made once: a dictionary looked up."""
    return pa.DictionaryArray.from_arrays(pa.array(chosen, pa.int32()), _ids(prefix, np.arange(count))).cast(
        pa.string()
    )


def _words(words: np.ndarray, chosen: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(chosen, pa.int32()), pa.array(words)).cast(pa.string())


def _money(whole: np.ndarray) -> pa.Array:
    return pa.array(whole.astype(np.int32))  # of 64 bits would need more digits than the contract's decimals have


def _moments(seconds_ago: np.ndarray) -> pa.Array:
    return pa.array((int(AS_OF.timestamp()) - seconds_ago) * 1_000_000).cast(pa.timestamp("us", tz="UTC"))


class _Random(np.random.Generator):
    def __init__(self, seed: int, days: int | None) -> None:
        super().__init__(np.random.PCG64(seed))
        self.days = days


def _ages(rng: _Random, count: int) -> np.ndarray:
    """Seconds before AS_OF, oldest first, none older than 500 days."""
    days = rng.exponential(60, count).clip(max=500) if rng.days is None else rng.random(count) * rng.days
    return np.sort((days * 86_400).astype(np.int64) + 3600)[::-1]


def _chunks(count: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    for start in range(0, count, size):
        yield start, min(start + size, count)


def _customers(rng: _Random, count: int) -> Iterator[dict[str, pa.Table]]:
    at = _moments(_ages(rng, count))
    ids = _ids("c", np.arange(count))
    yield {"customers": _table("customers", customer_id=ids, signed_up_at=at, updated_at=at)}


def _products() -> Iterator[dict[str, pa.Table]]:
    numbers = np.arange(PRODUCTS)
    yield {
        "products": _table(
            "products",
            product_id=_ids("p", numbers),
            title=_ids("Product ", numbers),
            category=_ids("k", numbers % CATEGORIES),
            price=_money((numbers % 97 + 1) * 1000),
            currency=pa.array(["KRW"] * PRODUCTS),
            updated_at=_moments(np.full(PRODUCTS, 600 * 86_400)),
        )
    }


def _events(rng: _Random, count: int, customers: int) -> Iterator[dict[str, pa.Table]]:
    sessions = count // EVENTS_PER_SESSION
    starts, owners = _ages(rng, sessions), rng.integers(0, customers, sessions)
    for first, last in _chunks(sessions, CHUNK // EVENTS_PER_SESSION):
        session = np.repeat(np.arange(first, last), EVENTS_PER_SESSION)
        at = _moments(starts[session] - np.tile(np.arange(EVENTS_PER_SESSION) * 60, last - first))
        kind = rng.choice(len(NAMES), len(session), p=[0.78, 0.1, 0.03, 0.07, 0.02])
        query = pa.array(["tea"] * len(session), mask=kind != NAMES.tolist().index("search"))
        yield {
            "events": _table(
                "events",
                event_id=_ids("e", np.arange(first * EVENTS_PER_SESSION, last * EVENTS_PER_SESSION)),
                occurred_at=at,
                received_at=at,
                event_name=_words(NAMES, kind),
                customer_id=_named("c", customers, owners[session]),
                session_id=_ids("s", session),
                product_id=_named("p", PRODUCTS, rng.integers(0, PRODUCTS, len(session))),
                channel=_words(np.array(["web", "app"]), session % 2),
                query=query,
            )
        }


def _orders(rng: _Random, count: int, customers: int) -> Iterator[dict[str, pa.Table]]:
    ages = _ages(rng, count)
    for first, last in _chunks(count):
        number = np.arange(first, last)
        line = np.repeat(number, LINES_PER_ORDER)
        at, length = _moments(ages[number]), len(line)
        yield {
            "orders": _table(
                "orders",
                order_id=_ids("o", number),
                ordered_at=at,
                updated_at=at,
                customer_id=_named("c", customers, rng.integers(0, customers, len(number))),
                currency=pa.array(["KRW"] * len(number)),
                status=_words(np.array(["placed", "cancelled"]), (rng.random(len(number)) < 0.05).astype(int)),
                channel=_words(np.array(["web", "app", "store"]), number % 3),
                coupon_code=pa.array(["C"] * len(number), mask=number % 5 > 0),
            ),
            "order_lines": _table(
                "order_lines",
                order_id=_ids("o", line),
                line_no=pa.array(np.tile(np.arange(1, LINES_PER_ORDER + 1), len(number))),
                updated_at=_moments(ages[line]),
                product_id=_named("p", PRODUCTS, rng.integers(0, PRODUCTS, length)),
                quantity=pa.array(rng.choice([1.0, 2.0, 3.0, -1.0], length, p=[0.7, 0.2, 0.07, 0.03])),
                unit_price=_money(rng.integers(1, 100, length) * 1000),
                discount=_money(rng.choice([0, 500], length)),
            ),
        }


def _messages(rng: _Random, count: int, customers: int) -> Iterator[dict[str, pa.Table]]:
    ages = _ages(rng, count)
    for first, last in _chunks(count):
        number = np.arange(first, last)
        clicked = number[rng.random(len(number)) < 0.05]
        back = _moments(ages[clicked] - 600)
        yield {
            "messages_history": _table(
                "messages_history",
                message_id=_ids("m", number),
                customer_id=_named("c", customers, rng.integers(0, customers, len(number))),
                channel=_words(np.array(["email", "push"]), number % 2),
                sent_at=_moments(ages[number]),
            ),
            "message_events": _table(
                "message_events",
                event_id=_ids("x", clicked),
                message_id=_ids("m", clicked),
                event=pa.array(["clicked"] * len(clicked)),
                occurred_at=back,
                received_at=back,
            ),
        }
