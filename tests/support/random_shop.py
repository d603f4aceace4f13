"""A shop of random rows in every table that features read: ties, nulls, several zones, countries and currencies."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from support.shop_tables import event, money, order, product

EVENTS = (
    "view_item view_item view_item add_to_cart remove_from_cart begin_checkout purchase search coupon_failed".split()
)
REACTIONS = ("opened", "clicked", "unsubscribed", "complained", "delivered")
ZONES = ("Asia/Seoul", "Europe/London", "Nowhere/Land", None)
BRANDS = ("Ada", "Bob", "씨", None)
WORDS = "soft green 녹차 soap tea mint Über 비누 big".split()
CATEGORIES = ("x > y", "z", "w", None)

DAYS = 24  # with something on them: each is a file of the lake

Rows = dict[str, list[dict[str, Any]]]


def random_shop(rng: random.Random, first: datetime, last: datetime, prefix: str, size: int = 50) -> Rows:
    """What happens from `first` to `last` to `size` customers; ids of orders, events, messages begin with `prefix`."""
    span = (last - first).total_seconds()

    def some_time() -> datetime:
        day = rng.randrange(DAYS) * span / DAYS
        moment = first + timedelta(seconds=day + rng.random() * min(span / DAYS, 80_000))
        return moment.replace(microsecond=0) if rng.random() < 0.3 else moment  # to the second: ties

    def customer() -> str:
        return f"c{rng.randrange(size)}"

    def one(*values: Any) -> Any:
        return rng.choice(values)

    orders = [
        order(
            f"{prefix}{i}",
            customer() if rng.random() < 0.95 else None,
            some_time(),
            *((f"p{rng.randrange(9)}", one(1, 2, 3, -1), one(0.1, 3.33, 7.77, 0)) for _ in range(3)),
            status=one("placed", "placed", "placed", "cancelled", "returned", None),
            channel=one("web", "app", "store", None),
            coupon_code=one("C1", None, None),
            currency=one("GBP", "GBP", "GBP", "USD"),
        )
        for i in range(3 * size)
    ]
    for _, lines in orders:
        for line in lines:
            line["discount"] = one(None, money(0), money(0.05))
    return {
        "customers": [
            {
                "customer_id": f"c{i}", "updated_at": (at := some_time()), "signed_up_at": one(at, None),
                "timezone": one(*ZONES), "country": one("KR", "GB", None), "home_store": one("s1", "s2", None),
                "points": one(None, 10.0, 12.5),
            }
            for i in range(size + 10)
        ],
        "devices": [
            {
                "device_id": f"d{i}", "customer_id": customer(), "platform": one("ios", "android", "web"),
                "push_token": one("token", None), "updated_at": some_time(),
            }
            for i in range(size)
        ],
        "products": [
            product(
                f"p{i}", category=one(*CATEGORIES), price=money(one(5, 7.5, 12.25)), currency=one("GBP", "USD"),
                updated_at=some_time(), brand=BRANDS[i % 4], title=f"{BRANDS[i % 4]} {WORDS[i]} {WORDS[i - 4]}",
            )
            for i in range(9)
        ],
        "events": [
            event(
                f"{prefix}{i}", customer() if rng.random() < 0.9 else None, some_time(), rng.choice(EVENTS),
                session_id=one(f"{prefix}{i // 6}", None), product_id=one(f"p{rng.randrange(12)}", None),
                query=one("tea", "Tea", "차", None), results_count=one(0, 3, None),
                channel=one("web", "app", "store", None),
            )
            for i in range(12 * size)
        ],
        "orders": [head for head, _ in orders],
        "order_lines": [line for _, lines in orders for line in lines],
        "coupons": [
            {
                "coupon_code": f"k{i}", "pool": "p", "issued_to": one(customer(), None), "updated_at": some_time(),
                "expires_at": one(None, last + timedelta(days=5), last - timedelta(days=5)),
                "redeemed_order_id": one(None, "o"),
            }
            for i in range(size)
        ],
        "messages_history": [
            {
                "message_id": f"{prefix}{i}", "customer_id": customer(), "sent_at": some_time(),
                "channel": one("email", "push"),
            }
            for i in range(2 * size)
        ],
        "message_events": [
            {
                "event_id": f"{prefix}{i}", "message_id": f"{prefix}{rng.randrange(2 * size)}",
                "event": rng.choice(REACTIONS), "occurred_at": some_time(),
                "attributes": one(None, '{"machine": true}', '{"machine": false}'),
            }
            for i in range(4 * size)
        ],
        "exchange_rates": [
            {
                "date": (first + timedelta(days=d)).date(), "from": "USD", "to": "GBP", "rate": one(0.75, 0.123456),
                "updated_at": first + timedelta(days=d),
            }
            for d in range(0, int(span / 86_400), 2)
        ],
        "external": [
            *(
                {
                    "date": last.date() + timedelta(days=d), "region": region, "name": "temperature",
                    "value": one("12.5", "-3", "warm"), "updated_at": some_time(),
                }
                for d in (-1, 0, 1) for region in ("KR", "GB", "s1")
            ),
            *(
                {
                    "date": last.date() + timedelta(days=d), "region": "GB", "name": "holiday",
                    "value": one("Christmas", "Bank holiday", "0"), "updated_at": some_time(),
                }
                for d in range(-300, 40, 30)
            ),
        ],
    }  # fmt: skip
