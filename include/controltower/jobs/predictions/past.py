"""What predictions learn from: the lake as of a date and before, and the models that were in service then."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from controltower.data.lake import Lake
    from controltower.models.base import Model
    from controltower.models.publication import Serving
    from controltower.models.registry import Registry

log = logging.getLogger("controltower")
M = TypeVar("M", bound="Model")


@dataclass(frozen=True)
class Past:
    """A training's view of what was known as of a date, and as of dates before it."""

    config: Settings
    shop: Shop
    lake: Lake
    registry: Registry
    as_of: datetime
    folder: Path  # features of past dates wait here: those of a million customers are half a gigabyte a date

    @classmethod
    @contextmanager
    def of(cls, config: Settings, shop: Shop, as_of: datetime) -> Iterator[Self]:
        from controltower.data.lake import Lake
        from controltower.data.scratch import scratch
        from controltower.models.registry import Registry

        with scratch(config) as folder:
            yield cls(config, shop, Lake(config), Registry(config.home / "models"), as_of, folder)

    def features(self, time: datetime) -> pd.DataFrame:
        """The features as of a date, computed afresh once: index customer_id, float columns."""
        import pyarrow.parquet as pq

        from controltower.data.scratch import scratch
        from controltower.profiles.features import NAMES
        from controltower.profiles.rolling import build

        path = self.folder / f"{time.astimezone(UTC):%Y%m%dT%H%M%S}.parquet"
        if not path.exists():
            with self.lake.read(time) as reading, scratch(self.config) as folder:
                built = build(reading, folder, time, self.shop, rescan=True)
                with pq.ParquetWriter(path, built.schema) as writer:
                    for batch in built.rows:
                        writer.write_batch(batch)
            log.info("features of the past as of %s: %d customers", time.date(), pq.read_metadata(path).num_rows)
        with pq.ParquetFile(path) as file:
            return framed(file.iter_batches(columns=["customer_id", *NAMES]), file.metadata.num_rows)

    @cached_property
    def purchases(self) -> pd.DataFrame:
        """Orders known as of as_of: customer_id, second (epoch)."""
        return self.purchases_until(self.as_of)

    def purchases_until(self, time: datetime) -> pd.DataFrame:
        """Orders known as of a moment: customer_id, second (epoch)."""
        from controltower.profiles.facts import gather

        with self.lake.read(time) as reading:
            orders = gather(reading.table, time, self.shop).orders
            return reading.frame(orders.select("customer_id", "second"))

    @property
    def first(self) -> datetime:
        """When the first of them was; as_of where there is none."""
        seconds = self.purchases["second"]
        return datetime.fromtimestamp(int(seconds.min()), UTC) if len(seconds) else self.as_of

    def in_service(self, name: str, kinds: Iterable[type[M]]) -> Callable[[datetime], Serving[M] | None]:
        """What served, or would have, at a moment: the newest version trained as of then, or earlier. As of as_of it is
        the one before: training twice gives the same."""
        from controltower.errors import BadSettings, NoData
        from controltower.models.publication import Serving

        def at(moment: datetime) -> Serving[M] | None:
            until = min(moment, self.as_of - timedelta(seconds=1))
            try:
                card = self.registry.card(name, until)
            except NoData:
                return None
            try:
                return Serving(card, self.registry.load(name, until, kinds)[0])
            except BadSettings:
                return Serving(card, None)

        return at


def framed(batches: Iterable[pa.RecordBatch], rows: int) -> pd.DataFrame:
    """Features that come with their customer_id, and their number: a frame (index customer_id, float columns)."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from controltower.profiles.features import NAMES

    values, ids, at = np.empty((len(NAMES), rows)), [np.array([], np.str_)], 0
    for batch in batches:  # copied into place: a column that is kept would keep its batch, so all would be there twice
        for i, name in enumerate(NAMES):
            values[i, at : at + len(batch)] = batch[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
        ids.append(batch["customer_id"].to_numpy(zero_copy_only=False).astype(np.str_))
        at += len(batch)
    index = pd.Index(np.concatenate(ids), dtype="str", name="customer_id")
    return pd.DataFrame(values.T, index=index, columns=list(NAMES), copy=False)
