"""Which parts of a posted body name a person: one body tells of many."""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

# Where bodies name persons, devices and messages (ours, GA4's, Segment's and SendGrid's words, in lower case). An id is
# looked for there only: product 17 isn't customer 17.
_NAMES = frozenset(
    "customer_id user_id userid visitor_id client_id anonymousid previousid message_id device_id id token".split()
)
_LISTS = ("events", "batch")


def elements_naming(body: bytes, ids: Set[str], addresses: Set[str]) -> list[Any]:
    """The elements of a body that name one of these ids or addresses; of one that is no JSON what can be said of it."""
    wanted, anywhere = {value.lower() for value in ids}, {value.strip().lower() for value in addresses}
    try:
        given = json.loads(body)
    except ValueError:
        text = body.decode(errors="replace").lower()
        return [{"unreadable_bytes": len(body)}] if any(value in text for value in anywhere) else []
    if isinstance(given, list):
        return [element for element in given if _names(element, wanted, anywhere)]
    if isinstance(given, dict) and (inner := next((n for n in _LISTS if isinstance(given.get(n), list)), None)):
        envelope = {name: value for name, value in given.items() if name != inner}
        if not _names(envelope, wanted, anywhere):
            return [element for element in given[inner] if _names(element, wanted, anywhere)]
        return [given]
    return [given] if _names(given, wanted, anywhere) else []


def _names(value: Any, ids: Set[str], addresses: Set[str], name: str = "") -> bool:
    if isinstance(value, dict):
        return any(_names(inner, ids, addresses, str(key).lower()) for key, inner in value.items())
    if isinstance(value, list):
        return any(_names(inner, ids, addresses, name) for inner in value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    text = str(value).strip().lower()
    return text in addresses or (name in _NAMES and text in ids)
