"""Of whom the features are counted anew, and their facts: everybody's, or of a step those whose facts changed.

Three groups of sources have customers of their own, so that who only looked around doesn't need the orders read; and of
whom a fact crossed the edge of a window, only the facts of that window are read. What is found may be too much, never
too little. Customers are numbered here, in the order of their ids: whole numbers group and join faster than text, and
are places in a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa

from controltower.data.lake import Reading
from controltower.data.sql import listed
from controltower.profiles.facts import Facts
from controltower.profiles.features import SOURCES
from controltower.profiles.rolling.numbered import Numbered, signed_up, since
from controltower.profiles.rolling.step import Step, moment
from controltower.profiles.rolling.windows import ALL, Window, windows_of

GROUPS = {
    "events": ("events", "sessions", "interests", "habits"),
    "orders": ("orders", "lines", "visits", "local_orders", "bought_categories"),
    "messages": ("messages", "reactions"),
}
_NUMBER = "CAST(row_number() OVER (ORDER BY customer_id) - 1 AS INTEGER)"
_OWNERS = (
    "SELECT coalesce(person_id, customer_id) AS id, order_id, ordered_at"
    " FROM ({orders}) LEFT JOIN _persons USING (customer_id)"
)


@dataclass(frozen=True)
class Chosen:
    """`ids` are all customers who may be known, in order; the masks have one flag for each of them, `members` for those
    who are.

    `groups`: of how many of the last days a customer's facts are counted anew, by group. `moved`: who has or had other
    ids or visitors than before, so that nothing of theirs is taken over. `rows`: their places among the earlier
    features, -1 for none. `facts` are those to count.
    `looks`: how far back each feature looks, by name; none where everybody is counted.
    """

    ids: pa.Array
    members: np.ndarray
    moved: np.ndarray
    rows: np.ndarray
    groups: dict[str, np.ndarray]
    facts: Numbered
    looks: dict[str, Window]

    def of(self, source: str) -> np.ndarray:
        """Of how many of the last days a source's rows are counted anew, for each customer."""
        group = next((group for group, sources in GROUPS.items() if source in sources), None)
        return self.groups[group] if group else np.full(len(self.ids), ALL)

    def least(self, source: str) -> int:
        """Of how many days a customer's events are at least of whom rows of a source are made."""
        return min(self.looks[f.name].days for f in SOURCES[source]) if self.looks and source in GROUPS["events"] else 0

    @property
    def count(self) -> int:
        """How many customers are counted anew in a group."""
        return int(np.logical_or.reduce([days > 0 for days in self.groups.values()]).sum())


def everybody(reading: Reading, facts: Facts) -> Chosen:
    known = reading.sql(facts.customers.select("customer_id"))
    flags = ", ".join(("true AS member", "true AS moved", *(f"{ALL} AS {group}" for group in GROUPS)))
    reading.keep("_known", f"SELECT customer_id, {_NUMBER} AS position, -1 AS row, {flags} FROM ({known})")
    events = _numbered(reading.query("events"), "true")
    orders, lines = reading.query("orders"), reading.query("order_lines")
    return _chosen(reading, {}, Numbered(reading, facts.as_of, events, orders, lines))


def of_step(reading: Reading, step: Step, facts: Facts) -> Chosen:
    moved, visiting = step.moved(), step.visiting()
    _give(reading, "_moved", moved)
    _give(reading, "_placed", {row[0] for row in step.changed("customer")})
    _give(reading, "_repriced", {row[1] for row in step.changed("product")})
    _give(reading, "_visited", {customer for customer, _ in visiting})
    _give(reading, "_visiting", {visitor for _, visitor in visiting})
    longest = max(window.days for window in _windows(facts, "events") if window.days < ALL)
    oldest = moment(step.as_of - timedelta(days=longest, seconds=1))
    reading.keep("_touched_events", _most(_touched_events(reading, step, facts, longest, oldest)))
    reading.keep("_signed", f"SELECT customer_id FROM _customers WHERE {signed_up(step.as_of)}")
    reading.keep(
        "_old",
        "SELECT customer_id, CAST(file_row_number AS INTEGER) AS row, days_since_first_event IS NOT NULL AS seen,"
        " days_since_last_order IS NOT NULL AS bought"
        f" FROM read_parquet({listed([step.file])})",
    )
    reading.keep("_changed_orders", _union(_changed_orders(reading, step)))
    reading.keep("_touched_orders", _most(_touched_orders(reading, step, facts)))
    reading.keep("_touched_messages", _most(_touched_messages(reading, step, facts)))
    most = ", ".join(f"max({group}) AS {group}" for group in ("events", "orders"))
    reading.keep(  # somebody new may have been written to before; orders and events would have made them known
        "_known",
        f"SELECT customer_id, {_NUMBER} AS position, max(row) AS row, bool_or(member) AS member,"
        f" bool_or(moved) AS moved, {most}, CASE WHEN max(row) < 0 THEN {ALL} ELSE max(messages) END AS messages"
        f" FROM ({' UNION ALL '.join(_known())}) GROUP BY customer_id",
    )
    owners = _OWNERS.format(orders=reading.every_row("orders"))
    reading.keep(
        "_their_orders",
        f"SELECT DISTINCT order_id FROM ({owners}) JOIN _touched_orders USING (id)"
        f" WHERE ordered_at > {since(step.as_of, 'days')}",
    )
    among = "order_id IN (SELECT order_id FROM _their_orders)"
    events = " UNION ALL ".join(_their_events(reading, step, oldest))
    orders, lines = reading.query("orders", among), reading.query("order_lines", among)
    looks = {name: window for source in SOURCES for name, window in windows_of(facts, source).items()}
    return _chosen(reading, looks, Numbered(reading, step.as_of, events, orders, lines))


