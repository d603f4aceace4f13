"""What a customer sees of a stored request: the mail with its substitutions applied, or the push notification.

Substitutions: https://www.twilio.com/docs/sendgrid/for-developers/sending-email/substitution-tags
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

from controltower.sandbox import push_rules
from controltower.sandbox.store import Entry


@dataclass(frozen=True)
class Mail:
    """One personalization as its recipients get it. Addresses are as `Name <email>`."""

    sender: str
    reply_to: str
    to: str
    cc: str
    bcc: str
    subject: str
    html: str
    text: str
    headers: dict[str, str]
    categories: list[str]
    custom_args: dict[str, str]
    send_at: int | None
    batch_id: str | None
    attachments: list[dict[str, str]]
    others: int = 0

    @cached_property
    def links(self) -> list[tuple[str, str]]:
        """Words and address of each web link, in the mail's order, once each."""
        return _links(self.html)


@dataclass(frozen=True)
class Push:
    """One FCM message; `target` is what it was sent to: token, fid, topic or condition."""

    target: str
    recipient: str
    title: str
    body: str
    image: str
    link: str
    data: dict[str, str]
    options: dict[str, str]

    @property
    def opens(self) -> str:
        """The link where a browser can open it; empty for an app's own scheme, and for scripts."""
        return self.link if re.match("https?://", self.link) else ""


def entries(mail: dict[str, Any]) -> list[Entry]:
    """One entry per personalization of an accepted mail/send body."""
    found = []
    for i, one in enumerate(mail["personalizations"]):
        arguments = _merged("custom_args", mail, one)
        recipient = ", ".join(sorted(r["email"].lower() for r in one["to"]))
        subject = _fill(one.get("subject") or mail.get("subject", ""), mail, one)
        found.append(Entry(i, arguments.get("message_id"), recipient, subject, one.get("send_at", mail.get("send_at"))))
    return found


def mail_as_received(mail: dict[str, Any], position: int) -> Mail:
    """Personalization `position` of an accepted mail/send body, merged with what all share."""
    one = mail["personalizations"][position]
    body = {block["type"].lower(): _fill(block["value"], mail, one) for block in mail["content"]}
    replies = mail.get("reply_to_list") or ([mail["reply_to"]] if "reply_to" in mail else [])
    return Mail(
        sender=_addresses([one.get("from", mail["from"])]),
        reply_to=_fill(_addresses(replies), mail, one),
        to=_addresses(one["to"]),
        cc=_addresses(one.get("cc") or []),
        bcc=_addresses(one.get("bcc") or []),
        subject=_fill(one.get("subject") or mail.get("subject", ""), mail, one),
        html=body.get("text/html", ""),
        text=body.get("text/plain", ""),
        headers=_merged("headers", mail, one),
        categories=mail.get("categories") or [],
        custom_args=_merged("custom_args", mail, one),
        send_at=one.get("send_at", mail.get("send_at")),
        batch_id=mail.get("batch_id"),
        attachments=[_attachment(a) for a in mail.get("attachments", [])],
        others=len(mail["personalizations"]) - 1,
    )


def one_of(mail: dict[str, Any], position: int) -> dict[str, Any]:
    """The request as if it had held this personalization only; attachments are cut short."""
    shown = mail | {"personalizations": [mail["personalizations"][position]]}
    if "attachments" in mail:
        shown["attachments"] = [a | {"content": a["content"][:40] + "…"} for a in mail["attachments"]]
    return shown


def push_as_received(request: dict[str, Any]) -> Push:
    """An accepted messages:send body, as an Android device shows it."""
    message = push_rules.normalised(request)["message"]
    android = message.get("android") or {}
    notification = (message.get("notification") or {}) | (android.get("notification") or {})
    data = (message.get("data") or {}) | (android.get("data") or {})
    target = next(t for t in ("token", "fid", "topic", "condition") if message.get(t))
    webpush = (message.get("webpush") or {}).get("fcm_options") or {}
    options = {
        "Priority": android.get("priority"),
        "TTL": android.get("ttl"),
        "Collapse key": android.get("collapse_key"),
        "Channel": notification.get("channel_id"),
        "Click action": notification.get("click_action"),
        "Analytics label": (message.get("fcm_options") or {}).get("analytics_label"),
    }
    return Push(
        target=target,
        recipient=message[target],
        title=notification.get("title") or "",
        body=notification.get("body") or "",
        image=notification.get("image") or "",
        link=webpush.get("link") or data.get("url") or data.get("link") or "",
        data=data,
        options={k: str(v) for k, v in options.items() if v},
    )


