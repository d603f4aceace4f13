"""How likely customers buy within 1, 7 and 28 days, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from controltower.jobs.predictions.now import Now
from controltower.jobs.predictions.past import Past

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.models.base import Outcome

HORIZONS = (1, 7, 28)  # days
NAMES: tuple[str, ...] = tuple(f"propensity_{h}d" for h in HORIZONS)


def train(past: Past) -> Iterator[Outcome]:
    from controltower.models import propensity

    for h in HORIZONS:
        times = propensity.snapshot_times(past.as_of, h, past.first)
        snapshots = [propensity.label(t, h, past.features(t), past.purchases) for t in times]
        yield propensity.train(h, past.as_of, snapshots, past.features(past.as_of), past.purchases)


def score(now: Now) -> dict[str, pa.Array]:
    """propensity_{h}d, and reasons_{h}d (JSON)."""
    import pyarrow as pa

    from controltower.models import propensity

    columns: dict[str, pa.Array] = {}
    for h in HORIZONS:
        if (model := now.load(f"propensity_{h}d", propensity.KINDS)) is None:
            columns |= now.numbers(None, [f"propensity_{h}d"])
            columns[f"reasons_{h}d"] = pa.nulls(len(now.customers), pa.string())
            continue
        columns[f"propensity_{h}d"] = pa.array(model.predict(now.features, now.as_of), pa.float64())
        columns[f"reasons_{h}d"] = propensity.reasons(model, now.features)
    return columns
