"""Bringing what was posted to /v1/events into the lake."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.jobs import anomalies
from controltower.jobs.ingest import alone, erased_people

if TYPE_CHECKING:
    from controltower.data.lake import Lake

log = logging.getLogger(__name__)

_BODIES = 500  # a load, each of up to a megabyte
_LOADS = 50  # more than so many of today become one, and all of a day that is over
_SOURCE = "posted events"
_KEY = "posted/"


def ingest_events() -> dict[str, Any]:
    """Load the posted bodies that wait, oldest first. Returns bodies, read, loaded, duplicates, quarantined.

    A run that was killed is simply run again: what was loaded already is a duplicate, and adds nothing.
    """
    from controltower.data.gate import Interval
    from controltower.data.lake import Lake
    from controltower.data.load import load
    from controltower.data.sources.posted_events import PostedEvents
    from controltower.ledger import event_bodies
    from controltower.ledger.database import begin, reading

    conf = settings.load()
    counts: Counter[str] = Counter(dict.fromkeys(("bodies", "read", "loaded", "duplicates", "quarantined"), 0))
    with alone(conf):
        while True:
            with reading(conf) as ledger:
                bodies = event_bodies.waiting(ledger, _BODIES)
            if not bodies:
                break
            shop = settings.load_shop(conf)  # a new home has none, and nothing to load
            now = clock.now(conf)
            last = max(now, *(b.received_at for b in bodies)) + timedelta(seconds=1)
            key = f"{_day(bodies[0].received_at)}/{bodies[0].body_id:012}-{bodies[-1].body_id:012}"
            interval = Interval(key=key, start=None, end=last, zone=shop.timezone, known_at="file", now=now)
            posted = PostedEvents([(b.body, b.received_at) for b in bodies])
            found = load(conf, posted, interval, erased_people(conf), lambda _: None)
            anomalies.look_over_load(conf, _SOURCE, interval, found.brought, compared=False)
            of_erased = found.reports["events"]["erased"] > 0  # their bodies aren't kept, either
            with begin(conf) as ledger:
                event_bodies.close(ledger, bodies, now, keep=not of_erased)
            counts["bodies"] += len(bodies)
            counts.update({name: found.reports["events"][name] for name in counts if name != "bodies"})
            log.info("%d bodies: %s", counts["bodies"], dict(counts))
        _merge(Lake(conf), clock.now(conf))
    return dict(counts)


def _merge(lake: Lake, now: datetime) -> None:
    """Let the loads of a day become one, by and by: the files of days before stay as they are."""
    days: dict[str, list[str]] = {}
    for key in lake.intervals("events"):
        if key.startswith(_KEY) and "+" not in key:  # not what was replayed
            day, _, bodies = key.rpartition("/")
            days.setdefault(day, []).append(bodies)
    for day, loads in days.items():
        if len(loads) > (_LOADS if day == _day(now) else 1):
            into = f"{day}/{loads[0].partition('-')[0]}-{loads[-1].partition('-')[2]}"
            lake.merge(("events", "quarantine"), [f"{day}/{bodies}" for bodies in loads], into)


def _day(now: datetime) -> str:
    """What the intervals of a UTC day begin with. (Before these there was `posted` alone.)"""
    return f"{_KEY}{now.astimezone(UTC):%Y-%m-%d}"
