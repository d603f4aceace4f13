"""The messages that links name."""

from __future__ import annotations

from controltower.content.links import is_test, verify
from controltower.settings import Settings


class OfTest(Exception):
    """The link is a test send's: there is nothing to show and nothing to change."""


def message_of(settings: Settings, purpose: str, token: str) -> str:
    """The message's id; BadToken for what isn't ours, OfTest where no customer is behind it."""
    key = settings.signing_key()
    message_id = verify(key, purpose, token)
    if is_test(key, message_id):
        raise OfTest
    return message_id
