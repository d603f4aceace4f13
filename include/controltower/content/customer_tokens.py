"""Tokens by which the shop's app speaks for one customer. The shop's backend makes them, after its own log-in.

A token is `<customer>.<until>.<mac>`: the customer id as base64url of its UTF-8, seconds since 1970 in decimal, and
base64url of HMAC-SHA256 over `<customer>.<until>`, all without padding. The key of that is made of the home's secret
for this alone: who has it can speak for customers, but neither sign links nor look for addresses.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from datetime import datetime

from controltower.content.links import BadToken

_LONGEST = 1000  # characters
_TOKEN = re.compile(r"(?P<about>(?P<customer>[A-Za-z0-9_-]+)\.(?P<until>[0-9]{1,12}))\.(?P<mac>[A-Za-z0-9_-]{43})")


def customer_key(key: bytes) -> str:
    """The key that a shop's backend is given, as it is used: 64 hexadecimal digits, as text."""
    return hmac.digest(key, b"controltower.customer.1", "sha256").hex()


def sign_customer(key: bytes, customer_id: str, until: datetime) -> str:
    """A token of one customer, valid until then; `key` is the home's."""
    about = f"{_base64(customer_id.encode())}.{int(until.timestamp())}"
    return f"{about}.{_mac(key, about)}"


def verify_customer(key: bytes, token: str, now: datetime) -> str:
    """The customer id that a token was made for; BadToken where it isn't ours, or is too old."""
    bad = BadToken("This token is not valid.", "Let the shop's backend make a new one.")
    found = _TOKEN.fullmatch(token) if len(token) <= _LONGEST else None
    if not found or not hmac.compare_digest(found["mac"], _mac(key, found["about"])):
        raise bad
    if int(found["until"]) < now.timestamp():
        raise bad
    try:
        return base64.urlsafe_b64decode(found["customer"] + "=" * (-len(found["customer"]) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise bad from None


def _mac(key: bytes, about: str) -> str:
    return _base64(hmac.digest(customer_key(key).encode(), about.encode(), "sha256"))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
