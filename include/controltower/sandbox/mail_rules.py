"""The documented limits of SendGrid's v3 mail/send, as rules written by hand.

Source: https://www.twilio.com/docs/sendgrid/api-reference/mail-send (body, errors, limitations). Validators made from
the published OpenAPI description miss most of these. Messages and field paths are SendGrid's where its documentation
or its users' bug reports show them. Where the documentation leaves a choice, the stricter reading holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from controltower.sandbox.mail_fields import (
    EXAMPLE,
    HELP,
    Problem,
    check_address,
    check_attachments,
    check_categories,
    check_headers,
    check_names,
    check_send_at,
    check_strings,
    is_text,
    size,
    wrong_type,
)

MOST_RECIPIENTS = 1000
MOST_BYTES = 10_000
_ROOT_FIELDS = frozenset(
    "personalizations from reply_to reply_to_list subject content attachments template_id headers categories "
    "custom_args send_at batch_id asm ip_pool_name mail_settings tracking_settings sections".split()
)
_PERSONALIZATION_FIELDS = frozenset(
    "to from cc bcc subject headers substitutions dynamic_template_data custom_args send_at".split()
)


def check(body: Any, *, now: datetime, known_batch: Callable[[str], bool]) -> list[Problem]:
    """Everything that is wrong with a mail/send body; an empty list means that SendGrid would take it."""
    if not isinstance(body, dict):
        return [wrong_type("object", body, None)]
    return list(_body(body, now, known_batch))


def wants_sandbox_mode(body: dict[str, Any]) -> bool:
    """`mail_settings.sandbox_mode`: check the mail, answer 200, send nothing."""
    return bool(body.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"))


def _body(body: dict[str, Any], now: datetime, known_batch: Callable[[str], bool]) -> Iterator[Problem]:
    yield from check_names(body, _ROOT_FIELDS, None)
    yield from _personalizations(body, now)
    if "from" in body:
        yield from check_address(body["from"], "from", "message.from")
    else:
        yield Problem(
            "The from object must be provided for every email send. It is an object that requires the email parameter, "
            f"but may also contain a name parameter. {EXAMPLE}",
            "from.email",
            HELP + "message.from",
        )
    yield from _reply_to(body)
    yield from _subject(body)
    yield from _content(body)
    yield from check_attachments(body)
    yield from check_headers(body, "")
    yield from check_categories(body)
    yield from check_strings(body, "custom_args", "", "All values of custom arguments object must be strings")
    yield from check_strings(body, "sections", "", "The section values must be strings.")
    yield from check_send_at(body, "", now)
    yield from _batch(body, known_batch)
    yield from _settings(body)
    if body.get("template_id") is not None:
        yield Problem(
            "The sandbox holds no templates: send `content` instead of `template_id`.",
            "template_id",
            HELP + "message.template_id",
        )


def _personalizations(body: dict[str, Any], now: datetime) -> Iterator[Problem]:
    given = body.get("personalizations")
    if given is None or given == []:
        yield Problem(
            "The personalizations field is required and must have at least one personalization.",
            "personalizations",
            HELP + "-Personalizations-Errors",
        )
        return
    if not isinstance(given, list):
        yield wrong_type("array", given, "personalizations")
        return
    if len(given) > MOST_RECIPIENTS:
        yield Problem(
            f"The personalization block is limited to {MOST_RECIPIENTS} personalizations per API request. You have "
            f"provided {len(given)} personalizations. Please consider splitting this into multiple requests and "
            "resending your request.",
            "personalizations",
            HELP + "message.personalizations",
        )
        return
    shared = body.get("custom_args")
    recipients = 0
    for i, one in enumerate(given):
        path = f"personalizations.{i}"
        if not isinstance(one, dict):
            yield wrong_type("object", one, path)
            continue
        recipients += sum(len(one[k]) for k in ("to", "cc", "bcc") if isinstance(one.get(k), list))
        yield from _personalization(one, path, shared if isinstance(shared, dict) else {}, now)
    if recipients > MOST_RECIPIENTS:
        yield Problem(
            f"There is a limit of {MOST_RECIPIENTS} total recipients (to + cc + bcc) per request.",
            "personalizations",
            HELP + "message.recipient-errors",
        )


def _personalization(one: dict[str, Any], path: str, shared: dict[str, Any], now: datetime) -> Iterator[Problem]:
    yield from check_names(one, _PERSONALIZATION_FIELDS, path)
    yield from _recipients(one, path)
    if "from" in one:
        yield from check_address(one["from"], f"{path}.from", "message.from")
    if "subject" in one and not is_text(one["subject"]):
        yield _short_subject(f"{path}.subject")
    yield from check_headers(one, f"{path}.")
    yield from check_send_at(one, f"{path}.", now)
    yield from check_strings(
        one,
        "substitutions",
        f"{path}.",
        "The substitution values must be an object of key/value pairs, where the values are all strings.",
    )
    if isinstance(one.get("substitutions"), dict) and size(one["substitutions"]) > MOST_BYTES:
        yield Problem(
            f"Substitutions are limited to {MOST_BYTES} bytes per personalization block.",
            f"{path}.substitutions",
            HELP + "message.personalizations.substitutions",
        )
    yield from check_strings(one, "custom_args", f"{path}.", "All values of custom arguments object must be strings")
    own = one.get("custom_args")
    if size(shared | (own if isinstance(own, dict) else {})) > MOST_BYTES:
        yield Problem(
            "The combined size of both global and personalization custom arguments may not exceed 10,000 bytes per "
            "personalization.",
            f"{path}.custom_args",
            HELP + "message.personalizations.custom_args",
        )
    if "dynamic_template_data" in one:
        yield Problem(
            "The sandbox holds no templates: send `content` and `substitutions` instead of `dynamic_template_data`.",
            f"{path}.dynamic_template_data",
        )


def _recipients(one: dict[str, Any], path: str) -> Iterator[Problem]:
    if not one.get("to"):
        yield Problem(
            "The to array is required for all personalization objects, and must have at least one email object with a "
            "valid email address.",
            f"{path}.to",
            HELP + "message.personalizations.to",
        )
    seen: set[str] = set()
    doubled = False
    for kind in ("to", "cc", "bcc"):
        given = one.get(kind)
        if given is None:
            continue
        if not isinstance(given, list):
            yield wrong_type("array", given, f"{path}.{kind}", f"message.personalizations.{kind}")
            continue
        if given == [] and kind != "to":
            yield Problem(
                f"The {kind} array, when used, must at least have an email parameter with a valid email address and "
                f"it may also contain a name parameter. {EXAMPLE}",
                f"{path}.{kind}",
                HELP + f"message.personalizations.{kind}",
            )
        for j, recipient in enumerate(given):
            yield from check_address(recipient, f"{path}.{kind}.{j}", f"message.personalizations.{kind}", named=True)
            email = recipient.get("email") if isinstance(recipient, dict) else None
            if not isinstance(email, str):
                continue
            if email.lower() in seen and not doubled:
                doubled = True
                yield Problem(
                    "Each email address in the personalization block should be unique between to, cc, and bcc. We "
                    f"found the first duplicate instance of [{email}] in the {path}.{kind} field.",
                    path,
                    HELP + "message.recipient-errors",
                )
            seen.add(email.lower())


def _reply_to(body: dict[str, Any]) -> Iterator[Problem]:
    if "reply_to" in body:
        yield from check_address(body["reply_to"], "reply_to", "message.reply_to")
    many = body.get("reply_to_list")
    if many is None:
        return
    if "reply_to" in body:
        yield Problem("Use either reply_to or reply_to_list, not both.", "reply_to_list", HELP + "message.reply_to")
    if not isinstance(many, list):
        yield wrong_type("array", many, "reply_to_list")
        return
    if len(many) > MOST_RECIPIENTS:
        yield Problem(f"There is a limit of {MOST_RECIPIENTS} reply-to addresses.", "reply_to_list")
    for i, one in enumerate(many):
        yield from check_address(one, f"reply_to_list.{i}", "message.reply_to")


def _subject(body: dict[str, Any]) -> Iterator[Problem]:
    if "subject" in body:
        if not is_text(body["subject"]):
            yield _short_subject("subject")
        return
    given = body.get("personalizations")
    if not isinstance(given, list) or not all(isinstance(p, dict) and p.get("subject") for p in given):
        yield Problem(
            "The subject is required. You can get around this requirement if you use a template with a subject defined "
            "or if every personalization has a subject defined.",
            "subject",
            HELP + "message.subject",
        )


def _short_subject(path: str) -> Problem:
    return Problem(
        "The subject of your email must be a string at least one character in length.", path, HELP + "message.subject"
    )


def _content(body: dict[str, Any]) -> Iterator[Problem]:
    given = body.get("content")
    if given is None or given == []:
        yield Problem(
            "Unless a valid template_id is provided, the content parameter is required. There must be at least one "
            "defined content block. We typically suggest both text/plain and text/html blocks are included, but only "
            "one block is required.",
            "content",
            HELP + "message.content",
        )
        return
    if not isinstance(given, list):
        yield wrong_type("array", given, "content", "message.content")
        return
    kinds: list[str] = []
    for i, block in enumerate(given):
        if not isinstance(block, dict):
            yield wrong_type("object", block, f"content.{i}", "message.content")
            continue
        yield from check_names(block, frozenset({"type", "value"}), f"content.{i}")
        kind = block.get("type")
        if not isinstance(kind, str) or not kind:
            yield Problem(
                "Your content type must be a string with length of at least one character.",
                f"content.{i}.type",
                HELP + "message.content.type",
            )
        elif re.search(r"[;\r\n]", kind):
            yield Problem("Cannot contain ';', or CRLF characters.", f"content.{i}.type", HELP + "message.content.type")
        else:
            kinds.append(kind.lower())
        if not is_text(block.get("value")):
            yield Problem(
                "The content value must be a string at least one character in length.",
                f"content.{i}.value",
                HELP + "message.content.value",
            )
    yield from _order(kinds)


def _order(kinds: list[str]) -> Iterator[Problem]:
    if kinds.count("text/plain") > 1 or kinds.count("text/html") > 1:
        yield Problem(
            "If present, text/plain and text/html may only be provided once.", "content", HELP + "message.content"
        )
    ranks = [{"text/plain": 0, "text/x-amp-html": 1, "text/html": 2}.get(k, 3) for k in kinds]
    if ranks != sorted(ranks):
        yield Problem(
            "Following RFC 1341, section 7.2, if either text/html or text/plain are to be sent in your email: "
            "text/plain needs to be first, followed by text/html, followed by any other content.",
            "content",
            HELP + "message.content",
        )


def _batch(body: dict[str, Any], known_batch: Callable[[str], bool]) -> Iterator[Problem]:
    given = body.get("batch_id")
    if given is None:
        return
    if not isinstance(given, str):
        yield Problem("The batch_id must be a string.", "batch_id", HELP + "message.batch_id")
    elif not known_batch(given):
        yield Problem("invalid batch id", "batch_id", HELP + "message.batch_id")


def _settings(body: dict[str, Any]) -> Iterator[Problem]:
    asm = body.get("asm")
    if asm is not None:
        groups = asm.get("groups_to_display", []) if isinstance(asm, dict) else []
        if not isinstance(asm, dict) or not _whole(asm.get("group_id")):
            yield Problem("The ASM group ID must be an integer.", "asm.group_id", HELP + "message.asm.group_id")
        elif not isinstance(groups, list) or not all(_whole(g) for g in groups):
            yield Problem(
                "The ASM Group IDs to display must be an array of integers.",
                "asm.groups_to_display",
                HELP + "message.asm.groups_to_display",
            )
        elif len(groups) > 25:
            yield Problem(
                "There is a limit of 25 unsubscribe groups that can be displayed to a user at a time.",
                "asm.groups_to_display",
                HELP + "message.asm.groups_to_display",
            )
    if not isinstance(body.get("ip_pool_name", ""), str):
        yield Problem("The name of your IP pool must be a string.", "ip_pool_name", HELP + "message.ip_pool_name")
    for group in ("mail_settings", "tracking_settings"):
        given = body.get(group, {})
        if not isinstance(given, dict):
            yield wrong_type("object", given, group)
            continue
        for name, setting in given.items():
            if not isinstance(setting, dict):
                yield wrong_type("object", setting, f"{group}.{name}")
            elif not isinstance(setting.get("enable", False), bool):
                words = name.replace("_", " ")
                path = f"{group}.{name}.enable"
                yield Problem(f"The {words} enable param should be a boolean value.", path, f"{HELP}message.{path}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
