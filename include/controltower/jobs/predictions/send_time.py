"""At which hour customers are reached best."""

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

NAMES: tuple[str, ...] = ("send_hour",)


def train(past: Past) -> Iterator[Outcome]:
    from controltower.models import timing

    with past.lake.read(past.as_of) as reading:
        hours = reading.frame(timing.active_hours(reading.table, past.as_of, past.shop))
    log.info("training send hours on %d active hours", len(hours))
    yield timing.train(hours, past.as_of)


def score(now: Now) -> dict[str, pa.Array]:
    """send_hour (0-23), send_hour_weight (0-1)."""
    import pyarrow as pa

    from controltower.models import timing

    hours = now.reading.frame(timing.active_hours(now.reading.table, now.as_of, now.shop))
    model = now.load(timing.NAME, timing.KINDS)
    if model is None:
        n = len(now.customers)
        return {"send_hour": pa.nulls(n, pa.int64()), "send_hour_weight": pa.nulls(n, pa.float64())}
    best = model.predict(now.customers, hours)
    return {
        "send_hour": pa.array(best["send_hour"].to_numpy(), pa.int64()),
        "send_hour_weight": pa.array(best["send_hour_weight"].to_numpy(), pa.float64()),
    }
