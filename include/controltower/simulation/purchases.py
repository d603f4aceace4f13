"""What answers leave in the shop's data: visits after clicks, the orders that messages caused, and the truth of both.

HOME/simulated/answers/ holds a folder for each time that answers were given, complete from the moment it has its name,
with `events`, `orders` and `order_lines` in the contract's columns. A simulated source reads them beside the shop's
own. `messages` in them is the truth, which no source reads: a row for each message, with the order that it caused.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data.contract import CONTRACT
from controltower.simulation.answers import Click, Delivery, Message, Purchase, Reaction
from controltower.simulation.truth import ROOT, Customer, Truth

ANSWERS = "answers"
TABLES = ("events", "orders", "order_lines")
MESSAGES = "messages"
_NUMBER = re.compile(r"\d{6}")
_MONEY = pa.decimal128(18, 4)

Rows = dict[str, list[dict[str, Any]]]  # rows by table

TRUE_MESSAGES = pa.schema([
    ("message_id", pa.string()), ("customer_id", pa.string()), ("campaign", pa.string()),
    ("channel", pa.string()), ("received_at", pa.timestamp("us", tz="UTC")), ("products", pa.list_(pa.string())),
    ("delivery", pa.string()), ("fit", pa.float64()), ("open_chance", pa.float64()), ("click_chance", pa.float64()),
    ("buy_chance", pa.float64()), ("seen_at", pa.timestamp("us", tz="UTC")),
    ("clicked_at", pa.timestamp("us", tz="UTC")), ("left_at", pa.timestamp("us", tz="UTC")),
    ("caused_order_id", pa.string()), ("ordered_at", pa.timestamp("us", tz="UTC")), ("amount", _MONEY),
    ("currency", pa.string()), ("cancelled_at", pa.timestamp("us", tz="UTC")),
])  # fmt: skip


def visit(customer: Customer, truth: Truth, click: Click, number: int, name: str, message_id: str) -> Rows:
    """The product page that a click leads to; `name` is the message's own (see `short_name`)."""
    if click.product_id is None:
        return {}
    product = truth.products[click.product_id]
    at = click.at + timedelta(seconds=1)
    shown = {"product_id": product.product_id, "value": product.price, "quantity": 1.0, "page_url": product.url}
    return {
        "events": [_event(customer, f"{name}-v{number}", at, "view_item", f"{name}-c", click_id=message_id, **shown)]
    }


def bought(customer: Customer, truth: Truth, purchase: Purchase, name: str, message_id: str) -> Rows:
    """The order, its lines, and the events that tell of it; those of the visit that began with a click name it."""
    order_id, money = _order_id(name, purchase), truth.parameters.money
    session = f"{name}-c" if purchase.after_click else f"{name}-b"
    shared = {"click_id": message_id} if purchase.after_click else {}
    steps = [("view_item", p) for p in purchase.products[purchase.after_click :]]
    steps += [("add_to_cart", p) for p in purchase.products]
    begins = purchase.at - timedelta(seconds=15 * (len(steps) + 1))
    events = [
        _event(customer, f"{name}-b{i}", begins + timedelta(seconds=15 * i), what, session,
               product_id=product.product_id, value=product.price, quantity=1.0, **shared)
        for i, (what, product) in enumerate(steps)
    ]  # fmt: skip
    total = {"value": purchase.amount, "quantity": float(len(purchase.products)), **shared}
    checkout = purchase.at - timedelta(seconds=10)
    events.append(_event(customer, f"{name}-checkout", checkout, "begin_checkout", session, **total))
    events.append(_event(customer, f"{name}-purchase", purchase.at, "purchase", session, order_id=order_id, **total))
    lines = [
        {"order_id": order_id, "line_no": i, "updated_at": purchase.at, "product_id": p.product_id, "quantity": 1.0,
         "unit_price": p.price, "discount": Decimal(0), "unit_cost": p.unit_cost}
        for i, p in enumerate(purchase.products, 1)
    ]  # fmt: skip
    shipping = Decimal(0 if purchase.amount >= money.free_shipping_from else money.shipping)
    return {"events": events, "orders": [_order(customer, purchase, order_id, shipping)], "order_lines": lines}


def cancelled(customer: Customer, truth: Truth, purchase: Purchase, name: str) -> Rows:
    """The order's last version, where it was cancelled."""
    row = bought(customer, truth, purchase, name, "")["orders"][0]
    return {"orders": [row | {"status": "cancelled", "updated_at": purchase.cancelled_at}]}


def known_at(rows: Rows) -> datetime:
    """When all of it was known to the shop."""
    known = {"events": "received_at", "orders": "updated_at", "order_lines": "updated_at"}
    found: datetime = max(row[known[table]] for table, given in rows.items() for row in given)
    return found