def push_entry(request: dict[str, Any]) -> Entry:
    push = push_as_received(request)
    return Entry(0, push.data.get("message_id"), push.recipient, push.title or push.body)


def shown_offline(page: str) -> str:
    """The mail's HTML with a drawn placeholder for each remote picture, since nothing here calls out."""
    return _REMOTE_IMAGE.sub(lambda m: m[1] + m[2] + _placeholder(m[3]) + m[2], page)


def shown_in_tabs(page: str) -> str:
    """The mail's HTML whose links open in a tab of their own, as a web mail program shows it."""
    return _HEAD.sub(lambda m: m[0] + '<base target="_blank">', page, count=1)


def _merged(name: str, mail: dict[str, Any], one: dict[str, Any]) -> dict[str, str]:
    """What all personalizations share, overridden by this one's own."""
    return (mail.get(name) or {}) | (one.get(name) or {})


def _fill(text: str, mail: dict[str, Any], one: dict[str, Any]) -> str:
    """Tags replaced in place, as given: substitutions, then sections, which may hold tags in turn."""
    substitutions, sections = one.get("substitutions") or {}, mail.get("sections") or {}
    text = _replace(text, substitutions)
    return _replace(_replace(text, sections), substitutions) if sections else text


def _replace(text: str, values: dict[str, str]) -> str:
    tags = sorted((tag for tag in values if tag and tag in text), key=len, reverse=True)  # the longest tag wins
    if not tags:
        return text
    return re.sub("|".join(map(re.escape, tags)), lambda m: values[m[0]], text)


def _addresses(given: list[dict[str, str]]) -> str:
    return ", ".join(f"{a['name']} <{a['email']}>" if a.get("name") else a["email"] for a in given)


def _attachment(given: dict[str, str]) -> dict[str, str]:
    size = len(given["content"]) * 3 // 4
    return {"filename": given["filename"], "type": given.get("type", ""), "size": f"{size:,} bytes"}


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._href = ""
        self._picture = ""
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            self._href, self._words = values.get("href") or "", []
            self._picture = ""
        elif tag == "img" and self._href:
            self._picture = values.get("alt") or ""

    def handle_data(self, data: str) -> None:
        if self._href:
            self._words.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._href:
            self.found.append((" ".join(" ".join(self._words).split()) or self._picture, self._href))
            self._href = ""


def _links(page: str) -> list[tuple[str, str]]:
    parser = _Links()
    parser.feed(page)
    return list(dict.fromkeys((words, url) for words, url in parser.found if re.match("https?://", url)))


_HEAD = re.compile(
    r"(<!doctype[^>]*>\s*)?(<html\b[^>]*>\s*)?(<head\b[^>]*>)?", re.IGNORECASE
)  # what a page may begin with
_REMOTE_IMAGE = re.compile(r"""(<img\b[^>]*?\ssrc\s*=\s*)(["'])(https?://[^"'<>]*)\2""", re.IGNORECASE)


def _placeholder(url: str) -> str:
    """A picture drawn from the address, so that each product keeps its own."""
    hue = sum(map(ord, html.unescape(url))) * 37 % 360
    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 120" preserveAspectRatio="xMidYMid slice">'
        f'<rect width="120" height="120" fill="hsl({hue},38%,88%)"/>'
        f'<circle cx="42" cy="44" r="11" fill="hsl({hue},42%,74%)"/>'
        f'<path d="M12 104 52 58l22 24 14-14 22 36z" fill="hsl({hue},38%,64%)"/></svg>'
    )
    return "data:image/svg+xml," + quote(drawing)


def parse(body: bytes) -> dict[str, Any]:
    """A stored request's JSON."""
    parsed: dict[str, Any] = json.loads(body)
    return parsed
