"""What is expected of customers beside what they buy next: their value, and when they order again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from controltower.data.lake import Lake
    from controltower.data.reading import Reading
    from controltower.models.base import Outcome
    from controltower.models.registry import Registry
    from controltower.shop import Shop

log = logging.getLogger("controltower")

NAMES = ("clv", "next_order")  # models, of which each writes its columns


def train_expected(
    lake: Lake, as_of: datetime, shop: Shop, features: Callable[[datetime], pd.DataFrame]
) -> list[Outcome]:
    """The models of NAMES. features: as of a date, index customer_id."""
    from controltower.models.replenishment import purchases
    from controltower.models.replenishment import training as orders

    with lake.read(as_of) as reading:
        days = purchases.series(reading.frame(purchases.read_orders(reading.table, as_of, shop)))
    value = _train_value(lake, as_of, shop, features)
    log.info("training the next order on %d customers", len(days.customer_ids))
    return [value, orders.train(orders.NEXT_ORDER, days, None, as_of)]


def _train_value(lake: Lake, as_of: datetime, shop: Shop, features: Callable[[datetime], pd.DataFrame]) -> Outcome:
    import pandas as pd

    from controltower.models.value import summaries, training
    from controltower.models.value.model import SHORT

    def known(time: datetime) -> pd.DataFrame:
        with lake.read(time) as reading:
            return reading.frame(summaries.read_summaries(reading.table, time, shop))

    def spent(time: datetime) -> pd.DataFrame:
        with lake.read(as_of) as reading:
            return reading.frame(summaries.read_window(reading.table, time, SHORT, as_of, shop))

    now = known(as_of)
    first = as_of - timedelta(days=int(now["first"].max()) + 1) if len(now) else as_of
    log.info("training the value of %d customers", len(now))
    return training.train(
        as_of,
        now,
        [training.label(t, known(t), spent(t), features(t)) for t in training.snapshot_times(as_of, first)],
        [training.label(t, known(t), spent(t), pd.DataFrame()) for t in training.season_times(as_of, first)],
    )


def expected(
    reading: Reading, registry: Registry, as_of: datetime, shop: Shop, customers: np.ndarray, features: pd.DataFrame
) -> tuple[dict[str, pa.Array], dict[str, str], list[str]]:
    """The columns of `scores` by name, who serves, and the models' versions. features: rows of `customers`.

    Columns of a model that wasn't trained yet are null.
    """
    import pyarrow as pa

    from controltower.errors import NoData
    from controltower.models.replenishment import hazard, purchases
    from controltower.models.value import model as value
    from controltower.models.value import summaries

    columns: dict[str, pa.Array] = {}
    served: dict[str, str] = {}
    versions: list[str] = []

    def loaded(name: str, kinds: Any) -> Any:
        try:
            model, card = registry.load(name, as_of, kinds)
        except NoData:
            log.info("%s isn't told: train again", name)
            return None
        served[name] = card.serves
        versions.append(f"{name}@{card.version}")
        return model

    def numbers(frame: pd.DataFrame, names: tuple[str, ...]) -> None:
        columns.update({name: pa.array(frame[name].to_numpy(float), pa.float64(), from_pandas=True) for name in names})

    moment = pa.timestamp("us", tz="UTC")
    clv, next_order = (loaded(name, kinds) for name, kinds in zip(NAMES, (value.KINDS, hazard.KINDS), strict=True))
    if clv is not None:
        known = reading.frame(summaries.read_summaries(reading.table, as_of, shop))
        numbers(clv.predict(customers, known, features.set_axis(customers, axis=0)), value.COLUMNS)
    if next_order is not None:
        days = purchases.series(reading.frame(purchases.read_orders(reading.table, as_of, shop)))
        found = hazard.asked(customers, next_order.predict(days, None, as_of))
        numbers(found, ("dormancy_28d",))
        for name in ("next_order_at", "next_order_low", "next_order_high"):
            columns[name] = pa.array(found[name], moment, from_pandas=True)
        columns["next_order_reason"] = pa.array(found["reason"], pa.string(), from_pandas=True)
    for name in (*value.COLUMNS, "dormancy_28d"):
        columns.setdefault(name, pa.nulls(len(customers), pa.float64()))
    for name in ("next_order_at", "next_order_low", "next_order_high"):
        columns.setdefault(name, pa.nulls(len(customers), moment))
    columns.setdefault("next_order_reason", pa.nulls(len(customers), pa.string()))
    return columns, served, versions
