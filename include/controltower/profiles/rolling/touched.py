"""Of whom the features are counted anew, and their facts: everybody's, or of a step those whose facts changed.

Three groups of sources have customers of their own, so that who only looked around doesn't need the orders read. What
is found may be too many, never too few. Customers are numbered here, in the order of their ids: whole numbers group and
join faster than text, and are places in a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis.expr.operations as ops
import numpy as np
import pyarrow as pa

from controltower.data.lake import Reading
from controltower.data.sql import listed
from controltower.profiles.facts import Facts
from controltower.profiles.facts.tables import Tables
from controltower.profiles.features import per_customer
from controltower.profiles.local_time import LOOK_BACK_DAYS
from controltower.profiles.portable import DAY
from controltower.profiles.rolling.step import Step, moment

GROUPS = {
    "events": ("events", "sessions", "interests", "habits"),
    "orders": ("orders", "lines", "visits", "local_orders", "bought_categories"),
    "messages": ("messages", "reactions"),
}
_found: dict[str, list[int]] = {}  # the edges of a group: they are of the definitions, whatever the facts
_NUMBER = "CAST(row_number() OVER (ORDER BY customer_id) - 1 AS INTEGER)"
_OWNERS = (
    "SELECT coalesce(person_id, customer_id) AS id, order_id FROM ({orders}) LEFT JOIN _persons USING (customer_id)"
)


@dataclass(frozen=True)
class Chosen:
    """`ids` are all customers who may be known, in order; the masks have one flag for each of them, `members` for those
    who are.

    `groups`: whose facts are counted anew, by group. `moved`: who has or had other ids or visitors than before, so that
    nothing of theirs is taken over. `rows`: their places among the earlier features, -1 for none. `tables` gives the
    contract's tables with numbers for customer ids, of the facts to count.
    """

    ids: pa.Array
    members: np.ndarray
    moved: np.ndarray
    rows: np.ndarray
    groups: dict[str, np.ndarray]
    tables: Tables

    def of(self, source: str) -> np.ndarray:
        """Whose rows of a source are counted anew."""
        group = next((group for group, sources in GROUPS.items() if source in sources), None)
        return self.groups[group] if group else np.ones(len(self.ids), dtype=bool)

    @property
    def count(self) -> int:
        """How many customers are counted anew in a group."""
        return int(np.logical_or.reduce(list(self.groups.values())).sum())


def everybody(reading: Reading, facts: Facts) -> Chosen:
    known = reading.sql(facts.customers.select("customer_id"))
    flags = ", ".join(f"true AS {name}" for name in ("member", "moved", *GROUPS))
    reading.keep("_known", f"SELECT customer_id, {_NUMBER} AS position, -1 AS row, {flags} FROM ({known})")
    events = _numbered(reading.query("events"), "events")
    return _chosen(reading, facts.as_of, events, reading.query("orders"), reading.query("order_lines"))


def of_step(reading: Reading, step: Step, facts: Facts) -> Chosen:
    edges = {group: _edges(facts, group) for group in GROUPS}
    moved = {id for about in ("person", "visitor") for row in step.changed[about] for id in _whom(about, row)}
    _give(reading, "_moved", moved)
    _give(reading, "_placed", {row[0] for row in step.changed["customer"]})
    _give(reading, "_repriced", {row[1] for row in step.changed["product"]})
    oldest = moment(step.as_of - timedelta(days=edges["events"][-1], seconds=1))
    reading.keep("_touched_events", _union(_touched_events(reading, step, edges["events"], oldest)))
    reading.keep("_signed", f"SELECT customer_id FROM _customers WHERE {_signed_up(step.as_of)}")
    reading.keep(
        "_old",
        "SELECT customer_id, CAST(file_row_number AS INTEGER) AS row, days_since_first_event IS NOT NULL AS seen"
        f" FROM read_parquet({listed([step.file])})",
    )
    reading.keep("_changed_orders", _union(_changed_orders(reading, step, edges["orders"])))
    reading.keep("_touched_orders", _union(_touched_orders(reading)))
    reading.keep("_touched_messages", _union(_touched_messages(reading, step, edges["messages"])))
    flags = ", ".join(f"bool_or({name}) AS {name}" for name in ("member", "moved", "events", "orders"))
    reading.keep(  # somebody new may have been written to before; orders and events would have made them known
        "_known",
        f"SELECT customer_id, {_NUMBER} AS position, max(row) AS row, {flags},"
        f" bool_or(messages) OR max(row) < 0 AS messages FROM ({' UNION ALL '.join(_known())}) GROUP BY customer_id",
    )
    owners = _OWNERS.format(orders=reading.every_row("orders"))
    reading.keep("_their_orders", f"SELECT DISTINCT order_id FROM ({owners}) SEMI JOIN _touched_orders USING (id)")
    among = "order_id IN (SELECT order_id FROM _their_orders)"
    events = _their_events(reading, step, oldest, bool(moved))
    return _chosen(reading, step.as_of, events, reading.query("orders", among), reading.query("order_lines", among))


def _chosen(reading: Reading, as_of: datetime, events: str, orders: str, lines: str) -> Chosen:
    """Keeps the facts to count; `events` are numbered, `orders` those of whom they are counted and may be others'."""
    known = f"CASE WHEN {_signed_up(as_of)} THEN"
    kept = {
        "customers": "SELECT k.position AS customer_id, timezone, country, home_store,"
        f" {known} points END AS points, {known} signed_up_at END AS signed_up_at"
        " FROM _known k LEFT JOIN _customers USING (customer_id)",
        "events": events,
        "orders": f"SELECT q.* REPLACE (k.position AS customer_id) FROM ({orders}) q"
        " JOIN _known k ON k.customer_id = q.customer_id WHERE k.orders",
        "order_lines": "SELECT order_id, product_id, quantity, unit_price, discount"
        f" FROM ({lines}) SEMI JOIN numbered_orders USING (order_id)",
        "messages_history": "SELECT k.position AS customer_id, message_id, channel, sent_at"
        f" FROM ({reading.query('messages_history')}) JOIN _known k USING (customer_id) WHERE k.messages",
        "message_events": "SELECT message_id, event, occurred_at, attributes"
        f" FROM ({reading.query('message_events')}) SEMI JOIN numbered_messages_history USING (message_id)",
        "devices": "SELECT k.position AS customer_id, platform, push_token"
        f" FROM ({reading.query('devices')}) JOIN _known k USING (customer_id)",
        "coupons": "SELECT k.position AS issued_to, redeemed_order_id, expires_at"
        f" FROM ({reading.query('coupons')}) JOIN _known k ON k.customer_id = issued_to",
    }
    for table, query in kept.items():
        reading.keep(f"numbered_{table}", query)
    known = reading.run("SELECT * FROM _known ORDER BY position")
    members = known["member"].to_numpy().copy()
    for table, happened in (("events", "occurred_at"), ("orders", "ordered_at")):
        seen = f"SELECT DISTINCT customer_id FROM numbered_{table} WHERE {happened} <= {moment(as_of)}"
        members[reading.run(seen)["customer_id"].to_numpy()] = True
    return Chosen(
        ids=known["customer_id"].combine_chunks(),
        members=members,
        moved=known["moved"].to_numpy(),
        rows=known["row"].to_numpy(),
        groups={group: known[group].to_numpy() for group in GROUPS},
        tables=lambda table: reading.named(f"numbered_{table}") if table in kept else reading.table(table),
    )


