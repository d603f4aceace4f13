"""The rules of single mail/send fields: addresses, headers, categories, attachments, string maps, send_at.

A `path` ends with a dot where it is a prefix: "" for the root, "personalizations.0." for a personalization.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

HELP = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#"
EXAMPLE = 'e.g. {"email": "example@example.com"} or {"email": "example@example.com", "name": "Example Recipient"}.'
MOST_CATEGORIES = 10
FURTHEST_AHEAD = 72 * 3600
RESERVED_HEADERS = frozenset(
    "x-sg-id x-sg-eid received dkim-signature content-type content-transfer-encoding "
    "to from subject reply-to cc bcc".split()
)
_ADDRESS = re.compile(
    r"(?=.{3,254}\Z)(?=[^@]{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]\Z"
)
BREAK = re.compile(r"[\r\n]")


class Problem(NamedTuple):
    """One entry of SendGrid's `errors` list."""

    message: str
    field: str | None = None
    help: str | None = None


def check_address(given: Any, path: str, topic: str, *, named: bool = False) -> Iterator[Problem]:
    if not isinstance(given, dict):
        yield wrong_type("object", given, path, topic)
        return
    yield from check_names(given, frozenset({"email", "name"}), path)
    email, name = given.get("email"), given.get("name")
    if not isinstance(email, str) or not email:
        yield Problem(
            f"The email parameter is required and must be a valid email address. {EXAMPLE}",
            f"{path}.email",
            HELP + topic,
        )
    elif not _ADDRESS.match(email):
        yield Problem("Does not contain a valid address.", f"{path}.email", HELP + topic)
    if name is None:
        return
    if not isinstance(name, str):
        yield wrong_type("string", name, f"{path}.name", topic)
    elif BREAK.search(name):
        yield Problem("The name cannot contain CRLF characters.", f"{path}.name", HELP + topic)
    elif named and re.search("[;,]", name) and not (name.startswith('"') and name.endswith('"')):
        yield Problem(
            "The name of a recipient cannot include either the ; or , characters.", f"{path}.name", HELP + topic
        )


def check_headers(part: dict[str, Any], path: str) -> Iterator[Problem]:
    headers = part.get("headers")
    if headers is None:
        return
    field, topic = f"{path}headers", "message.headers" if not path else "message.personalizations.headers"
    if not isinstance(headers, dict):
        yield wrong_type("object", headers, field, topic)
        return
    seen: set[str] = set()
    for name, value in headers.items():
        if not name.isascii() or not name or re.search(r"[\s:]", name):
            yield Problem("Header keys cannot contain non-ASCII characters or empty spaces.", field, HELP + topic)
        elif name.lower() in RESERVED_HEADERS:
            yield Problem(f"Header cannot be one of the reserved keys. You provided {name}.", field, HELP + topic)
        if name.lower() in seen:
            yield Problem("The headers cannot contain duplicate keys.", field, HELP + topic)
        seen.add(name.lower())
        if not isinstance(value, str):
            yield Problem("The header values must be strings.", field, HELP + topic)
        elif BREAK.search(value):
            yield Problem("The header values cannot contain CRLF characters.", field, HELP + topic)


def check_send_at(part: dict[str, Any], path: str, now: datetime) -> Iterator[Problem]:
    given = part.get("send_at")
    if given is None:
        return
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        yield Problem(
            "The send_at parameter is expecting a Unix timestamp as an integer. We will send immediately if you "
            "include a send_at timestamp that is in the past.",
            f"{path}send_at",
            HELP + "message.send_at",
        )
    elif given > now.timestamp() + FURTHEST_AHEAD:
        yield Problem(
            "Scheduling more than 72 hours in advance is forbidden.", f"{path}send_at", HELP + "message.send_at"
        )


def check_strings(part: dict[str, Any], name: str, path: str, message: str) -> Iterator[Problem]:
    given = part.get(name)
    if given is None:
        return
    topic = HELP + ("message.personalizations." if path else "message.") + name
    if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
        yield Problem(message, f"{path}{name}", topic)


def check_attachments(body: dict[str, Any]) -> Iterator[Problem]:
    given = body.get("attachments", [])
    if not isinstance(given, list):
        yield wrong_type("array", given, "attachments")
        return
    for i, one in enumerate(given):
        path = f"attachments.{i}"
        if not isinstance(one, dict):
            yield wrong_type("object", one, path)
            continue
        if not is_text(one.get("content")):
            yield Problem(
                "The attachment content must be a string at least one character in length.",
                f"{path}.content",
                HELP + "message.attachments.content",
            )
        elif not _is_base64(one["content"]):
            yield Problem(
                "The attachment content must be base64 encoded.",
                f"{path}.content",
                HELP + "message.attachments.content",
            )
        if not is_text(one.get("filename")):
            yield Problem("filename is required.", f"{path}.filename", HELP + "message.attachments.filename")
        elif BREAK.search(one["filename"]):
            yield Problem(
                "The filename of your attachment cannot contain CRLF characters.",
                f"{path}.filename",
                HELP + "message.attachments.filename",
            )
        kind = one.get("type", "text/plain")
        if not is_text(kind) or re.search(r"[;\r\n]", kind):
            yield Problem(
                "The type cannot contain ';', or CRLF characters.", f"{path}.type", HELP + "message.attachments.type"
            )
        where = one.get("disposition", "attachment")
        if where not in ("inline", "attachment"):
            yield Problem(
                'The disposition of your attachment can be either "inline" or "attachment". '
                f"You provided {json.dumps(where)}.",
                f"{path}.disposition",
                HELP + "message.attachments.disposition",
            )


def check_categories(body: dict[str, Any]) -> Iterator[Problem]:
    given, topic = body.get("categories"), HELP + "message.categories"
    if given is None:
        return
    if not isinstance(given, list) or not all(isinstance(c, str) for c in given):
        yield Problem("Categories must be an array of strings.", "categories", topic)
        return
    if len(given) > MOST_CATEGORIES:
        yield Problem(
            f"There is a limit of {MOST_CATEGORIES} categories for each email that is sent. You provided {len(given)} "
            "categories.",
            "categories",
            topic,
        )
    for i, name in enumerate(given):
        field = f"categories.{i}"
        if not name or len(name) > 255:
            yield Problem(
                f"Each category must not be longer than 255 characters. {name} exceeds this limit"
                if name
                else "A category must be a string at least one character in length.",
                field,
                topic,
            )
        if not name.isascii():
            yield Problem("Categories can not contain non-ASCII characters.", field, topic)
        if name in given[:i]:
            yield Problem(
                f"The categories must be a unique list, and you have included {name} more than once.", field, topic
            )


def check_names(part: dict[str, Any], known: frozenset[str], path: str | None) -> Iterator[Problem]:
    for name in part.keys() - known:
        yield Problem(f"Additional property {name} is not allowed", path)


def wrong_type(expected: str, given: Any, field: str | None, topic: str | None = None) -> Problem:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    kind = names.get(type(given), "null")
    return Problem(f"Invalid type. Expected: {expected}, given: {kind}.", field, HELP + topic if topic else None)


def is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def size(value: dict[str, Any]) -> int:
    """Bytes as compact JSON; the stricter reading of what the 10,000 bytes count."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
