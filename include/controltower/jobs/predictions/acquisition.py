"""How likely people who never bought become customers. They are asked for when a goal is to acquire: jobs/targeting."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from controltower.jobs.predictions.now import Now
from controltower.jobs.predictions.past import Past

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.models.base import Outcome

log = logging.getLogger("controltower")

NAMES: tuple[str, ...] = ("acquisition",)


def train(past: Past) -> Iterator[Outcome]:
    from controltower.models.acquisition import model, people, training

    with past.lake.read(past.as_of) as reading:
        dates = training.times(past.as_of, _first_event(past))
        since = min(dates, default=past.as_of)
        became = people.read_became(reading.table, reading.frame, past.as_of, since, past.shop)
    snapshots = []
    for date in dates:
        with past.lake.read(date) as reading:
            everybody = people.read_people(reading.table, reading.frame, date, past.shop, reading.computed)
        there = training.drawn(everybody)
        del everybody  # at most one date's is held whole
        bought = people.bought(there, date, model.Acquisition.DAYS, past.purchases, became)
        snapshots.append(training.Snapshot(date, there, bought))
    with past.lake.read(past.as_of) as reading:
        today = people.read_people(reading.table, reading.frame, past.as_of, past.shop, reading.computed)
    log.info("training who becomes a customer on %d past dates", len(snapshots))
    in_service = past.in_service(training.NAME, model.KINDS)
    yield training.train(past.as_of, snapshots, in_service, training.drawn(today))


def score(now: Now) -> dict[str, pa.Array]:  # noqa: ARG001 - `scores` has customers, most of these are visitors
    return {}


def _first_event(past: Past) -> datetime:
    with past.lake.read(past.as_of) as reading:
        events = reading.table("events")
        at: datetime | None = reading.arrow(events.aggregate(at=events.occurred_at.min()))["at"][0].as_py()
    return min(at.astimezone(UTC) if at else past.as_of, past.first)