def as_json(rows: Rows) -> dict[str, Any]:
    """Rows as values that JSON holds."""
    return {table: [{k: _plain(v) for k, v in row.items()} for row in given] for table, given in rows.items()}


def from_json(rows: Mapping[str, list[dict[str, Any]]]) -> Rows:
    """What `as_json` was given."""
    return {
        table: [{k: _read(CONTRACT[table].schema.field(k).type, v) for k, v in row.items()} for row in given]
        for table, given in rows.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _read(kind: pa.DataType, value: Any) -> Any:
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    return Decimal(value) if pa.types.is_decimal(kind) else value


def short_name(key: str) -> str:
    """A message's name in order and event ids: M and 16 hexadecimal digits. The shop's own ids begin otherwise."""
    return "M" + hashlib.blake2b(key.encode(), digest_size=8).hexdigest()


def true_message(message_id: str, customer: Customer, message: Message, delivery: Delivery,
                 reaction: Reaction | None, name: str) -> dict[str, Any]:  # fmt: skip
    """A row of the truth: what the message did, whether or not the time for it has come yet."""
    row: dict[str, Any] = dict.fromkeys(TRUE_MESSAGES.names) | {
        "message_id": message_id, "customer_id": customer.customer_id, "campaign": message.campaign,
        "channel": message.channel, "received_at": message.received_at,
        "products": list(message.products), "delivery": delivery.state,
    }  # fmt: skip
    if reaction is None:
        return row
    row |= {
        "fit": reaction.fit, "open_chance": reaction.open_chance, "click_chance": reaction.click_chance,
        "buy_chance": reaction.buy_chance, "seen_at": reaction.seen_at, "left_at": reaction.left_at,
        "clicked_at": reaction.clicks[0].at if reaction.clicks else None,
    }  # fmt: skip
    if reaction.purchase:
        row |= {
            "caused_order_id": _order_id(name, reaction.purchase), "ordered_at": reaction.purchase.at,
            "amount": reaction.purchase.amount, "currency": reaction.purchase.products[0].currency,
            "cancelled_at": reaction.purchase.cancelled_at,
        }  # fmt: skip
    return row


def keep(home: Path, rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Add rows of `TABLES` and `MESSAGES` to the home, all of them at once. The same rows again do no harm."""
    given = {name: list(found) for name, found in rows.items()}
    if not any(given.values()):
        return
    root = home / ROOT / ANSWERS
    root.mkdir(parents=True, exist_ok=True)
    fresh = root / f".new-{secrets.token_hex(8)}"
    fresh.mkdir()
    for name, found in given.items():
        schema = TRUE_MESSAGES if name == MESSAGES else CONTRACT[name].schema
        if found:
            pq.write_table(pa.Table.from_pylist(found, schema=schema), fresh / f"{name}.parquet", compression="zstd")
    fresh.rename(root / f"{len(_kept(home)) + 1:06d}")


def files(home: Path, table: str) -> list[Path]:
    """Where the answers' rows of a table are, oldest first."""
    return [path for folder in _kept(home) if (path := folder / f"{table}.parquet").is_file()]


def true_messages(home: Path) -> pa.Table:
    """The truth of every message answered so far: TRUE_MESSAGES, one row a message."""
    found = files(home, MESSAGES)
    rows = {row["message_id"]: row for path in found for row in pq.read_table(path).to_pylist()}
    return pa.Table.from_pylist(list(rows.values()), schema=TRUE_MESSAGES)


def _kept(home: Path) -> list[Path]:
    root = home / ROOT / ANSWERS
    return sorted(f for f in root.iterdir() if _NUMBER.fullmatch(f.name)) if root.is_dir() else []


def _order_id(name: str, purchase: Purchase) -> str:
    return f"{name}-{purchase.at:%y%m%d}"


def _order(customer: Customer, purchase: Purchase, order_id: str, shipping: Decimal) -> dict[str, Any]:
    return {"order_id": order_id, "ordered_at": purchase.at, "updated_at": purchase.at,
            "customer_id": customer.customer_id, "status": "placed", "channel": _online(customer),
            "currency": purchase.products[0].currency, "shipping": shipping}  # fmt: skip


def _online(customer: Customer) -> str:
    return "app" if customer.channel == "app" else "web"


def _event(customer: Customer, event_id: str, at: datetime, name: str, session: str, **more: Any) -> dict[str, Any]:
    visitor = hashlib.blake2b(f"{customer.customer_id}/visitor".encode(), digest_size=8).hexdigest()
    return {"event_id": event_id, "occurred_at": at, "received_at": at + timedelta(seconds=3), "event_name": name,
            "visitor_id": f"v-{visitor}", "customer_id": customer.customer_id, "session_id": session,
            "channel": _online(customer), **more}  # fmt: skip
