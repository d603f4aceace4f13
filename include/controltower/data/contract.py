"""The tables that a shop hands over, and those that Control Tower derives: columns, types, keys.

Column names used in more than one room are defined here only. The rules that rows must keep are in `rules.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import pyarrow as pa

SCHEMA_VERSION = 1  # of the rows in a Parquet file, written into each
LONGEST_ID = 200  # characters of whom and what lists and models are of: arrays of ids are as wide as the longest


class Type(StrEnum):
    """How a contract column is read and stored."""

    KEY = "key"  # text; integer-looking floats such as 17850.0 become "17850"
    TEXT = "text"
    WORD = "word"  # text whose case says nothing, kept in lower case
    TIME = "time"  # UTC, microseconds
    DATE = "date"
    MONEY = "money"  # decimal(18,4)
    NUMBER = "number"
    INTEGER = "integer"
    FLAG = "flag"
    JSON = "json"  # text holding one JSON object


ARROW: dict[Type, pa.DataType] = {
    Type.KEY: pa.string(),
    Type.TEXT: pa.string(),
    Type.WORD: pa.string(),
    Type.TIME: pa.timestamp("us", tz="UTC"),
    Type.DATE: pa.date32(),
    Type.MONEY: pa.decimal128(18, 4),
    Type.NUMBER: pa.float64(),
    Type.INTEGER: pa.int64(),
    Type.FLAG: pa.bool_(),
    Type.JSON: pa.string(),
}


@dataclass(frozen=True)
class Column:
    name: str
    type: Type
    required: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the contract.

    `kind` says how rows of one key relate: `event`s happen once (unique within the late window), `version`s replace
    each other (the last not later than T holds as of T), a `log` keeps every row.
    `known` is the column that says when a row was known: nothing later than T is read as of T.
    `happened` is the column that says when it took place; it picks the row's date in the lake.
    """

    name: str
    kind: Literal["event", "version", "log"]
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    known: str
    happened: str | None = None
    core: bool = False

    @property
    def schema(self) -> pa.Schema:
        fields = [pa.field(c.name, ARROW[c.type], nullable=not c.required) for c in self.columns]
        about = {"controltower.table": self.name, "controltower.schema": str(SCHEMA_VERSION)}
        return pa.schema(fields, metadata=about)

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.required)


_TYPES = {
    "key": Type.KEY, "text": Type.TEXT, "word": Type.WORD, "time": Type.TIME, "date": Type.DATE,
    "money": Type.MONEY, "number": Type.NUMBER, "integer": Type.INTEGER, "flag": Type.FLAG, "json": Type.JSON,
}  # fmt: skip


def _columns(text: str) -> tuple[Column, ...]:
    """`name:type` words, `*` marks the required ones; the type is text where none is given."""
    columns = []
    for word in text.split():
        name, _, kind = word.rstrip("*").partition(":")
        columns.append(Column(name, _TYPES[kind or "text"], word.endswith("*")))
    return tuple(columns)


def _table(name: str, kind: Literal["event", "version", "log"], key: str, columns: str, *, known: str,
           happened: str | None = None, core: bool = False) -> Table:  # fmt: skip
    return Table(name, kind, tuple(key.split()), _columns(columns), known, happened, core)


