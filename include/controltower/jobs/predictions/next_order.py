"""When customers order again, and how likely they don't within 28 days (dormancy)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from controltower.jobs.predictions.now import Now
from controltower.jobs.predictions.past import Past

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.models.base import Outcome

log = logging.getLogger("controltower")

NAMES: tuple[str, ...] = ("next_order",)


def train(past: Past) -> Iterator[Outcome]:
    from controltower.models.replenishment import purchases
    from controltower.models.replenishment import training as orders

    with past.lake.read(past.as_of) as reading:
        days = purchases.series(reading.frame(purchases.read_orders(reading.table, past.as_of, past.shop)))
    log.info("training the next order on %d customers", len(days.customer_ids))
    yield orders.train(orders.NEXT_ORDER, days, None, past.as_of)


def score(now: Now) -> dict[str, pa.Array]:
    """dormancy_28d; next_order_at with _low and _high; next_order_reason where none can be told."""
    import pyarrow as pa

    from controltower.models.replenishment import hazard, purchases

    dates = ("next_order_at", "next_order_low", "next_order_high")
    moment, n = pa.timestamp("us", tz="UTC"), len(now.customers)
    if (model := now.load("next_order", hazard.KINDS)) is None:
        nothing = {name: pa.nulls(n, moment) for name in dates}
        return now.numbers(None, ("dormancy_28d",)) | nothing | {"next_order_reason": pa.nulls(n, pa.string())}
    days = purchases.series(now.reading.frame(purchases.read_orders(now.reading.table, now.as_of, now.shop)))
    found = hazard.asked(now.customers, model.predict(days, None, now.as_of))
    columns = now.numbers(found, ("dormancy_28d",))
    columns |= {name: pa.array(found[name], moment, from_pandas=True) for name in dates}
    columns["next_order_reason"] = pa.array(found["reason"], pa.string(), from_pandas=True)
    return columns
