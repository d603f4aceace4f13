"""The links in messages: the click is noted, the browser led on. Guard: the message's token, and a signature over where
the link leads."""

from __future__ import annotations

import logging
import re
import uuid
from contextlib import suppress
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.background import BackgroundTask
from starlette.datastructures import Headers

from controltower import clock
from controltower.content.links import is_test, verify_click
from controltower.errors import ControlTowerError
from controltower.ledger import events
from controltower.ledger.database import begin
from controltower.settings import Settings
from controltower.web.public.page import HEADERS

log = logging.getLogger(__name__)

# What follows links without a person: crawlers, previews of messengers, security scanners of mail servers, tools.
_PROGRAMS: Final = re.compile(
    r"bot\b|bot/|crawl|spider|slurp|preview|prefetch|scan|facebookexternalhit|whatsapp|kakaotalk-scrap|skypeuripreview"
    r"|barracuda|mimecast|proofpoint|symantec|trend ?micro|fireeye|forcepoint|safelinks|googleimageproxy|yahoomailproxy"
    r"|google-safety|microsoft office|ms-office|^curl/|^wget/|^python-requests/|^python-urllib/|^go-http-client/",
    re.IGNORECASE,
)
# Browsers that fetch a page before anybody asked for it say so.
_AHEAD: Final = {
    "purpose": "prefetch", "sec-purpose": "prefetch", "x-purpose": "preview", "x-moz": "prefetch",
}  # fmt: skip


def router(settings: Settings) -> APIRouter:
    routes = APIRouter()
    lost = count(1)

    def note(message_id: str, detail: dict[str, Any], machine: bool) -> None:
        """After the answer: a ledger that is busy or down must not keep the customer from the shop."""
        try:
            now = clock.now(settings)
            with begin(settings) as ledger:
                events.record(
                    ledger,
                    [
                        {"provider": "controltower", "provider_event_id": uuid.uuid4().hex, "message_id": message_id,
                         "event": "clicked", "occurred_at": now, "received_at": now, "detail": detail,
                         "machine": machine}
                    ],
                )  # fmt: skip
        except (SQLAlchemyError, ControlTowerError, OSError) as e:
            log.warning("%d clicks could not be noted so far: %s", next(lost), type(e).__name__)

    @routes.api_route("/c{token}", methods=["GET", "HEAD"])
    async def follow(token: str, request: Request) -> Response:
        click = verify_click(settings.signing_key(), token, request.url.query)
        if is_test(settings.signing_key(), click.message_id):
            return RedirectResponse(with_click_id(click.url, None), 302, HEADERS)
        detail = {"product_id": click.product_id, "position": click.position}
        task = BackgroundTask(note, click.message_id, detail, is_machine(request.method, request.headers))
        return RedirectResponse(with_click_id(click.url, click.message_id), 302, HEADERS, background=task)

    return routes


def with_click_id(url: str, message_id: str | None) -> str:
    """The address with the click's id in its query, by which the shop tells us what came of it; its host in ASCII, as
    headers want it. A test send's click has none: it is to count nowhere.
    """
    parts = urlsplit(url)
    pairs = [pair for pair in parts.query.split("&") if pair and not pair.startswith("click_id=")]
    if message_id:
        pairs.append(f"click_id={message_id}")
    host = parts.netloc
    with suppress(UnicodeError):  # no name of a host, but signed by us: browsers may know better
        host = host.encode("idna").decode()
    return parts._replace(netloc=host, query="&".join(pairs)).geturl()


def is_machine(method: str, headers: Headers) -> bool:
    """Whether a program opened the link, by what it says of itself; one that poses as a browser isn't seen."""
    agent = headers.get("user-agent", "")
    ahead = any(word in headers.get(name, "").lower() for name, word in _AHEAD.items())
    return method == "HEAD" or ahead or not agent or _PROGRAMS.search(agent) is not None
