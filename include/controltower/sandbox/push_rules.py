"""What FCM's HTTP v1 API refuses, as rules written by hand.

Sources: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages (fields),
https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode (codes and limits). Names are accepted in snake_case
and in camelCase, as in proto3's JSON form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

MOST_BYTES = 4096
MOST_BYTES_TOPIC = 2048
LONGEST_TTL = 2_419_200  # four weeks
TARGETS = ("token", "fid", "topic", "condition")
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"

_TEXT, _BOOL, _WHOLE, _NUMBER = "TYPE_STRING", "TYPE_BOOL", "TYPE_INT32", "TYPE_FLOAT"
_DURATION, _MAP, _STRUCT = "duration", "map", "struct"
_PRIORITY = ("NORMAL", "HIGH")
_LABEL = {"analytics_label": _TEXT}
_NOTIFICATION = {"title": _TEXT, "body": _TEXT, "image": _TEXT}
_COLOR = dict.fromkeys(("red", "green", "blue", "alpha"), _NUMBER)
_ANDROID_NOTIFICATION: dict[str, Any] = _NOTIFICATION | {
    **dict.fromkeys(("icon", "color", "sound", "tag", "click_action", "body_loc_key", "title_loc_key"), _TEXT),
    **dict.fromkeys(("channel_id", "ticker", "event_time"), _TEXT),
    **dict.fromkeys(("sticky", "local_only", "default_sound", "default_vibrate_timings"), _BOOL),
    **dict.fromkeys(("default_light_settings", "bypass_proxy_notification"), _BOOL),
    "body_loc_args": [_TEXT],
    "title_loc_args": [_TEXT],
    "vibrate_timings": [_DURATION],
    "notification_count": _WHOLE,
    "notification_priority": tuple(f"PRIORITY_{p}" for p in ("UNSPECIFIED", "MIN", "LOW", "DEFAULT", "HIGH", "MAX")),
    "visibility": ("VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"),
    "proxy": ("PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"),
    "light_settings": {"color": _COLOR, "light_on_duration": _DURATION, "light_off_duration": _DURATION},
}
_REQUEST: dict[str, Any] = {
    "validate_only": _BOOL,
    "message": {
        **dict.fromkeys(("name", *TARGETS), _TEXT),
        "data": _MAP,
        "notification": _NOTIFICATION,
        "fcm_options": _LABEL,
        "android": {
            **dict.fromkeys(("collapse_key", "restricted_package_name"), _TEXT),
            **dict.fromkeys(("direct_boot_ok", "bandwidth_constrained_ok", "restricted_satellite_ok"), _BOOL),
            "priority": _PRIORITY,
            "ttl": _DURATION,
            "data": _MAP,
            "notification": _ANDROID_NOTIFICATION,
            "fcm_options": _LABEL,
        },
        "webpush": {
            "headers": _MAP,
            "data": _MAP,
            "notification": _STRUCT,
            "fcm_options": _LABEL | {"link": _TEXT},
        },
        "apns": {
            "headers": _MAP,
            "payload": _STRUCT,
            "live_activity_token": _TEXT,
            "fcm_options": _LABEL | {"image": _TEXT},
        },
    },
}


class Refusal(NamedTuple):
    """An answer of google.rpc.Status form."""

    code: int
    status: str
    message: str
    details: list[dict[str, Any]]

    def body(self) -> dict[str, Any]:
        error = {"code": self.code, "message": self.message, "status": self.status}
        return {"error": error | ({"details": self.details} if self.details else {})}


def check(body: Any) -> Refusal | dict[str, Any]:
    """The refusal of a messages:send body, or the body with its names in snake_case."""
    if not isinstance(body, dict):
        return invalid("Invalid JSON payload received. Expected an object.")
    faults: list[tuple[str, str]] = []
    request = _read(body, _REQUEST, "", faults)
    if faults:
        return Refusal(400, "INVALID_ARGUMENT", "\n".join(text for _, text in faults), [_violations(faults)])
    for field, text in _message(request.get("message") or {}):
        return invalid(text, field)
    return _unregistered(request["message"]) or request


def normalised(body: dict[str, Any]) -> dict[str, Any]:
    """An accepted body with its names in snake_case."""
    return _read(body, _REQUEST, "", [])


def invalid(text: str, field: str | None = None) -> Refusal:
    """400 INVALID_ARGUMENT, with the field where it is known."""
    details = [{"@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}]
    return Refusal(
        400, "INVALID_ARGUMENT", text, ([_violations([(field, text)])] if field is not None else []) + details
    )


def _violations(faults: list[tuple[str, str]]) -> dict[str, Any]:
    return {"@type": BAD_REQUEST, "fieldViolations": [{"field": f, "description": t} for f, t in faults]}


def _read(given: dict[str, Any], spec: dict[str, Any], path: str, faults: list[tuple[str, str]]) -> dict[str, Any]:
    """A message in proto3's JSON form: unknown names and wrong types go to `faults` as (field, text)."""
    known = spec | {re.sub("_([a-z])", lambda m: m[1].upper(), name): kind for name, kind in spec.items()}
    read: dict[str, Any] = {}
    for name, value in given.items():
        at = f"{path}.{name}" if path else name
        if name not in known:
            where = f" at '{path}'" if path else ""
            faults.append((path, f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'))
        elif value is not None:
            read[re.sub("([A-Z])", r"_\1", name).lower()] = _value(value, known[name], at, faults)
    return read


def _value(value: Any, kind: Any, at: str, faults: list[tuple[str, str]]) -> Any:
    if isinstance(kind, dict):
        if isinstance(value, dict):
            return _read(value, kind, at, faults)
        faults.append((at, f"Invalid value at '{at}', {json.dumps(value)}"))
    elif isinstance(kind, list):
        if isinstance(value, list):
            return [_value(v, kind[0], f"{at}[{i}]", faults) for i, v in enumerate(value)]
        faults.append((at, f"Invalid value at '{at}', {json.dumps(value)}"))
    elif isinstance(kind, tuple):
        if not isinstance(value, str) or value.upper() not in kind:
            faults.append((at, f"Invalid value at '{at}' (TYPE_ENUM), {json.dumps(value)}"))
    elif kind == _STRUCT:
        if not isinstance(value, dict):
            faults.append((at, f"Invalid value at '{at}' (type.googleapis.com/google.protobuf.Struct)"))
    elif kind == _MAP:
        if not isinstance(value, dict):
            faults.append((at, f"Invalid value at '{at}', {json.dumps(value)}"))
        else:
            for i, v in enumerate(value.values()):
                _value(v, _TEXT, f"{at}[{i}].value", faults)
    elif kind == _DURATION:
        if not isinstance(value, str) or not re.fullmatch(r"-?\d+(\.\d{1,9})?s", value):
            name = at.rpartition(".")[2]
            reason = f"Field '{name}', Illegal duration format; duration must end with 's'"
            faults.append((at, f"Invalid value at '{at}' (type.googleapis.com/google.protobuf.Duration), {reason}"))
    elif not _is(value, kind):
        faults.append((at, f"Invalid value at '{at}' ({kind}), {json.dumps(value)}"))
    return value


def _is(value: Any, kind: str) -> bool:
    if kind in (_WHOLE, _NUMBER):
        return isinstance(value, int if kind == _WHOLE else (int, float)) and not isinstance(value, bool)
    return isinstance(value, str if kind == _TEXT else bool)


def _message(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a message of the right form, as (field, text)."""
    targets = [t for t in TARGETS if message.get(t)]
    if not targets:
        yield "message", "Recipient of the message is not set."
        return
    if len(targets) > 1:
        yield (
            "message",
            f"Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set '{targets[1]}'",
        )
        return
    yield from _target(message, targets[0])
    android = message.get("android") or {}
    yield from _reserved(message.get("data") or {}, "message.data")
    yield from _reserved(android.get("data") or {}, "message.android.data")
    if "ttl" in android and not 0 <= float(android["ttl"][:-1]) <= LONGEST_TTL:
        yield "message.android.ttl", f"TTL must be between 0 and {LONGEST_TTL} seconds."
    for part in (message, android, message.get("apns") or {}, message.get("webpush") or {}):
        label = (part.get("fcm_options") or {}).get("analytics_label")
        if label is not None and not re.fullmatch(r"[a-zA-Z0-9\-_.~%]{1,50}", label):
            yield "message.fcm_options.analytics_label", "Invalid analytics label."
    yield from _sizes(message, targets[0])


def _target(message: dict[str, Any], target: str) -> Iterator[tuple[str, str]]:
    value = message[target]
    if target in ("token", "fid") and not re.fullmatch(r"[!-~]{1,4096}", value):
        yield f"message.{target}", "The registration token is not a valid FCM registration token"
    if target == "topic" and not re.fullmatch(r"[a-zA-Z0-9\-_.~%]{1,900}", value):
        yield "message.topic", "Invalid topic name. Topic name must match [a-zA-Z0-9-_.~%]+, without /topics/."
    if target == "condition" and not re.search(r"'[a-zA-Z0-9\-_.~%]+' in topics", value):
        yield "message.condition", "Invalid condition expression."


def _reserved(data: dict[str, str], path: str) -> Iterator[tuple[str, str]]:
    for key in data:
        if not key or key in ("from", "message_type") or key.startswith(("google", "gcm")):
            yield path, f"Invalid data payload key: {key}"


def _sizes(message: dict[str, Any], target: str) -> Iterator[tuple[str, str]]:
    most = MOST_BYTES_TOPIC if target in ("topic", "condition") else MOST_BYTES
    android, apns = message.get("android") or {}, message.get("apns") or {}
    data = (message.get("data") or {}) | (android.get("data") or {})
    shown = (message.get("notification") or {}) | (android.get("notification") or {})
    if _bytes(data) + _bytes(shown) > most:
        yield "message", "Android message is too big"
    payload = len(json.dumps(apns["payload"], ensure_ascii=False).encode()) if "payload" in apns else 0
    if payload + _bytes(message.get("data") or {}) > most:
        yield "message.apns", "APNS message is too big"
    webpush = message.get("webpush") or {}
    if _bytes(webpush.get("data") or {}) + _bytes(webpush.get("notification") or {}) > most:
        yield "message.webpush", "Web push message is too big"


def _bytes(part: dict[str, Any]) -> int:
    """Keys and values, as the limit counts them."""
    return sum(len(k.encode()) + len((v if isinstance(v, str) else json.dumps(v)).encode()) for k, v in part.items())


def _unregistered(message: dict[str, Any]) -> Refusal | None:
    """A token that begins with `unregistered-` stands for an app that was removed."""
    if not (message.get("token") or message.get("fid") or "").startswith("unregistered-"):
        return None
    details = [{"@type": FCM_ERROR, "errorCode": "UNREGISTERED"}]
    return Refusal(404, "NOT_FOUND", "Requested entity was not found.", details)
