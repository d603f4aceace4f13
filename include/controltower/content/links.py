"""Links that only we can make: a token names a message and a purpose, and nobody can forge or repurpose it.

A token is base64url of the message's 128 bits and of 80 bits of a MAC, 35 characters. One keyed BLAKE2b (RFC 7693) of
the message gives the MACs of all its purposes, each a part of its own. The address is <public_url>/<letter><token>:
with a base of 40 bytes it stays under the 78 bytes of one mail-header line (RFC 5322), so that no mail server folds it.

A message has one click token for all its links. Where one leads and what it shows follows it, with a signature of its
own: `/c<token>?to=https://shop.example/p1;p=p1;n=2;s=<signature>`. Nobody can make it lead elsewhere, and the part
from the question mark on is the same for every customer, so that it is made once. It holds no sign that HTML escapes:
hence the semicolons.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

from controltower.errors import BadSpec, ControlTowerError
from controltower.shop import UTM_VALUE, Shop

LETTERS: Final = {"unsubscribe": "u", "preferences": "p", "click": "c", "view": "v"}

_MAC_BYTES = 10
_PARTS = {purpose: slice(n * _MAC_BYTES, (n + 1) * _MAC_BYTES) for n, purpose in enumerate(LETTERS)}
_TOKEN_LENGTH = 35  # base64 of 16 + 10 bytes, without padding
_NOT_IN_ADDRESSES = re.compile(r"^\s|[\x00-\x1f\x7f\\]|\s$")
_HEXADECIMAL = re.compile(r"[0-9a-f]{32}")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_TEST = b"controltower.test.1"
_INVALID = "This link is not valid."


class BadToken(ControlTowerError):
    """A link's token was not made by us, for another purpose, or with another key."""


class MessageLinks(NamedTuple):
    """One message's own addresses. `click` is where its links begin: a destination's query follows.

    `unsubscribe` ends all mail of this kind by one POST (RFC 8058), a GET only shows the button; on `preferences` the
    customer chooses channels and purposes; `view` shows the mail as a web page.
    """

    unsubscribe: str
    preferences: str
    view: str
    click: str


_OWN = [_PARTS[purpose] for purpose in MessageLinks._fields]


@dataclass(frozen=True)
class Destinations:
    """Where the links of one variant lead on one channel: to the shop's pages, which learn of it by UTM parameters."""

    key: bytes = field(repr=False)
    utm: tuple[tuple[str, str], ...] = ()

    def query(self, url: str, product_id: str | None = None, position: int | None = None) -> str:
        """What follows a message's click address; `position` counts a message's products from 1.

        The same for every message. BadSpec where `url` is no web address.
        """
        return _query(self.key, self.utm, url, product_id, position)


@dataclass(frozen=True)
class Click:
    """What a click's link says: all of it as we made it."""

    message_id: str
    url: str
    product_id: str | None
    position: int | None


def sign(key: bytes, purpose: str, message_id: str, about: bytes = b"") -> str:
    """The token for one purpose of one message, covering `about` too; `message_id` is a UUID's text, hyphens or not."""
    subject = _subject(message_id)
    if purpose not in LETTERS:
        raise ValueError(f"{purpose!r} is no purpose of a link; known are {', '.join(LETTERS)}")
    return _token(subject, _old_mac(key, purpose, subject + about) if about else _macs(key, subject)[_PARTS[purpose]])


def verify(key: bytes, purpose: str, token: str, about: bytes = b"") -> str:
    """The message_id that the token was made for, as 32 hexadecimal digits; BadToken for anything else."""
    bad = BadToken(_INVALID, "Use the link of the newest message, complete as it was sent.")
    if len(token) != _TOKEN_LENGTH or not token.isascii():
        raise bad
    try:
        raw = base64.b64decode(token + "=", altchars=b"-_", validate=True)
    except binascii.Error:
        raise bad from None
    subject, mac = raw[:16], raw[16:]
    new = not about and hmac.compare_digest(mac, _macs(key, subject)[_PARTS[purpose]])
    if not new and not hmac.compare_digest(mac, _old_mac(key, purpose, subject + about)):
        raise bad
    # The last character has two spare bits: only the spelling that we made counts.
    if _token(subject, mac) != token:
        raise bad
    return subject.hex()


def test_id(key: bytes) -> str:
    """A new id for a test send. It shows by itself that it is no message's: its second half is a signature."""
    drawn = secrets.token_bytes(8)
    return (drawn + _keyed(key, _TEST, drawn)[:8]).hex()


def is_test(key: bytes, message_id: str) -> bool:
    """Whether an id is a test send's. A message's own looks like one once in 2^64."""
    raw = bytes.fromhex(message_id)
    return hmac.compare_digest(raw[8:], _keyed(key, _TEST, raw[:8])[:8])


def of_message(key: bytes, public_url: str, message_id: str) -> MessageLinks:
    """The addresses of one message on the public app."""
    return of_messages(key, public_url, [message_id])[0]


def of_messages(key: bytes, public_url: str, message_ids: Sequence[str]) -> list[MessageLinks]:
    """Each message's addresses on the public app."""
    begins = [f"{public_url.rstrip('/')}/{LETTERS[purpose]}" for purpose in MessageLinks._fields]
    raw: list[bytes] = []
    for subject in map(_subject, message_ids):
        macs = _macs(key, subject)
        for part in _OWN:
            raw += subject, macs[part], b"\0"
    text = _text(b"".join(raw))  # 27 bytes are 36 characters, of which the last is the zero byte's
    tokens = [text[n : n + _TOKEN_LENGTH] for n in range(0, len(text), 36)]
    columns = [[begin + token for token in tokens[n :: len(begins)]] for n, begin in enumerate(begins)]
    return list(map(MessageLinks, *columns))


