"""What goes into a message and what comes out of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from controltower.shop import Shop

GMAIL_CLIPS_AT = 102 * 1024  # bytes of HTML; second-hand, see docs: Gmail hides what follows, the footer included


@dataclass(frozen=True)
class Product:
    """A recommended product as the customer is to see it.

    `url` is its own page, None where it has none; `reason` is already worded, None where there is none. Two are equal
    whose catalogue's side is, whatever the reasons: what is cached by product holds for all customers.
    """

    product_id: str
    title: str
    price: Decimal
    currency: str
    url: str | None
    image_url: str | None
    reason: str | None = field(default=None, compare=False)

    def __hash__(self) -> int:  # looked up for each of a mail's products
        return hash(self.product_id)


class Context(NamedTuple):
    """All that a message may say to one customer.

    `customer` holds contract columns (first_name, loyalty_tier, ...); absent ones read as empty. `locale` is the
    customer's own BCP 47 tag, empty where unknown. `click_url` is where the links to the shop begin, which note the
    click and lead on (links.py). `advertisement` asks for Korea's label.
    """

    shop: Shop
    customer: Mapping[str, Any]
    locale: str
    products: tuple[Product, ...]
    message_id: str
    unsubscribe_url: str
    preferences_url: str
    view_url: str
    click_url: str
    advertisement: bool = False


@dataclass(frozen=True)
class Email:
    subject: str
    html: str
    text: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the HTML part."""
        return len(self.html.encode())

    @property
    def clipped(self) -> bool:
        """Whether Gmail would cut the mail off and hide its footer."""
        return self.size > GMAIL_CLIPS_AT


@dataclass(frozen=True, eq=False)
class Layout:
    """What the e-mails of many customers share; each layout equals itself only."""

    subject: str
    html: str
    text: str
    tags: frozenset[str]

    def filled(self, substitutions: Mapping[str, str]) -> tuple[str, str, str]:
        """Subject, HTML and text with everything in its place."""
        subject, html, text = (
            "".join(substitutions[piece] if n % 2 else piece for n, piece in enumerate(pieces))
            for pieces in self._pieces
        )
        return subject, html, text

    @cached_property
    def _pieces(self) -> list[list[str]]:
        """Of each part, its tags and what is between them."""
        tags = re.compile(f"({'|'.join(map(re.escape, self.tags)) or '(?!)'})")
        return [tags.split(part) for part in (self.subject, self.html, self.text)]


class SplitEmail(NamedTuple):
    """One customer's e-mail: a layout, and what goes in the place of each of its tags, escaped as the place needs.

    That is kept as JSON, because most of it was made for other customers: `parts` are the members of one object.
    """

    layout: Layout
    parts: Sequence[bytes]
    headers: dict[str, str]

    @property
    def json(self) -> bytes:
        """The `substitutions` as a JSON object."""
        return b"{%s}" % b",".join(self.parts)

    @property
    def substitutions(self) -> dict[str, str]:
        """What goes in the place of each tag."""
        found: dict[str, str] = orjson.loads(self.json)
        return found

    def whole(self) -> Email:
        """The e-mail with everything in its place."""
        return Email(*self.layout.filled(self.substitutions), self.headers)


@dataclass(frozen=True)
class Push:
    """A push message; every value of `data` is text, as FCM wants it. `url` opens on a tap."""

    title: str
    body: str
    url: str
    image_url: str | None
    data: dict[str, str] = field(default_factory=dict)
