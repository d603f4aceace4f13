"""Which products the last messages of customers showed, so that the next one can show others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa
import sqlalchemy as sa

from controltower.ledger import caps, merges
from controltower.ledger.database import among
from controltower.ledger.tables import batches, choices, decisions, messages

SCHEMA = pa.schema([("customer_id", pa.string()), ("product_id", pa.string()), ("ago", pa.int32())])
_PIECE = 20_000  # messages whose products are looked up at once


def shown_lately(
    connection: sa.Connection, most: int, since: datetime, until: datetime, customers: Collection[str] | None = None
) -> pa.Table:
    """The products in each customer's `most` last messages that left in (since, until], of all or of those given.

    Rows of SCHEMA, each product once a customer; ago: how many messages ago it was last shown, 1 is the last message.
    Messages of any campaign and channel count, also those without products; merged customers have those of all their
    person's ids. Left has what frequency caps count as left, as far as its batch is done. What a message showed are
    the products that its run picked: whether its template had room for all isn't known.
    """
    families = merges.families(connection, customers)
    asked = customers if customers is None else families.with_others(customers)
    together: dict[frozenset[str], list[_Message]] = defaultdict(list)  # of merged customers
    products: _Products = {}
    seen: set[str] = set()  # by the last customer
    last = None
    pieces: list[pa.Table] = []
    rows = connection.execution_options(yield_per=_PIECE).execute(_last(connection, most, since, until, asked))
    for some in rows.partitions():
        _add_products(connection, some, products)
        found = []
        for customer, run_id, at, seq, ago, chosen in some:
            theirs = [products[run_id, n] for n in orjson.loads(chosen)[1:]]
            if customer in families.customers:
                together[families.of(customer)].append((at, seq, theirs))
                continue
            if customer != last:
                last, seen = customer, set()
            found += [(customer, product, ago) for product in theirs if product not in seen]
            seen.update(theirs)
        pieces.append(_table(found))
    for family, sent in together.items():
        latest = sorted(sent, key=lambda message: message[:2], reverse=True)[:most]
        nearest: dict[str, int] = {}
        for ago, (_, _, theirs) in enumerate(latest, 1):
            nearest = dict.fromkeys(theirs, ago) | nearest
        wanted = family if customers is None else family & set(customers)
        pieces.append(_table([(customer, *one) for customer in sorted(wanted) for one in nearest.items()]))
    return pa.concat_tables(pieces) if pieces else SCHEMA.empty_table()


_Message = tuple[datetime, int, list[str]]  # when it left, its seq, its products
_Products = dict[tuple[int, int], str]  # by run and number


def _last(
    connection: sa.Connection, most: int, since: datetime, until: datetime, customers: Collection[str] | None
) -> sa.Select[Any]:
    """The last messages by customer, newest first: customer, run, when, seq, how many ago, numbers of the choices."""
    m, b, d = messages.c, batches.c, decisions.c
    newest = (b.done_at.desc(), m.seq.desc())
    ago = sa.func.row_number().over(partition_by=m.customer_id, order_by=newest).label("ago")
    left = (
        sa.select(m.customer_id, b.run_id, b.done_at, m.seq, ago)
        .join(batches, b.batch_id == m.batch_id)
        .where(b.state == "done", b.done_at > since, b.done_at <= until, m.message_id.is_not(None), ~caps.never_left())
    )
    if customers is not None:
        left = left.where(m.seq.in_(sa.select(d.seq).where(among(connection, d.customer_id, customers))))
    last = left.subquery()
    return (
        sa.select(*last.c, sa.cast(d.choices, sa.Text))
        .join(decisions, sa.and_(d.run_id == last.c.run_id, d.customer_id == last.c.customer_id))
        .where(last.c.ago <= most)
        .order_by(last.c.customer_id, last.c.ago)
    )


def _add_products(connection: sa.Connection, some: Sequence[Sequence[Any]], known: _Products) -> None:
    """The product of each number that the choices name."""
    wanted: dict[int, set[int]] = defaultdict(set)
    for _, run_id, _, _, _, chosen in some:
        wanted[run_id].update(orjson.loads(chosen)[1:])
    c = choices.c
    for run_id, numbers in wanted.items():
        missing = [n for n in numbers if (run_id, n) not in known]
        if missing:
            rows = sa.select(c.number, c.choice["product_id"].as_string())
            rows = rows.where(c.run_id == run_id, among(connection, c.number, missing))
            known.update(((run_id, number), product) for number, product in connection.execute(rows))


def _table(rows: Iterable[tuple[str, str, int]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
