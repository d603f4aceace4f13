"""All features of a lake as of a moment: from those of an earlier day where that may be, else from every fact.

A step goes from the features of a moment a whole number of 24 hours earlier. Who has no fact that came, changed or
crossed the edge of a window since then has the same features, only that the days since something are more by the step.
Of all others the same expressions as ever count anew, over their facts alone. So a step is right when it finds at least
everybody whose facts changed (`touched.py`), and knows when it can't (`step.py`, `basis.py`): then all are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import ibis.expr.types as ir
import pyarrow as pa

from controltower.data.lake import Reading
from controltower.data.sql import literal
from controltower.profiles.facts import Facts, gather, uncounted_orders
from controltower.profiles.features import SOURCES, counted, counting
from controltower.profiles.rolling import basis, touched
from controltower.profiles.rolling.columns import Columns
from controltower.profiles.rolling.step import Step, step_to
from controltower.shop import Shop


@dataclass(frozen=True)
class Built:
    """`rows`: customer_id, as_of, all FEATURES and lifecycle, in batches ordered by customer_id; `basis`: what a later
    step needs (see basis.py).

    `rescanned` is the reason for which everybody was counted, None after a step. `counted`: how many customers were.
    `without_rate`: purchases without a rate into the shop's currency, whose money is in no feature.
    """

    schema: pa.Schema
    rows: Iterator[pa.RecordBatch]
    basis: pa.Table
    rescanned: str | None
    counted: int
    without_rate: int


def build(reading: Reading, folder: Path, as_of: datetime, shop: Shop, *, rescan: bool = False) -> Built:
    """The features of everybody known; `folder` is for working files, and must stay until all rows are read.

    `reading` is as of the same moment. `rescan`: count everybody, whatever might be taken over.
    """
    told = "customer_id, timezone, country, home_store, points, signed_up_at"
    reading.keep("_customers", f"SELECT {told} FROM ({reading.query('customers')})")
    facts = gather(cache(lambda t: reading.named("_customers") if t == "customers" else reading.table(t)), as_of, shop)
    empty = counted(facts)
    now = basis.gathered(reading, facts, empty)
    step = "asked for" if rescan else step_to(reading, facts, now)
    if isinstance(step, Step):
        why, chosen = None, touched.of_step(reading, step, facts)
        columns = Columns(folder, chosen, empty, step)
    else:
        why, chosen = step, touched.everybody(reading, facts)
        columns = Columns(folder, chosen, empty)

    def keep(name: str, rows: ir.Table) -> ir.Table:
        return reading.computed(f"facts_{name}", rows)

    @cache
    def theirs(days: int) -> Facts:
        """The facts to count; events only of those of whom so many days are."""

        def table(name: str) -> ir.Table:
            rows = chosen.facts.table(name)
            return rows.filter(rows.days >= days) if name == "events" and days else rows

        return Facts(cache(table), as_of, shop, keep, facts.holidays, whole=True)

    def put(source: str) -> None:
        rows = getattr(theirs(chosen.least(source)), source)
        reading.show(f"{source}_facts", rows)
        columns.put(source, reading.batches(counting(source, rows.schema())))

    rest = list(SOURCES)
    for group, sources in touched.GROUPS.items():
        for source in sources:
            put(source)
            rest.remove(source)
        chosen.members[chosen.facts.drop(group)] = True
        reading.forget(("facts_lines", "facts_orders"))
    for source in rest:
        put(source)
    without_rate = _without_rate(reading, facts)
    reading.forget(reading.kept)
    schema, rows = columns.rows(reading, as_of)
    return Built(schema, rows, now, why, chosen.count, without_rate)


def _without_rate(reading: Reading, facts: Facts) -> int:
    """uncounted_orders, looking only at orders of a day and a currency of which no rate was ever told."""
    rates = f'SELECT * FROM ({reading.every_row("exchange_rates")}) WHERE "to" = {literal(facts.shop.currency)}'
    reading.keep(
        "_without_rate",
        f"SELECT DISTINCT order_id FROM ({reading.every_row('orders')}) o"
        f' ANTI JOIN ({rates}) r ON CAST(o.ordered_at AS DATE) = r.date AND o.currency = r."from"'
        f" WHERE currency <> {literal(facts.shop.currency)}",
    )
    if not reading.execute("SELECT 1 FROM _without_rate LIMIT 1"):
        return 0
    theirs = ("orders", "order_lines")
    for table in theirs:
        reading.keep(f"foreign_{table}", reading.query(table, "order_id IN (SELECT order_id FROM _without_rate)"))
    named = cache(lambda table: reading.named(f"foreign_{table}") if table in theirs else reading.table(table))
    return int(uncounted_orders(gather(named, facts.as_of, facts.shop)).to_pyarrow().as_py())
