"""When customers order again, and how likely they don't within 28 days (dormancy)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from controltower.jobs.predictions.evaluated import Evaluated, compared
from controltower.jobs.predictions.now import Now
from controltower.jobs.predictions.past import Past

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from controltower.models.base import Outcome
    from controltower.models.replenishment.purchases import Series

log = logging.getLogger("controltower")

NAMES: tuple[str, ...] = ("next_order",)


def train(past: Past) -> Iterator[Outcome]:
    from controltower.models.replenishment import hazard
    from controltower.models.replenishment import training as orders

    days = _days(past, past.as_of)
    log.info("training the next order on %d customers", len(days.customer_ids))
    in_service = past.in_service(orders.NEXT_ORDER, hazard.KINDS)
    yield orders.train(orders.NEXT_ORDER, days, None, past.as_of, in_service)


def _days(past: Past, time: datetime) -> Series:
    from controltower.models.replenishment import purchases

    with past.lake.read(time) as reading:
        return purchases.series(reading.frame(purchases.read_orders(reading.table, time, past.shop)))


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


def evaluate(past: Past, until: datetime) -> Evaluated:
    """What would have served beside the own median gap and a constant wait, by who bought within 28 days."""
    from controltower.models.replenishment import hazard
    from controltower.models.replenishment import training as orders

    days = (until - past.as_of).days
    if days < hazard.SOON_DAYS:
        why = f"{hazard.SOON_DAYS} days aren't over: say --days {hazard.SOON_DAYS} or more."
        return Evaluated([], [why])
    known, since = _days(past, past.as_of), _days(past, until)
    outcome = orders.train(orders.NEXT_ORDER, known, None, past.as_of)
    said = [f"{outcome.model.name} would have served. {outcome.why}"]
    waits = orders.first_since(since, days, known.customer_ids)
    came = waits <= hazard.SOON_DAYS
    if not 0 < came.sum() < len(came):
        who = "nobody" if not came.sum() else "everybody"
        said.append(
            f"Of {len(came)} known customers {who} bought within {hazard.SOON_DAYS} days: nothing to tell apart."
        )
        return Evaluated([], said)
    today = hazard.describe(known, None, 0)
    models: dict[str, hazard.NextOrder] = {outcome.model.name: outcome.model}  # type: ignore[dict-item]
    for kind in (hazard.OwnMedianGap, hazard.ConstantWait):
        models.setdefault(kind.name, kind().fit(today, []))
    rows: list[dict[str, Any]] = []
    scores: dict[str, np.ndarray] = {}
    for name, model in models.items():
        found = hazard.asked(known.customer_ids, model.predict(known, None, past.as_of))
        told = orders.judged(found, waits, past.as_of, timedelta(days=days))
        rows.append({"model": name, "customers": len(came)} | told)
        scores[name] = found["order_28d"].to_numpy(float)
    own = models[hazard.OwnMedianGap.name]
    scores["its nearness"] = orders.nearness(own, today)  # type: ignore[arg-type]
    if outcome.model.name == hazard.Hazard.name:
        auc = orders.auc_of(came)
        everybody = came | ~came
        best = max((name for name in scores if name != outcome.model.name), key=lambda n: auc(scores[n], everybody))
        beside = compared(known.customer_ids, auc, scores[outcome.model.name], scores[best])
        said.append(f"28-day AUC beside {best.replace('_', ' ')}: {beside}.")
    return Evaluated(rows, said)