def _chosen(reading: Reading, looks: dict[str, Window], facts: Numbered) -> Chosen:
    known = reading.run("SELECT * FROM _known ORDER BY position")
    return Chosen(
        ids=known["customer_id"].combine_chunks(),
        members=known["member"].to_numpy().copy(),
        moved=known["moved"].to_numpy(),
        rows=known["row"].to_numpy(),
        groups={group: known[group].to_numpy() for group in GROUPS},
        facts=facts,
        looks=looks,
    )


def _known() -> Iterable[str]:
    """All who may be known and what is known of them: not signed up by now, who is known by orders or events alone."""
    nothing = {"member": "false", "row": "-1", "moved": "false", **dict.fromkeys(GROUPS, "0")}

    def rows(source: str, customer: str, **given: str) -> str:
        values = ", ".join(f"{value} AS {name}" for name, value in (nothing | given).items())
        return f"SELECT {customer} AS customer_id, {values} FROM {source}"

    yield rows("_signed", "customer_id", member="true")
    changed = f"EXISTS (FROM _touched_orders WHERE id = customer_id AND days = {ALL})"
    member = f"(seen OR (bought AND NOT {changed})) AND NOT EXISTS (FROM _moved WHERE id = customer_id)"
    yield rows("_old", "customer_id", member=member, row="row")
    yield rows("_moved", "id", moved="true")
    for group in GROUPS:
        yield rows(f"_touched_{group}", "id", **{group: "days"})


def _touched_events(reading: Reading, step: Step, facts: Facts, longest: int, oldest: str) -> Iterator[str]:
    """Who, and of how many days: what came adds to the features of all days, which are taken over."""
    among = [(condition, longest) for condition in (*step.entered("events"), step.crossed("occurred_at", 0))]
    among += [(step.crossed("occurred_at", edge), days) for edge, days in _needed(facts, "events").items()]
    if step.changed("product"):
        repriced = "product_id IN (SELECT id FROM _repriced)"
        among.append((f"event_name = 'view_item' AND occurred_at > {oldest} AND {repriced}", longest))
    for condition, days in among:
        yield f"SELECT customer_id, {days} FROM ({reading.query('events', condition)})"
    yield from (f"SELECT id, {longest} FROM {table}" for table in ("_placed", "_visited"))
    yield f"SELECT id, {ALL} FROM _moved"


def _changed_orders(reading: Reading, step: Step) -> Iterator[str]:
    orders, lines = reading.every_row("orders"), reading.every_row("order_lines")
    for condition in (*step.entered("orders"), step.crossed("ordered_at", 0)):
        yield f"SELECT order_id FROM ({orders}) WHERE {condition}"
    for condition in step.entered("order_lines"):
        yield f"SELECT order_id FROM ({lines}) WHERE {condition}"
    if step.changed("product"):
        yield f"SELECT order_id FROM ({lines}) WHERE product_id IN (SELECT id FROM _repriced)"
    for condition in step.entered("exchange_rates"):
        rates = f'SELECT DISTINCT date, "from" FROM ({reading.every_row("exchange_rates")}) WHERE {condition}'
        yield (
            f"SELECT order_id FROM ({orders}) o JOIN ({rates}) r"
            ' ON CAST(o.ordered_at AS DATE) = r.date AND o.currency = r."from"'
        )


