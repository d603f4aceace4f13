"""Links that only we can make: a token names a message and a purpose, and nobody can forge or repurpose it.

A token is base64url of the message's 128 bits and of 80 bits of HMAC-SHA256 over purpose and message (RFC 2104 allows
truncation to 80 bits), 35 characters. The address is <public_url>/<letter><token>: with a base of 40 bytes it stays
under the 78 bytes of one mail-header line (RFC 5322), so that no mail server folds it. A click's token also covers
where the link leads and what it shows, which follow it as a query: nobody can make it lead elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import uuid
from typing import Final
from urllib.parse import urlencode, urlsplit

from controltower.errors import BadSpec, ControlTowerError
from controltower.settings import Settings

LETTERS: Final = {"unsubscribe": "u", "preferences": "p", "click": "c", "view": "v"}

_MAC_BYTES = 10
_TOKEN_LENGTH = 35  # base64 of 16 + 10 bytes, without padding
_NOT_IN_ADDRESSES = re.compile(r"^\s|[\x00-\x1f\x7f\\]|\s$")


class BadToken(ControlTowerError):
    """A link's token was not made by us, for another purpose, or with another key."""


def sign(key: bytes, purpose: str, message_id: str, about: bytes = b"") -> str:
    """The token for one purpose of one message, covering `about` too; `message_id` is a UUID's text, hyphens or not."""
    subject = uuid.UUID(message_id).bytes
    return base64.urlsafe_b64encode(subject + _mac(key, purpose, subject + about)).rstrip(b"=").decode()


def verify(key: bytes, purpose: str, token: str, about: bytes = b"") -> str:
    """The message_id that the token was made for, as 32 hexadecimal digits; BadToken for anything else."""
    bad = BadToken("This link is not valid.", "Use the link of the newest message, complete as it was sent.")
    if len(token) != _TOKEN_LENGTH or not token.isascii():
        raise bad
    try:
        raw = base64.b64decode(token + "=", altchars=b"-_", validate=True)
    except binascii.Error:
        raise bad from None
    subject, mac = raw[:16], raw[16:]
    if not hmac.compare_digest(mac, _mac(key, purpose, subject + about)):
        raise bad
    # The last character has two spare bits: only the spelling that we made counts.
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != token:
        raise bad
    return uuid.UUID(bytes=subject).hex


def unsubscribe_url(settings: Settings, message_id: str) -> str:
    """Where one POST ends all mail of this kind to the recipient (RFC 8058); a GET only shows the button."""
    return _url(settings, "unsubscribe", message_id)


def preferences_url(settings: Settings, message_id: str) -> str:
    """Where the customer chooses channels and purposes."""
    return _url(settings, "preferences", message_id)


def view_url(settings: Settings, message_id: str) -> str:
    """Where the customer sees the mail as a web page."""
    return _url(settings, "view", message_id)


def click_url(
    settings: Settings, message_id: str, url: str, product_id: str | None = None, position: int | None = None
) -> str:
    """A link that leads to `url` and notes the click; `position` counts a message's products from 1.

    BadSpec where `url` is no web address.
    """
    if web_address(url) is None:
        raise BadSpec(f"{url!r} is no web address.", "A link needs http:// or https:// and a host.")
    shown = {"to": url, "product": product_id, "position": position}
    query = urlencode({name: value for name, value in shown.items() if value is not None})
    return _url(settings, "click", message_id, _destination(url, product_id, position)) + "?" + query


def verify_click(key: bytes, token: str, url: str, product_id: str | None, position: int | None) -> str:
    """The message_id of a click's link; BadToken where any part of it isn't as we made it."""
    message_id = verify(key, "click", token, _destination(url, product_id, position))
    if web_address(url) is None:
        raise BadToken("This link leads to no web address.")
    return message_id


def web_address(url: str | None) -> str | None:
    """The address if it is a web page's, else None: a catalogue must not bring in `javascript:`."""
    if not url or _NOT_IN_ADDRESSES.search(url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.hostname else None


def _destination(url: str, product_id: str | None, position: int | None) -> bytes:
    return json.dumps([url, product_id, position]).encode()


def _url(settings: Settings, purpose: str, message_id: str, about: bytes = b"") -> str:
    token = sign(settings.signing_key(), purpose, message_id, about)
    return f"{settings.public_url.rstrip('/')}/{LETTERS[purpose]}{token}"


def _mac(key: bytes, purpose: str, subject: bytes) -> bytes:
    if purpose not in LETTERS:
        raise ValueError(f"{purpose!r} is no purpose of a link; known are {', '.join(LETTERS)}")
    # The prefix keeps link tokens apart from whatever else the home's key authenticates.
    return hmac.digest(key, b"controltower.link.1\0" + purpose.encode() + b"\0" + subject, "sha256")[:_MAC_BYTES]
