"""What predictions are made from: the lake as of a date, whose features are there, and the models in service."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from controltower.data.reading import Reading
    from controltower.models.base import Model
    from controltower.models.registry import Registry

log = logging.getLogger("controltower")
M = TypeVar("M", bound="Model")


@dataclass(frozen=True)
class Now:
    """The customers who are scored (n, sorted ids), and who serves: `served` and `versions` fill as models load."""

    config: Settings
    shop: Shop
    reading: Reading
    registry: Registry
    as_of: datetime
    customers: np.ndarray
    features: pd.DataFrame  # index customers, float columns
    served: dict[str, str] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)

    def load(self, name: str, kinds: Iterable[type[M]]) -> M | None:
        """The model in service; None, which is logged, where none was trained yet."""
        from controltower.errors import NoData

        try:
            model, card = self.registry.load(name, self.as_of, kinds)
        except NoData:
            log.info("%s isn't told: train again", name)
            return None
        self.served[name] = card.serves
        self.versions.append(f"{name}@{card.version}")
        return model

    def numbers(self, frame: pd.DataFrame | None, names: Iterable[str]) -> dict[str, pa.Array]:
        """Columns of a frame with a row for each customer, NaN as null; all null where there is no frame."""
        import pyarrow as pa

        if frame is None:
            return {name: pa.nulls(len(self.customers), pa.float64()) for name in names}
        return {name: pa.array(frame[name].to_numpy(float), pa.float64(), from_pandas=True) for name in names}