def _known() -> Iterable[str]:
    """All who may be known and what is known of them: not signed up by now, who is known by orders or events alone."""
    names = ("member", "row", "moved", *GROUPS)

    def rows(source: str, customer: str, **given: str) -> str:
        values = {**dict.fromkeys(names, "false"), "row": "-1", **given}
        return f"SELECT {customer} AS customer_id, {', '.join(f'{values[n]} AS {n}' for n in names)} FROM {source}"

    yield rows("_signed", "customer_id", member="true")
    yield rows("_old LEFT JOIN _moved ON id = customer_id", "customer_id", member="seen AND id IS NULL", row="row")
    yield rows("_moved", "id", moved="true")
    for group in GROUPS:
        yield rows(f"_touched_{group}", "id", **{group: "true"})


def _touched_events(reading: Reading, step: Step, edges: Sequence[int], oldest: str) -> Iterable[str]:
    among = [*step.entered("events"), *step.crossed("occurred_at", edges)]
    if step.changed["product"]:
        among.append(
            f"event_name = 'view_item' AND occurred_at > {oldest} AND product_id IN (SELECT id FROM _repriced)"
        )
    for condition in among:
        yield f"SELECT customer_id FROM ({reading.query('events', condition)})"
    yield from ("SELECT id FROM _moved", "SELECT id FROM _placed")


