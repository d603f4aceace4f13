"""What customers will spend within 30 days, a year and three years."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controltower.jobs.predictions.now import Now
from controltower.jobs.predictions.past import Past

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from controltower.models.base import Outcome

log = logging.getLogger("controltower")

NAMES: tuple[str, ...] = ("clv",)


def train(past: Past) -> Iterator[Outcome]:
    import pandas as pd

    from controltower.models.value import summaries, training
    from controltower.models.value.model import SHORT

    def known(time: datetime) -> pd.DataFrame:
        with past.lake.read(time) as reading:
            return reading.frame(summaries.read_summaries(reading.table, time, past.shop))

    def spent(time: datetime) -> pd.DataFrame:
        with past.lake.read(past.as_of) as reading:
            return reading.frame(summaries.read_window(reading.table, time, SHORT, past.as_of, past.shop))

    now = known(past.as_of)
    first = past.as_of - timedelta(days=int(now["first"].max()) + 1) if len(now) else past.as_of
    log.info("training the value of %d customers", len(now))
    yield training.train(
        past.as_of,
        now,
        [training.label(t, known(t), spent(t), past.features(t)) for t in training.snapshot_times(past.as_of, first)],
        [training.label(t, known(t), spent(t), pd.DataFrame()) for t in training.season_times(past.as_of, first)],
    )


def score(now: Now) -> dict[str, pa.Array]:
    """clv_30d, clv_1y and clv_3y, each with _low and _high."""
    from controltower.models.value import model as value
    from controltower.models.value import summaries

    found = None
    if (model := now.load("clv", value.KINDS)) is not None:
        known = now.reading.frame(summaries.read_summaries(now.reading.table, now.as_of, now.shop))
        found = model.predict(now.customers, known, now.features)
    return now.numbers(found, value.COLUMNS)
