"""SendGrid's Event Webhook in our words.

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event

Of an event we keep what is ours or from a closed list, never the address, IP, user agent or the receiving server's
text, which may quote the address. Of the address the keyed hash is handed on, for suppressions.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from controltower.feedback.intake import LARGEST_BODY
from controltower.ledger.suppressions import address_hash

# Not here: `group_resubscribe`, which is no consent (nobody saw our words), and the account's own events.
EVENTS: Final = {
    "processed": "queued",
    "deferred": "deferred",
    "delivered": "delivered",
    "bounce": "bounced",  # its `type` tells bounce (the address) from blocked (for now, or us)
    "dropped": "dropped",  # never left SendGrid; its `reason` says why
    "open": "opened",  # `sg_machine_open`: fetched by Apple's proxy, not seen by anybody
    "click": "clicked",  # none while SendGrid's click tracking is off, as delivery sets it
    "spamreport": "complained",
    "unsubscribe": "unsubscribed",
    "group_unsubscribe": "unsubscribed",
}
DROPPED: Final = {
    "bounced address": "bounced",
    "invalid": "invalid",
    "spam reporting address": "complained",
    "unsubscribed address": "unsubscribed",
    "invalid smtpapi header": "bad_request",
    "spam content": "spam_content",
    "recipient list over package quota": "over_quota",
}
# SendGrid keeps lists of its own: mail to these addresses is dropped whatever we do.
_LISTED: Final = {"bounced", "invalid", "complained", "unsubscribed"}
_EARLIEST, _LATEST = 946_684_800, 7_258_118_400  # 2000 and 2200, in epoch seconds; milliseconds are beyond


class Broken(Exception):
    """A body of which nothing can be read; the text is its named outcome."""


@dataclass(frozen=True)
class Event:
    """One event in our words; the three before the last say what follows from it."""

    provider_event_id: str
    message_id: str | None
    event: str
    occurred_at: datetime | None  # none: the time that it gave can't be meant
    detail: Mapping[str, str] | None
    machine: bool
    address_hash: str | None
    suppress: str | None  # the reason why the address must not be written to again
    objection: str | None  # the source of the customer's withdrawal of consent
    call: str | None  # begins with the X-Message-Id of the call that it is about; late bounces come without


def parse(body: bytes, key: bytes) -> tuple[list[Event], Counter[str]]:
    """The events of a body, and how many of its elements were broken, by reason. `key` is for hashes of addresses.

    Raises Broken: too_large, not_json, too_deep, not_a_list.
    """
    if len(body) > LARGEST_BODY:
        raise Broken("too_large")
    events: list[Event] = []
    broken: Counter[str] = Counter()
    try:
        for element in _elements(body):
            if not isinstance(element, dict):
                broken["not_an_object"] += 1
                continue
            event = _event(element, key)
            if event.occurred_at is None:
                broken["bad_timestamp"] += 1
                if not (event.suppress or event.objection):  # who must not be written to again counts without a time
                    continue
            events.append(event)
    except RecursionError:
        raise Broken("too_deep") from None
    return events, broken


def _elements(body: bytes) -> list[Any]:
    try:
        elements = json.loads(body)
    except ValueError:  # bad JSON, bytes of no encoding, a number of more digits than Python reads
        raise Broken("not_json") from None
    if not isinstance(elements, list):
        raise Broken("not_a_list")
    return elements


def _event(element: Mapping[str, Any], key: bytes) -> Event:
    name = element.get("event")
    event = EVENTS.get(name, "unknown") if isinstance(name, str) else "unknown"
    detail, suppress, objection = _meaning(event, element)
    return Event(
        provider_event_id=_id(element, key),
        message_id=_matching(r"[0-9a-f]{32}", element.get("message_id")),  # our custom argument
        event=event,
        occurred_at=_moment(element.get("timestamp")),
        detail=detail or None,
        machine=event == "opened" and element.get("sg_machine_open") is True,
        address_hash=_address_hash(element.get("email"), key),
        suppress=suppress,
        objection=objection,
        call=_matching(r"[A-Za-z0-9_=+/.:-]{1,200}", element.get("sg_message_id")),
    )


def _meaning(event: str, element: Mapping[str, Any]) -> tuple[dict[str, str], str | None, str | None]:
    """What is kept of an event beside its name, the reason for a suppression, the source of an objection."""
    detail: dict[str, str] = {}
    if event == "bounced":
        kind = _matching("bounce|blocked|expired", element.get("type"))
        status = _matching(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}|[245][0-9]{2}", element.get("status"))
        detail = {name: value for name, value in (("type", kind), ("status", status)) if value}
        # A block is for now or about us: a full mailbox, a listed sender. The address stays.
        return detail, "bounced" if kind == "bounce" and not (status or "5").startswith("4") else None, None
    if event == "dropped":
        given = element.get("reason")
        reason = DROPPED.get(given.strip().lower(), "other") if isinstance(given, str) else "other"
        return {"reason": reason}, reason if reason in _LISTED else None, None
    if event == "complained":
        return detail, "complained", "complaint"
    if event == "unsubscribed":
        return detail, None, "provider_unsubscribe"
    if event == "unknown" and (name := _matching(r"[a-z_]{1,40}", element.get("event"))):
        detail["provider_event"] = name
    return detail, None, None


def _id(element: Mapping[str, Any], key: bytes) -> str:
    """`sg_event_id`: stable when an event is posted again. One without gets a keyed hash of all that it says.

    `sg_message_id` and `smtp-id` are not: late bounces come without.
    """
    given = _matching(r"[A-Za-z0-9_=+/.:-]{1,100}", element.get("sg_event_id"))
    if given:
        return given
    content = json.dumps(element, sort_keys=True).encode()
    return "content:" + hmac.new(key, b"event:" + content, hashlib.sha256).hexdigest()


def _matching(pattern: str, value: Any) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(pattern, value) else None


def _moment(value: Any) -> datetime | None:
    """A time from epoch seconds; None for what can't be meant."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _EARLIEST <= value < _LATEST:
        return None
    return datetime.fromtimestamp(math.floor(value), UTC)


def _address_hash(value: Any, key: bytes) -> str | None:
    if not isinstance(value, str) or "@" not in value or len(value) > 320:
        return None
    return address_hash(key, value.encode(errors="replace").decode())
