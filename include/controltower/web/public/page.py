"""The customers' pages: no script, nothing from elsewhere, in the reader's language."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import jinja2
from babel.dates import format_date
from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from controltower import clock
from controltower.content.locales import Translate
from controltower.content.money import babel_locale
from controltower.data.lake import Lake
from controltower.errors import ControlTowerError
from controltower.ledger.recipients import Recipient
from controltower.profiles.contacts import Contact, contact_of
from controltower.settings import Settings, load_shop
from controltower.shop import Shop
from controltower.web import languages

log = logging.getLogger(__name__)

PAGES: Final = Path(__file__).parent / "pages"
_LOCALES: Final = Path(__file__).parent / "locales"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
_NOWHERE: Final = ZoneInfo("UTC")  # the zone of a reader of whom nothing is known
RETRY: Final = {"Retry-After": "60"}

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PAGES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Reader:
    """Whom a page is for: in which language and zone they read; `shop` is None where its file can't be read.

    `email` is their address of now, to look up whether it is suppressed; None where there is none or nobody can tell.
    """

    shop: Shop | None
    language: str
    t: Translate
    zone: ZoneInfo
    email: str | None = field(default=None, repr=False)

    def day(self, moment: datetime) -> str:
        """A moment as they read it, with its zone: 15 June 2026, 12:00 (Asia/Seoul)."""
        local = moment.astimezone(self.zone)
        return f"{format_date(local, 'long', locale=babel_locale(self.language))}, {local:%H:%M} ({self.zone.key})"


def reader_of(settings: Settings, recipient: Recipient, request: Request) -> Reader:
    """A message's addressee, by what the lake knows of them; they can read and refuse whatever the state of the lake,
    and of the shop's file: without it the page names no sender and is in the browser's language.
    """
    shop = _shop(settings)
    if shop is None:
        return _reader(None, languages.accepted(request), _NOWHERE)
    contact: Contact | None = None
    try:
        with Lake(settings).read(clock.now(settings)) as lake:
            contact = contact_of(lake, shop, recipient.customer_id)
    except Exception as e:
        log.warning("a page is shown in the shop's language, the lake can't be read: %s", type(e).__name__)
    if contact is None:
        return _reader(shop, (shop.locale,), shop.zone)
    return _reader(shop, (contact.locale, shop.locale), contact.zone, contact.email)


def page(
    request: Request, reader: Reader, template: str, status: int = 200, headers: Mapping[str, str] | None = None,
    /, **values: Any,
) -> Response:  # fmt: skip
    up = "../" * (request.url.path.count("/") - 1)
    shown = {"reader": reader, "t": reader.t, "shop": reader.shop, "style": f"{up}style.css"} | values
    return HTMLResponse(_templates.get_template(template).render(shown), status, {**HEADERS, **(headers or {})})


def error_page(
    settings: Settings, request: Request, status: int, reason: str, headers: Mapping[str, str] | None = None
) -> Response:
    """What went wrong, in the language that the browser asks for."""
    shop = _shop(settings)
    wanted = (*languages.accepted(request), shop.locale if shop else "")
    reader = _reader(shop, wanted, shop.zone if shop else _NOWHERE)
    return page(request, reader, "error.html", status, headers, reason=reason)


def _shop(settings: Settings) -> Shop | None:
    try:
        return load_shop(settings)
    except ControlTowerError as e:
        log.warning("a page is shown without the shop's name: %s", e)
        return None


def _reader(shop: Shop | None, wanted: tuple[str, ...], zone: ZoneInfo, email: str | None = None) -> Reader:
    words = languages.load(_LOCALES)
    chain = words.chain(*wanted)
    return Reader(shop, chain[0], words.translator(chain), zone, email)
