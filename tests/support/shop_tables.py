"""A small shop in a lake: rows given as dicts with only the columns that matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.settings import Settings
from controltower.shop import Sender, Shop

from support.lakes import publish_rows

T = datetime(2026, 6, 15, tzinfo=UTC)
SHOP = Shop(
    name="Test",
    timezone="UTC",
    currency="GBP",
    url="https://shop.example",
    sender=Sender(name="Test", email="a@shop.example", contact="1", postal_address="1 Street"),
)


def ago(days: float = 0, **more: float) -> datetime:
    """A moment before T."""
    return T - timedelta(days=days, **more)


def lake_with(home: Path, tables: Mapping[str, Iterable[Mapping[str, Any]]], interval: str = "first") -> Lake:
    """The lake of a home, with these rows published. Where a row doesn't say when it was known: when it happened."""
    lake = Lake(Settings(home=home, threads=2))
    for name, rows in tables.items():
        publish_rows(lake, name, interval, table(name, rows))
    return lake


def table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows in the contract's form."""
    contract = CONTRACT[name]
    full = [{**dict.fromkeys(c.name for c in contract.columns), **row} for row in rows]
    for row in full:
        if row[contract.known] is None:
            happened = row[contract.happened] if contract.happened else None
            row[contract.known] = happened or datetime(1970, 1, 1, tzinfo=UTC)
    return pa.Table.from_pylist(full, schema=contract.schema)


def order(
    order_id: str, customer: str | None, at: datetime, *lines: tuple[str, float, float], **more: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An order and its lines (product, quantity, unit price)."""
    known = more.pop("updated_at", at)
    head = {
        "order_id": order_id,
        "customer_id": customer,
        "ordered_at": at,
        "updated_at": known,
        "currency": "GBP",
        "status": "placed",
        **more,
    }
    body = [
        {
            "order_id": order_id,
            "line_no": number,
            "updated_at": known,
            "product_id": product,
            "quantity": float(quantity),
            "unit_price": money(price),
        }
        for number, (product, quantity, price) in enumerate(lines, 1)
    ]
    return head, body


def orders(*made: tuple[dict[str, Any], list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Tables of several orders."""
    return {"orders": [head for head, _ in made], "order_lines": [line for _, body in made for line in body]}


def money(value: float) -> Any:
    from decimal import Decimal

    return Decimal(str(round(value, 4)))


def event(event_id: str, customer: str | None, at: datetime, name: str, **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "customer_id": customer, "occurred_at": at, "event_name": name, **more}


def product(product_id: str, **more: Any) -> dict[str, Any]:
    return {"product_id": product_id, "title": f"Title {product_id}", "price": money(10), "currency": "GBP", **more}
