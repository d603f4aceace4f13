"""At which hours customers are reached best, and how long after a visit they come back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower.jobs.predictions.evaluated import Evaluated
from controltower.jobs.predictions.now import Now
from controltower.jobs.predictions.past import Past

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from controltower.data.reading import Reading
    from controltower.models.base import Outcome
    from controltower.models.send_time.evidence import Hours
    from controltower.shop import Shop

log = logging.getLogger("controltower")

NAMES: tuple[str, ...] = ("send_hour", "send_delay")
CHANNELS = ("email", "push")  # with a table of their own


def train(past: Past) -> Iterator[Outcome]:
    from controltower.models.send_time import delays, training
    from controltower.models.send_time.model import KINDS

    with past.lake.read(past.as_of) as reading:
        hours = _hours(reading, past.as_of, past.shop)
        log.info("training send hours on %d active hours", len(hours))
        yield training.train(hours, past.as_of, past.in_service("send_hour", KINDS))
        ids = hours.customer_ids[training.drawn(len(hours.customer_ids))]
        del hours
        rows = reading.computed("returns", delays.returns(reading.table, past.as_of, past.shop, ids))
        found = delays.Returns.of(reading.batches(reading.sql(rows)), past.as_of, ids)
    yield delays.train(found, past.as_of, past.in_service("send_delay", delays.KINDS))


def score(now: Now) -> dict[str, pa.Array]:
    """send_hour (0-23), send_hour_weight (0-1), and tables of the hours of a week (168 steps of the best one's 255,
    Monday 0:00 first): send_hours, for any channel, and send_hours_<channel>. All by the customer's own clock."""
    import pyarrow as pa

    from controltower.models.send_time.evidence import HOURS
    from controltower.models.send_time.model import KINDS

    n, week = len(now.customers), pa.list_(pa.uint8(), HOURS)
    names = ["send_hours", *(f"send_hours_{channel}" for channel in CHANNELS)]
    if (model := now.load("send_hour", KINDS)) is None:
        return now.numbers(None, ["send_hour_weight"]) | {
            "send_hour": pa.nulls(n, pa.int64()),
            **{name: pa.nulls(n, week) for name in names},
        }
    found = model.predict(_hours(now.reading, now.as_of, now.shop, now.customers))
    tables = [found.week, *(found.of(channel) for channel in CHANNELS)]
    return {
        "send_hour": pa.array(found.hour, pa.int64()),
        "send_hour_weight": pa.array(found.weight, pa.float64()),
        **{
            name: pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), HOURS)
            for name, table in zip(names, tables, strict=True)
        },
    }


def evaluate(past: Past, until: datetime) -> Evaluated:
    """Own hours against everyone's best hour."""
    from controltower.models.send_time import evaluation, training

    days = (until - past.as_of).days
    with past.lake.read(past.as_of) as reading:
        known = _hours(reading, past.as_of, past.shop)
    with past.lake.read(until) as reading:
        since = _hours(reading, until, past.shop, known.customer_ids)
    since = since.where(since.day < days)
    outcome = training.train(known, past.as_of)
    found = evaluation.judge(outcome, known, since, days)
    if isinstance(found, int):
        said = f"Only {found} customers were active both before and after {past.as_of:%Y-%m-%d}: nothing can be judged."
        return Evaluated([], [said])
    surely = "better" if found.low > 0 else "worse" if found.high < 0 else "neither better nor worse"
    said = (
        f"{found.own:.1%} of what {found.customers} customers did lay within an hour of their own best hour, and"
        f" {found.everyone:.1%} within one of everyone's: own hours are {surely} for sure ({found.better:+.1%}, 95 %"
        f" interval {found.low:+.1%} to {found.high:+.1%}). {outcome.model.name} would have served."
    )
    own = _row(
        "own_week",
        found.customers,
        hits_3h=found.own,
        better=found.better,
        better_low=found.low,
        better_high=found.high,
    )
    return Evaluated([own, _row("everyones_week", found.customers, hits_3h=found.everyone)], [said])


def _row(model: str, customers: int, **figures: float) -> dict[str, Any]:
    names = ("hits_3h", "better", "better_low", "better_high")
    return {"model": model, "customers": customers} | {name: figures.get(name) for name in names}


def _hours(reading: Reading, as_of: datetime, shop: Shop, customers: np.ndarray | None = None) -> Hours:
    from controltower.models.send_time import evidence

    rows = reading.computed("active_hours", evidence.active_hours(reading.table, as_of, shop))
    hours = evidence.Hours.of(reading.batches(reading.sql(rows)), as_of, customers)
    reading.forget(["active_hours"])
    return hours