def _changed_orders(reading: Reading, step: Step, edges: Sequence[int]) -> Iterable[str]:
    orders, lines = reading.every_row("orders"), reading.every_row("order_lines")
    for condition in (*step.entered("orders"), *step.crossed("ordered_at", edges)):
        yield f"SELECT order_id FROM ({orders}) WHERE {condition}"
    for condition in step.entered("order_lines"):
        yield f"SELECT order_id FROM ({lines}) WHERE {condition}"
    if step.changed["product"]:
        yield f"SELECT order_id FROM ({lines}) WHERE product_id IN (SELECT id FROM _repriced)"
    for condition in step.entered("exchange_rates"):
        rates = f'SELECT DISTINCT date, "from" FROM ({reading.every_row("exchange_rates")}) WHERE {condition}'
        yield (
            f"SELECT order_id FROM ({orders}) o JOIN ({rates}) r"
            ' ON CAST(o.ordered_at AS DATE) = r.date AND o.currency = r."from"'
        )


def _touched_messages(reading: Reading, step: Step, edges: Sequence[int]) -> Iterable[str]:
    for condition in (*step.entered("messages_history"), *step.crossed("sent_at", edges)):
        yield f"SELECT customer_id FROM ({reading.query('messages_history', condition)})"
    answers = _union(
        f"SELECT message_id FROM ({reading.every_row('message_events')}) WHERE {condition}"
        for condition in (*step.entered("message_events"), *step.crossed("occurred_at", edges))
    )
    yield f"SELECT customer_id FROM ({reading.query('messages_history', f'message_id IN ({answers})')})"
    yield "SELECT id FROM _moved"


def _touched_orders(reading: Reading) -> Iterable[str]:
    owners = _OWNERS.format(orders=reading.every_row("orders"))
    yield f"SELECT id FROM ({owners}) o SEMI JOIN _changed_orders c ON c.id = o.order_id"
    yield from ("SELECT id FROM _moved", "SELECT id FROM _placed")
    # known by orders alone, and so maybe no more
    yield "SELECT customer_id FROM _old ANTI JOIN _signed USING (customer_id) WHERE NOT seen"


def _their_events(reading: Reading, step: Step, oldest: str, anybody_moved: bool) -> str:
    """Of the longest window all, of earlier ones those that have come since; of who moved, every one."""
    known, fresh = step.entered("events")
    past = f"occurred_at <= {oldest} AND"
    rows = [
        _numbered(reading.query("events", f"occurred_at > {oldest}"), "events"),
        _numbered(reading.query("events", f"{past} {fresh}"), "events AND NOT moved"),
        _numbered(reading.query("events", f"{past} {known} AND NOT ({fresh})"), "events AND NOT moved"),
    ]
    if anybody_moved:
        rows.append(_numbered(reading.query("events", f"{past} true"), "moved"))
    return " UNION ALL ".join(rows)


def _numbered(events: str, who: str) -> str:
    columns = "event_name, session_id, product_id, query, results_count, channel, occurred_at"
    return f"SELECT k.position AS customer_id, {columns} FROM ({events}) JOIN _known k USING (customer_id) WHERE {who}"


def _whom(about: str, row: tuple[str | None, ...]) -> set[str]:
    """The customers of a row of the basis that came or went."""
    customer, _, value = row
    return {str(customer), str(value)} if about == "person" else {str(customer)}


def _give(reading: Reading, name: str, ids: Iterable[str | None]) -> None:
    given = pa.table({"id": pa.array(sorted({id for id in ids if id}), pa.string())})
    reading.keep(name, "SELECT id FROM _given", {"_given": given})


def _signed_up(as_of: datetime) -> str:
    return f"(signed_up_at IS NULL OR signed_up_at <= {moment(as_of)})"


def _edges(facts: Facts, group: str) -> list[int]:
    """The ages in days at which a fact of the group counts differently, by the features' own expressions; 0: as_of."""
    if group not in _found:
        found = {0}
        for source in GROUPS[group]:
            for node in per_customer(source, getattr(facts, source)).op().find(ops.Less):
                if isinstance(node.left, ops.Field) and node.left.name == "age" and isinstance(node.right, ops.Literal):
                    days, rest = divmod(node.right.value, DAY)
                    found |= {days, days + 1} if rest else {days}
        _found[group] = sorted(found | ({LOOK_BACK_DAYS} if group == "orders" else set()))
    return _found[group]


def _union(queries: Iterable[str]) -> str:
    """Their rows once each, of one column `id`; none where it is null."""
    rows = " UNION ALL ".join(f"SELECT * FROM ({query}) AS _rows(id)" for query in queries)
    return f"SELECT DISTINCT id FROM ({rows}) WHERE id IS NOT NULL"
