"""What is predicted of customers: a module each, which trains its models and scores with them.

A module has

- NAMES: of its models in the registry;
- `train(past)`: an Outcome for each of NAMES;
- `score(now)`: its columns of `scores`, by name; all of them, null where its model wasn't trained yet;
- mostly `evaluate(past, until)`: an Evaluated, named in TASKS of jobs/evaluating. acquisition is judged on its card.

To add one, write its module, put it into PREDICTIONS, and its `evaluate` into TASKS. Who infers who customers are is
jobs/inference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from controltower.jobs.predictions import acquisition, channel, next_order, propensity, send_time, uplift, value
from controltower.jobs.predictions.now import Now
from controltower.jobs.predictions.past import Past

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.models.base import Outcome


class Prediction(Protocol):
    """What a module of this package offers."""

    NAMES: tuple[str, ...]

    def train(self, past: Past, /) -> Iterator[Outcome]: ...

    def score(self, now: Now, /) -> dict[str, pa.Array]: ...


PREDICTIONS: tuple[Prediction, ...] = (propensity, send_time, value, next_order, acquisition, uplift, channel)

__all__ = ["PREDICTIONS", "Now", "Past", "Prediction"]