def _touched_orders(reading: Reading, step: Step, facts: Facts) -> Iterator[str]:
    orders = reading.every_row("orders")
    yield f"SELECT id, {ALL} FROM ({_OWNERS.format(orders=orders)}) o SEMI JOIN _changed_orders c ON c.id = o.order_id"
    for edge, days in _needed(facts, "orders").items():
        crossing = f"SELECT * FROM ({orders}) WHERE {step.crossed('ordered_at', edge)}"
        yield f"SELECT id, {days} FROM ({_OWNERS.format(orders=crossing)})"
    for table in ("_moved", "_placed"):
        yield f"SELECT id, {ALL} FROM {table}"
    # known by what no feature tells, as an order that was cancelled, and so maybe no more
    yield f"SELECT customer_id, {ALL} FROM _old ANTI JOIN _signed USING (customer_id) WHERE NOT seen AND NOT bought"


def _touched_messages(reading: Reading, step: Step, facts: Facts) -> Iterator[str]:
    among = [(condition, ALL) for condition in (*step.entered("messages_history"), step.crossed("sent_at", 0))]
    sent = windows_of(facts, "messages").values()
    among += [(step.crossed("sent_at", edge), days) for edge, days in _by_edge(sent).items()]
    edges = {0, *_by_edge(windows_of(facts, "reactions").values())}
    answers = _union(
        f"SELECT message_id FROM ({reading.every_row('message_events')}) WHERE {condition}"
        for condition in (
            *step.entered("message_events"), *(step.crossed("occurred_at", edge) for edge in sorted(edges)),
        )
    )  # fmt: skip
    among.append((f"message_id IN ({answers})", ALL))
    for condition, days in among:
        yield f"SELECT customer_id, {days} FROM ({reading.query('messages_history', condition)})"
    yield f"SELECT id, {ALL} FROM _moved"


def _their_events(reading: Reading, step: Step, oldest: str) -> Iterator[str]:
    """Of the longest window all, of earlier ones those that have come since; of who moved, every one."""
    own = f"k.events > 0 AND occurred_at > {since(step.as_of, 'k.events')}"
    yield _numbered(reading.query("events", f"occurred_at > {oldest}"), own)
    known, fresh = step.entered("events")
    past, touched = f"occurred_at <= {oldest} AND", "k.events > 0 AND NOT moved"
    for condition in (fresh, f"{known} AND NOT ({fresh})"):
        yield _numbered(reading.query("events", f"{past} {condition}"), touched)
    if step.visiting():
        spans = "FROM _spans SEMI JOIN _visiting ON id = visitor_id"
        ((first,),) = reading.execute(f"SELECT CAST(min(since) AS VARCHAR) {spans}")
        theirs = f"customer_id IS NULL AND visitor_id IN (SELECT id FROM _visiting) AND NOT ({known}) AND NOT ({fresh})"
        yield _numbered(reading.query("events", f"{past} occurred_at >= TIMESTAMPTZ '{first}' AND {theirs}"), touched)
    if step.moved():
        yield _numbered(reading.query("events", f"{past} true"), "moved")


def _numbered(events: str, who: str) -> str:
    columns = "event_name, session_id, product_id, query, results_count, channel, occurred_at"
    return (
        f"SELECT k.position AS customer_id, k.events AS days, {columns}"
        f" FROM ({events}) JOIN _known k USING (customer_id) WHERE {who}"
    )


def _windows(facts: Facts, group: str) -> Iterator[Window]:
    for source in GROUPS[group]:
        yield from windows_of(facts, source).values()


def _needed(facts: Facts, group: str) -> dict[int, int]:
    """By the age in days at which a fact of the group counts differently: of how many days facts are needed then."""
    return _by_edge(_windows(facts, group))


def _by_edge(found: Iterable[Window]) -> dict[int, int]:
    needed: dict[int, int] = {}
    for window in found:
        for edge in window.edges:
            needed[edge] = max(needed.get(edge, 0), window.days)
    return needed


def _give(reading: Reading, name: str, ids: Iterable[str | None]) -> None:
    given = pa.table({"id": pa.array(sorted({id for id in ids if id}), pa.string())})
    reading.keep(name, "SELECT id FROM _given", {"_given": given})


def _union(queries: Iterable[str]) -> str:
    """Their rows once each, of one column `id`; none where it is null."""
    rows = " UNION ALL ".join(f"SELECT * FROM ({query}) AS _rows(id)" for query in queries)
    return f"SELECT DISTINCT id FROM ({rows}) WHERE id IS NOT NULL"


def _most(queries: Iterable[str]) -> str:
    """Of rows of two columns, the largest `days` of each `id`; none where it is null."""
    rows = " UNION ALL ".join(f"SELECT * FROM ({query}) AS _rows(id, days)" for query in queries)
    return f"SELECT id, CAST(max(days) AS INTEGER) AS days FROM ({rows}) WHERE id IS NOT NULL GROUP BY id"