CONTRACT: dict[str, Table] = {
    t.name: t
    for t in (
        _table(
            "customers", "version", "customer_id",
            "customer_id:key* updated_at:time email phone country locale timezone gender birth_date:date"
            " signed_up_at:time first_name last_name loyalty_tier points:number home_store site attributes:json",
            known="updated_at", core=True,
        ),
        _table(
            "consents", "log", "customer_id channel purpose recorded_at granted source",
            "customer_id:key* channel:word* purpose:word* recorded_at:time* granted:flag* source* site legal_basis"
            " text_version expires_at:time proof attributes:json",
            known="recorded_at", happened="recorded_at", core=True,
        ),
        _table(
            "devices", "version", "device_id",
            "device_id:key* customer_id:key push_token platform app_version ad_id last_seen_at:time updated_at:time"
            " attributes:json",
            known="updated_at", core=True,
        ),
        _table(
            "products", "version", "product_id",
            "product_id:key* updated_at:time title* category brand parent_product_id:key variant price:money* currency*"
            " unit_cost:money margin_rate:number url image_url in_stock:flag available_from:time attributes:json",
            known="updated_at", core=True,
        ),
        _table(
            "events", "event", "event_id",
            "event_id:key* occurred_at:time* event_name* received_at:time visitor_id:key customer_id:key session_id:key"
            " product_id:key order_id:key query results_count:integer list_id:key position:integer"
            " recommendation_id:key click_id:key value:money quantity:number channel site store_id:key page_url"
            " referrer attributes:json",
            known="received_at", happened="occurred_at", core=True,
        ),
        _table(
            "orders", "version", "order_id",
            "order_id:key* ordered_at:time* updated_at:time customer_id:key status channel site store_id:key currency*"
            " shipping:money tax:money coupon_code attributes:json",
            known="updated_at", happened="ordered_at", core=True,
        ),
        _table(
            "order_lines", "version", "order_id line_no",
            "order_id:key* line_no:integer* updated_at:time product_id:key* quantity:number* unit_price:money*"
            " discount:money unit_cost:money attributes:json",
            known="updated_at", core=True,
        ),
        _table(
            "listings", "version", "product_id site valid_from",
            "product_id:key* site* valid_from:time* updated_at:time locale title price:money list_price:money currency"
            " url in_stock:flag stock_quantity:number attributes:json",
            known="updated_at",
        ),
        _table(
            "collections", "version", "collection_id",
            "collection_id:key* updated_at:time kind title* url image_url site starts_at:time ends_at:time"
            " attributes:json",
            known="updated_at",
        ),
        _table(
            "collection_products", "version", "collection_id product_id",
            "collection_id:key* product_id:key* updated_at:time position:integer attributes:json",
            known="updated_at",
        ),
        _table(
            "identities", "log", "kind value seen_at customer_id visitor_id",
            "kind* value:key* customer_id:key visitor_id:key seen_at:time* attributes:json",
            known="seen_at", happened="seen_at",
        ),
        _table(
            "subscriptions", "version", "subscription_id",
            "subscription_id:key* customer_id:key* product_id:key* updated_at:time every_days:integer next_at:time"
            " status attributes:json",
            known="updated_at",
        ),
        _table(
            "coupons", "version", "coupon_code",
            "coupon_code:key* pool* updated_at:time discount_type discount:money currency product_scope"
            " minimum_spend:money expires_at:time issued_to:key redeemed_order_id:key attributes:json",
            known="updated_at",
        ),
        _table(
            "messages_history", "log", "message_id",
            "message_id:key* customer_id:key* channel* campaign variant treatment propensity:number sent_at:time*"
            " attributes:json",
            known="sent_at", happened="sent_at",
        ),
        _table(
            "message_events", "event", "event_id",
            "event_id:key* message_id:key* event* occurred_at:time* received_at:time attributes:json",
            known="received_at", happened="occurred_at",
        ),
        _table(
            "costs", "version", "date channel campaign",
            "date:date* channel* campaign amount:money* currency* updated_at:time attributes:json",
            known="updated_at",
        ),
        _table(
            "exchange_rates", "version", "date from to",
            "date:date* from* to* rate:number* updated_at:time attributes:json",
            known="updated_at",
        ),
        _table(
            "external", "version", "date region name",
            "date:date* region* name* value* updated_at:time attributes:json",
            known="updated_at",
        ),
    )
}  # fmt: skip

CORE = tuple(name for name, table in CONTRACT.items() if table.core)

# Columns that tell who a person is: quarantine masks their values, and no log or error quotes them.
PERSONAL = frozenset("email phone first_name last_name birth_date push_token ad_id value proof attributes".split())
