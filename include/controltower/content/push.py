"""A push message small enough for FCM."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from controltower.content.text import boundaries

LIMIT = 4096  # bytes of an FCM message; https://firebase.google.com/docs/cloud-messaging/concept-options


def payload_size(payload: dict[str, Any]) -> int:
    """Bytes of the message as UTF-8 JSON; FCM doesn't count all of it, so this errs on the safe side."""
    message = payload.get("message", payload)
    return len(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def fit(payload: dict[str, Any], limit: int = LIMIT) -> dict[str, Any]:
    """The FCM payload ({"message": {...}} or the message itself) within `limit` bytes; the given one stays as it is.

    What gives way, in this order: the body (but not its own last line, which names the sender of an advert), the
    title, the image and what is for browsers only, then data other than message_id, the largest value first. Cuts fall
    between characters as readers see them. Never fails: where the rest alone is too large, its smallest form is what
    comes.
    """
    if payload_size(payload) <= limit:
        return payload
    payload = copy.deepcopy(payload)
    message = payload.get("message", payload)
    shown = message.get("notification") or {}

    def fits() -> bool:
        return payload_size(payload) <= limit

    if shown.get("body"):
        body, line, legal = shown["body"].partition("\n")
        _shorten(shown, "body", body, line + legal, fits)
    if not fits() and shown.get("title"):
        _shorten(shown, "title", shown["title"], "", fits)
    if not fits():
        shown.pop("image", None)
        (message.get("apns") or {}).pop("fcm_options", None)
        message.pop("webpush", None)
    data = message.get("data") or {}
    for key in sorted(data, key=lambda k: -len(data[k])):
        if fits():
            break
        if key != "message_id":
            del data[key]
    return payload


def _shorten(shown: dict[str, Any], field: str, text: str, tail: str, fits: Callable[[], bool]) -> None:
    """Keep as much of the text's start as fits, by bisection over the places where it may be cut."""
    ends = [0, *boundaries(text)][:-1]
    low, high = 0, max(len(ends) - 1, 0)
    while low < high:
        middle = (low + high + 1) // 2
        shown[field] = text[: ends[middle]].rstrip() + "…" + tail
        low, high = (middle, high) if fits() else (low, middle - 1)
    shown[field] = (text[: ends[low]].rstrip() + "…" + tail) if ends else text + tail
