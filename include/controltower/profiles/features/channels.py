"""Where a customer meets the shop: web, app, store, and which devices."""

from __future__ import annotations

from controltower.profiles.features.feature import Feature, share, within

CHANNELS = ("web", "app", "store")


def _events_on(channel: str) -> Feature:
    return Feature(
        f"{channel}_event_share_90d",
        f"share of the last 90 days' events that were in the channel {channel}, of those whose channel is known",
        "events",
        lambda t: share(t, t.channel == channel, of=t.channel.notnull() & within(t, 90)),
    )


def _orders_on(channel: str) -> Feature:
    return Feature(
        f"{channel}_order_share",
        f"share of the purchases that were in the channel {channel}, of those whose channel is known",
        "orders",
        lambda t: share(t, t.channel == channel, of=t.channel.notnull()),
    )


def _devices_with(platform: str) -> Feature:
    return Feature(
        f"{platform}_devices",
        f"devices known with the platform {platform}",
        "devices",
        lambda t: t.count(where=t.platform == platform),
        0,
    )


FEATURES: tuple[Feature, ...] = (
    *(_events_on(channel) for channel in CHANNELS),
    *(_orders_on(channel) for channel in CHANNELS),
    *(_devices_with(platform) for platform in ("ios", "android", "web")),
    Feature("push_devices", "devices that can be pushed to", "devices", lambda t: t.count(where=t.push), 0),
)
