"""Which provider serves which channel, by name: a provider is a file beside this one, and its name here.

The file ends with `PROVIDER`, its class, which takes the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Final

from controltower.delivery.providers.base import Provider
from controltower.errors import BadSettings
from controltower.settings import Settings
from controltower.shop import Shop

# By channel, the names of those that can serve it; the first one does unless a setting names another.
CHANNELS: Final[dict[str, tuple[str, ...]]] = {
    "email": ("sendgrid", "smtp"),
    "push": ("fcm",),
    "in_app": ("in_app",),
}
NAMES: Final = sorted({name for names in CHANNELS.values() for name in names})


def name_of(settings: Settings, channel: str) -> str:
    """Which provider serves a channel."""
    return settings.email_provider if channel == "email" else CHANNELS[channel][0]


def check_rules(shop: Shop) -> None:
    """BadSettings where the shop's file has rules for a provider that there isn't: they would hold for nothing."""
    if unknown := sorted(shop.providers.keys() - set(NAMES)):
        raise BadSettings(f"shop.yaml: providers: there is none named {unknown[0]!r}.", f"Write {_any(NAMES)}.")


def provider_of(settings: Settings, channel: str) -> Provider:
    """The channel's provider; BadSettings where there is none of that name, or what it needs isn't set."""
    known, name = CHANNELS[channel], name_of(settings, channel)
    if name not in known:
        raise BadSettings(f"No provider {name!r} sends e-mail.", f"Set CONTROLTOWER_EMAIL_PROVIDER to {_any(known)}.")
    # Imported when it is used: firebase-admin alone takes some 40 MB.
    provider: Provider = import_module(f"controltower.delivery.providers.{name}").PROVIDER(settings)
    return provider


def _any(names: Sequence[str]) -> str:
    return " or ".join(names)