def utm(shop: Shop, channel: str, campaign: str, variant: str) -> tuple[tuple[str, str], ...]:
    """The UTM parameters by the shop's rule, those with a value."""
    if not shop.utm:
        return ()
    found = shop.utm.model_dump()
    values = {"channel": channel, "campaign": campaign, "variant": variant}
    filled = {name: UTM_VALUE.sub(lambda m: values[m[1]], text) for name, text in found.items()}
    return tuple((f"utm_{name}", value) for name, value in filled.items() if value)


def verify_click(key: bytes, token: str, query: str) -> Click:
    """What a click's link says, by its token and its query as they came; BadToken where any part isn't as we made it.

    What others put behind a link (`&fbclid=...`) does no harm.
    """
    try:
        asked = dict(parse_qsl(query.replace("&", ";"), keep_blank_values=True, max_num_fields=20, separator=";"))
    except ValueError:
        raise BadToken(_INVALID) from None
    if "s" in asked:
        click = Click(verify(key, "click", token), asked.get("to", ""), asked.get("p"), _number(asked.get("n")))
        signature = _signature(key, _destination(click.url, click.product_id, click.position))
        if not hmac.compare_digest(signature.encode(), asked["s"].encode("utf-8", "replace")):
            raise BadToken(_INVALID)
    else:
        click = _old_click(key, token, asked)
    if web_address(click.url) is None:
        raise BadToken("This link leads to no web address.")
    return click


@lru_cache(maxsize=65_536)
def web_address(url: str | None) -> str | None:
    """The address if it is a web page's, else None: a catalogue must not bring in `javascript:`."""
    if not url or _NOT_IN_ADDRESSES.search(url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.hostname else None


def with_parameters(url: str, parameters: tuple[tuple[str, str], ...]) -> str:
    """The address with these in its query; those that it has already stay as they are, and so does all else."""
    page, hash_sign, fragment = url.partition("#")
    path, _, query = page.partition("?")
    there = {pair.partition("=")[0] for pair in query.split("&")}
    added = [f"{quote_plus(name)}={quote_plus(value)}" for name, value in parameters if name not in there]
    if not added:
        return url
    joint = "" if not query or query.endswith("&") else "&"
    return f"{path}?{query}{joint}{'&'.join(added)}{hash_sign}{fragment}"


def _old_click(key: bytes, token: str, asked: dict[str, str]) -> Click:
    """The form of links until November 2026, whose token covered the destination. Mails that were sent keep it."""
    url, product, position = asked.get("to", ""), asked.get("product"), _number(asked.get("position"))
    return Click(verify(key, "click", token, _destination(url, product, position)), url, product, position)


@lru_cache(maxsize=65_536)  # a catalogue's products return in every mail
def _query(key: bytes, utm: tuple[tuple[str, str], ...], url: str, product_id: str | None, position: int | None) -> str:
    url, shown = _leading_to(url, utm)
    if product_id is not None:
        shown += f";p={quote(product_id, safe='')}"
    if position is not None:
        shown += f";n={position}"
    return f"{shown};s={_signature(key, _destination(url, product_id, position))}"


@lru_cache(maxsize=16_384)  # in all places of a mail
def _leading_to(url: str, utm: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """The address with its parameters, and how a query begins that leads there."""
    if web_address(url) is None:
        raise BadSpec(f"{url!r} is no web address.", "A link needs http:// or https:// and a host.")
    url = with_parameters(url, utm)
    return url, f"?to={quote(url, safe=':/?=')}"


def _destination(url: str, product_id: str | None, position: int | None) -> bytes:
    return json.dumps([url, product_id, position]).encode()


def _signature(key: bytes, destination: bytes) -> str:
    return _text(_keyed(key, b"controltower.destination.1", destination))


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise BadToken(_INVALID)
    return int(text)


def _subject(message_id: str) -> bytes:
    """The 16 bytes of a message's id; ValueError for what is none."""
    return bytes.fromhex(message_id) if _HEXADECIMAL.fullmatch(message_id) else uuid.UUID(message_id).bytes


def _token(subject: bytes, mac: bytes) -> str:
    return _text(subject + mac)


def _text(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).rstrip(b"=").translate(_URL_SAFE).decode()


def _macs(key: bytes, subject: bytes) -> bytes:
    """A message's MACs for all purposes."""
    digest = _begun(key).copy()
    digest.update(subject)
    return digest.digest()


@lru_cache(maxsize=64)
def _begun(key: bytes) -> hashlib.blake2b:
    fitting = hashlib.sha256(key).digest()
    return hashlib.blake2b(key=fitting, digest_size=len(LETTERS) * _MAC_BYTES, person=b"link.2")


def _old_mac(key: bytes, purpose: str, subject: bytes) -> bytes:
    """As links had it until November 2026: the mails that were sent keep them."""
    return _keyed(key, b"controltower.link.1\0" + purpose.encode(), subject)


def _keyed(key: bytes, what: bytes, about: bytes) -> bytes:
    """80 bits of HMAC. `what` keeps signatures apart from each other, and from whatever else the home's key signs."""
    return hmac.digest(key, what + b"\0" + about, "sha256")[:_MAC_BYTES]
