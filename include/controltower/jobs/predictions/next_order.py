"""When customers order again, which product, and how likely they don't within 28 days (dormancy)."""

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

    from controltower.data.lake import Lake
    from controltower.data.reading import Reading
    from controltower.models.base import Outcome
    from controltower.models.replenishment.purchases import Series
    from controltower.shop import Shop

log = logging.getLogger("controltower")

NAMES: tuple[str, ...] = ("next_order", "next_product_order")
DATES = ("next_order_at", "next_order_low", "next_order_high")


def train(past: Past) -> Iterator[Outcome]:
    from controltower.models.replenishment import hazard
    from controltower.models.replenishment import training as orders

    days, goods = _read(past.lake, past.as_of, past.shop)
    log.info("training the next order on %d customers, and %d products bought again", len(days), len(goods))
    for name, some, theirs in ((orders.NEXT_ORDER, days, None), (orders.NEXT_PRODUCT_ORDER, goods, days)):
        yield orders.train(name, some, theirs, past.as_of, past.in_service(name, hazard.KINDS))


def score(now: Now) -> dict[str, pa.Array]:
    """dormancy_28d; next_order_at with _low and _high; next_order_reason where none can be told. And, of what the
    customer bought on two days or more, what is likeliest bought within 28 days, and when: next_product_id,
    next_product_at."""
    import pyarrow as pa

    from controltower.models.replenishment import hazard

    moment, text, n = pa.timestamp("us", tz="UTC"), pa.string(), len(now.customers)
    columns = now.numbers(None, ("dormancy_28d",)) | {name: pa.nulls(n, moment) for name in DATES}
    columns |= {"next_order_reason": pa.nulls(n, text), "next_product_id": pa.nulls(n, text)}
    columns["next_product_at"] = pa.nulls(n, moment)
    models = [now.load(name, hazard.KINDS) for name in NAMES]
    if not any(models):
        return columns
    days, goods = _series(now.reading, now.as_of, now.shop)
    if (model := models[0]) is not None:
        found = hazard.asked(now.customers, model.predict(days, None, now.as_of))
        columns |= now.numbers(found, ("dormancy_28d",))
        columns |= {name: pa.array(found[name], moment, from_pandas=True) for name in DATES}
        columns["next_order_reason"] = pa.array(found["reason"], text, from_pandas=True)
    if (model := models[1]) is not None and len(goods):
        found = model.predict(goods, days, now.as_of).sort_values(["order_28d", "item"], ascending=[False, True])
        first = found.drop_duplicates("customer_id").set_index("customer_id").reindex(now.customers)
        columns["next_product_id"] = pa.array(first["item"], text, from_pandas=True)
        columns["next_product_at"] = pa.array(first["next_order_at"], moment, from_pandas=True)
    return columns


def _read(lake: Lake, time: datetime, shop: Shop) -> tuple[Series, Series]:
    with lake.read(time) as reading:
        return _series(reading, time, shop)


def _series(reading: Reading, time: datetime, shop: Shop) -> tuple[Series, Series]:
    """Of customers, and of customers with what they bought on two days or more."""
    from controltower.models.replenishment import purchases

    days = purchases.series(reading.frame(purchases.read_orders(reading.table, time, shop)))
    goods = reading.frame(purchases.read_product_orders(reading.table, time, shop))
    return days, purchases.series(goods[goods["customer_id"].isin(days.customer_ids)], "product_id")


def evaluate(past: Past, until: datetime) -> Evaluated:
    """What would have served beside the own median gap and a constant wait, by who bought within 28 days."""
    from controltower.models.replenishment import hazard
    from controltower.models.replenishment import training as orders

    days = (until - past.as_of).days
    if days < hazard.SOON_DAYS:
        why = f"{hazard.SOON_DAYS} days aren't over: say --days {hazard.SOON_DAYS} or more."
        return Evaluated([], [why])
    (known, goods), (since, _) = (_read(past.lake, time, past.shop) for time in (past.as_of, until))
    outcome = orders.train(orders.NEXT_ORDER, known, None, past.as_of)
    of_goods = orders.train(orders.NEXT_PRODUCT_ORDER, goods, known, past.as_of)
    said = [
        f"{outcome.model.name} would have served. {outcome.why}",
        f"Of customers' products, on dates before: {of_goods.model.name} would have served. {of_goods.why}",
    ]
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
