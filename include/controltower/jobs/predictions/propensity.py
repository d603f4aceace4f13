"""How likely customers buy within 1, 7 and 28 days, and why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower.jobs.predictions.evaluated import Evaluated, compared
from controltower.jobs.predictions.now import Now
from controltower.jobs.predictions.past import Past

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.models.base import Outcome
    from controltower.models.propensity import Snapshot

HORIZONS = (1, 7, 28)  # days
NAMES: tuple[str, ...] = tuple(f"propensity_{h}d" for h in HORIZONS)


def train(past: Past) -> Iterator[Outcome]:
    from controltower.models import propensity

    today = propensity.drawn(past.features(past.as_of))
    for h in HORIZONS:
        in_service = past.in_service(f"propensity_{h}d", propensity.KINDS)
        yield propensity.train(h, past.as_of, _snapshots(past, h), today, past.purchases, in_service)


def _snapshots(past: Past, horizon: int) -> list[Snapshot]:
    """A whole frame is there only until its sample is drawn."""
    from controltower.models import propensity

    times = propensity.snapshot_times(past.as_of, horizon, past.first)
    return [propensity.label(t, horizon, past.features(t), past.purchases) for t in times]


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


def evaluate(past: Past, until: datetime) -> Evaluated:
    """What would have served, for each horizon that is over, beside the logistic regression on RFM."""
    from controltower.models import propensity
    from controltower.models.propensity import judging
    from controltower.models.propensity.snapshots import stack

    rows: list[dict[str, Any]] = []
    said = []
    today, later = propensity.drawn(past.features(past.as_of)), past.purchases_until(until)
    for h in HORIZONS:
        if h > (until - past.as_of).days:
            said.append(f"{h} days aren't over: say --days {h} or more.")
            continue
        test = propensity.label(past.as_of, h, today, later)
        if not 0 < test.bought.sum() < len(test.bought):
            who = "nobody" if not test.bought.sum() else "everybody"
            said.append(
                f"{h} days: of {len(test.bought)} known customers {who} bought, so there is nothing to be told apart."
            )
            continue
        snapshots = _snapshots(past, h)
        outcome = propensity.train(h, past.as_of, snapshots, today, past.purchases)
        x, y = stack(snapshots)
        asked: dict[str, propensity.Classifier] = {outcome.model.name: outcome.model}  # type: ignore[dict-item]
        if judging.enough(y):
            asked.setdefault(propensity.RfmLogistic.name, propensity.RfmLogistic().fit(x, y))
        p = {name: model.predict(test.features, past.as_of) for name, model in asked.items()}
        rows += [
            {"horizon": h, "model": name, "customers": len(test.bought)} | judging.measured(test.bought, p[name])
            for name in p
        ]
        told = f"{h} days: {outcome.model.name} would have served. {outcome.why}"
        if len(p) > 1:
            ours, theirs = p.values()
            precision = judging.precision_of(test.bought)
            ids = test.features.index.to_numpy()
            told += f" Average precision since: {compared(ids, precision, ours, theirs)}."
        said.append(told)
    return Evaluated(rows, said)
