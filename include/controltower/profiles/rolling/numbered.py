"""The facts to count, with the customers' numbers for their ids: made when they are asked for, of one group of sources
at a time, so that memory holds no more of them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import ibis.expr.types as ir
import numpy as np

from controltower.data.lake import Reading
from controltower.profiles.rolling.step import moment

# By group of sources its tables, each after those that it is made of; and where a customer is seen.
_TABLES = {
    "events": ("events",),
    "orders": ("orders", "order_lines"),
    "messages": ("messages_history", "message_events"),
}
_HAPPENED = {"events": "occurred_at", "orders": "ordered_at"}


class Numbered:
    """`_known` has the customers. `events` are numbered, `orders` those of whom they are counted and may be others'."""

    def __init__(self, reading: Reading, as_of: datetime, events: str, orders: str, lines: str) -> None:
        self._reading, self._as_of = reading, as_of
        known = f"CASE WHEN {signed_up(as_of)} THEN"
        self._queries = {
            "customers": "SELECT k.position AS customer_id, timezone, country, home_store,"
            f" {known} points END AS points, {known} signed_up_at END AS signed_up_at"
            " FROM _known k LEFT JOIN _customers USING (customer_id)",
            "events": events,
            "orders": f"SELECT q.* REPLACE (k.position AS customer_id) FROM ({orders}) q"
            " JOIN _known k ON k.customer_id = q.customer_id WHERE k.orders > 0",
            "order_lines": "SELECT order_id, product_id, quantity, unit_price, discount"
            f" FROM ({lines}) SEMI JOIN numbered_orders USING (order_id)",
            "messages_history": "SELECT k.position AS customer_id, message_id, channel, variant, treatment, sent_at"
            f" FROM ({reading.query('messages_history')}) JOIN _known k USING (customer_id)"
            f" WHERE k.messages > 0 AND sent_at > {since(as_of, 'k.messages')}",
            "message_events": "SELECT message_id, event, occurred_at, attributes"
            f" FROM ({reading.query('message_events')}) SEMI JOIN numbered_messages_history USING (message_id)",
            "devices": "SELECT k.position AS customer_id, platform, push_token"
            f" FROM ({reading.query('devices')}) JOIN _known k USING (customer_id)",
            "coupons": "SELECT k.position AS issued_to, redeemed_order_id, expires_at"
            f" FROM ({reading.query('coupons')}) JOIN _known k ON k.customer_id = issued_to",
        }

    def table(self, name: str) -> ir.Table:
        """A table of the contract."""
        if name not in self._queries:
            return self._reading.table(name)
        group = next((tables for tables in _TABLES.values() if name in tables), (name,))
        for table in group:
            if f"numbered_{table}" not in self._reading.kept:
                self._reading.keep(f"numbered_{table}", self._queries[table])
        return self._reading.named(f"numbered_{name}")

    def drop(self, group: str) -> np.ndarray:
        """Drop a group's facts. Returns the numbers of customers who are known by them."""
        seen = np.array([], dtype=np.int32)
        for table in _TABLES[group]:
            if happened := _HAPPENED.get(table):
                known = f"SELECT DISTINCT customer_id FROM numbered_{table} WHERE {happened} <= {moment(self._as_of)}"
                seen = self._reading.run(known)["customer_id"].to_numpy()
        self._reading.forget("numbered_" + table for table in _TABLES[group])
        return seen


def signed_up(as_of: datetime) -> str:
    return f"(signed_up_at IS NULL OR signed_up_at <= {moment(as_of)})"


def since(as_of: datetime, days: str) -> str:
    """SQL of the moment so many days before; a second more, as ages are whole seconds."""
    return f"({moment(as_of - timedelta(seconds=1))} - {days} * INTERVAL 24 HOUR)"
