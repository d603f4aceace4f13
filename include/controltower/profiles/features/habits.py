"""When a customer is active, by the customer's own clock and week."""

from __future__ import annotations

from controltower.profiles.features.feature import Feature, share
from controltower.profiles.portable import div

_HOUR = 3600


def _part_of_day(name: str, start: int) -> Feature:
    end = start + 6
    return Feature(
        f"{name}_share_90d",
        f"share of the last 90 days' events from {start:02} to {end:02} o'clock local time",
        "habits",
        lambda t: share(t, (t.clock >= start * _HOUR) & (t.clock < end * _HOUR)),
    )


FEATURES: tuple[Feature, ...] = (
    *(_part_of_day(name, start) for name, start in (("night", 0), ("morning", 6), ("afternoon", 12), ("evening", 18))),
    Feature(
        "weekend_event_share_90d",
        "share of the last 90 days' events on a local Saturday or Sunday",
        "habits",
        lambda t: div(t.weekend.sum(), t.count()),
    ),
    Feature(
        "weekend_share",
        "share of last year's purchases on a local Saturday or Sunday",
        "local_orders",
        lambda t: div(t.weekend.sum(), t.count()),
    ),
)
