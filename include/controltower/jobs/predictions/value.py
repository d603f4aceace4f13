"""What customers will spend within 30 days, a year and three years."""

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
    import pandas as pd
    import pyarrow as pa

    from controltower.models.base import Outcome
    from controltower.models.publication import InService
    from controltower.models.value.model import Value
    from controltower.models.value.training import Snapshot

log = logging.getLogger("controltower")

NAMES: tuple[str, ...] = ("clv",)


def train(past: Past) -> Iterator[Outcome]:
    from controltower.models.value.model import KINDS

    yield _trained(past, _known(past, past.as_of), past.in_service("clv", KINDS))


def _trained(past: Past, now: pd.DataFrame, in_service: InService[Value]) -> Outcome:
    import pandas as pd

    from controltower.models.value import training
    from controltower.models.value.model import SHORT

    first = past.as_of - timedelta(days=int(now["first"].max()) + 1) if len(now) else past.as_of
    log.info("training the value of %d customers", len(now))

    def labelled(time: datetime, features: pd.DataFrame) -> Snapshot:
        return training.label(time, _known(past, time), _spent(past, time, SHORT, past.as_of), features)

    return training.train(
        past.as_of,
        now,
        [labelled(t, past.features(t)) for t in training.snapshot_times(past.as_of, first)],
        [labelled(t, pd.DataFrame()) for t in training.season_times(past.as_of, first)],
        in_service,
    )


def _known(past: Past, time: datetime) -> pd.DataFrame:
    from controltower.models.value import summaries

    with past.lake.read(time) as reading:
        return reading.frame(summaries.read_summaries(reading.table, time, past.shop))


def _spent(past: Past, start: datetime, days: int, as_of: datetime) -> pd.DataFrame:
    """Within the days after start, as known as of as_of."""
    from controltower.models.value import summaries

    with past.lake.read(as_of) as reading:
        return reading.frame(summaries.read_window(reading.table, start, days, as_of, past.shop))


def score(now: Now) -> dict[str, pa.Array]:
    """clv_30d, clv_1y and clv_3y, each with _low and _high."""
    from controltower.models.value import model as value
    from controltower.models.value import summaries

    found = None
    if (model := now.load("clv", value.KINDS)) is not None:
        known = now.reading.frame(summaries.read_summaries(now.reading.table, now.as_of, now.shop))
        found = model.predict(now.customers, known, now.features)
    return now.numbers(found, value.COLUMNS)


def evaluate(past: Past, until: datetime) -> Evaluated:
    """What would have served, over each horizon that is over, beside the customer's own past rate."""
    from controltower.models import publication
    from controltower.models.value.model import HORIZONS, NAMES, NaiveRate
    from controltower.models.value.training import measures

    over = [h for h in HORIZONS if h <= (until - past.as_of).days]
    if not over:
        return Evaluated(
            [], [f"The value of {HORIZONS[0]} days can't be judged yet: say --days {HORIZONS[0]} or more."]
        )
    known = _known(past, past.as_of)
    outcome = _trained(past, known, publication.nothing)
    said = [f"{outcome.model.name} would have served. {outcome.why}"]
    if not len(known):
        return Evaluated([], said)
    rows: list[dict[str, Any]] = []
    ids, features = known["customer_id"].to_numpy(), past.features(past.as_of)
    models: tuple[Value, ...] = (outcome.model, NaiveRate().fit(known))  # type: ignore[assignment]
    asked = {model.name: model.predict(ids, known, features) for model in models}
    for h in over:
        spent = (
            _spent(past, past.as_of, h, until).set_index("customer_id")["amount"].reindex(ids).fillna(0.0).to_numpy()
        )
        if spent.sum() <= 0:
            said.append(
                f"{h} days: {len(ids)} known customers spent nothing, net, so there is nothing to compare with."
            )
            continue
        name = NAMES[h]
        rows += [
            {"horizon": h, "model": model, "customers": len(ids)} | measures(found, spent, name)
            for model, found in asked.items()
        ]
        if len(asked) > 1:

            def error(found: Any, some: np.ndarray, spent: np.ndarray = spent, name: str = name) -> float:
                return measures(found[some], spent[some], name)["decile_error"]

            said.append(f"{h} days: decile error {compared(ids, error, *asked.values(), lower_is_better=True)}.")
    return Evaluated(rows, said)
