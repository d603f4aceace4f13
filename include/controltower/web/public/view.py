"""A mail as a web page, made again from its frozen decision. Guard: the message's view token.

The page is the campaign's own HTML, so it is shown as a stranger's: no script, no forms, an origin of its own.
"""

from __future__ import annotations

import logging

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from controltower import clock
from controltower.campaigns.composing import catalogue
from controltower.data.lake import Lake
from controltower.errors import BadSpec, ControlTowerError
from controltower.ledger import plans, recipients, runs
from controltower.ledger.database import reading
from controltower.profiles.contacts import contact_of
from controltower.settings import Settings, load_shop
from controltower.web.public.page import HEADERS, RETRY
from controltower.web.public.remade import composer_of
from controltower.web.public.tokens import message_of

log = logging.getLogger(__name__)

_CSP = (
    "default-src 'none'; img-src https: http: data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; sandbox allow-popups allow-popups-to-escape-sandbox"
)


def router(settings: Settings) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v{token}")
    def view(token: str) -> Response:
        message_id = message_of(settings, "view", token)
        return HTMLResponse(render(settings, message_id), headers=HEADERS | {"Content-Security-Policy": _CSP})

    return routes


def render(settings: Settings, message_id: str) -> str:
    """The mail's HTML as of now: its frozen words, variant and picks, with today's name, prices and pictures.

    HTTPException with the reason where it can't be shown: unknown_message, no_page (a push), customer_gone, changed;
    not_now where the shop's data can't be read.
    """
    with reading(settings) as ledger:
        recipient = recipients.find(ledger, message_id)
        if recipient is None:
            raise HTTPException(404, "unknown_message")
        if recipient.channel != "email":
            raise HTTPException(404, "no_page")
        run = runs.known(ledger, recipient.run_id)
        picks = plans.picks(ledger, recipient.run_id, [recipient.customer_id]).get(recipient.customer_id, [])
    shop = load_shop(settings)
    try:
        with Lake(settings).read(clock.now(settings)) as lake:
            contact = contact_of(lake, shop, recipient.customer_id)
            items = catalogue(lake, [pick["product_id"] for pick in picks])
    except Exception as e:  # a damaged file, a full disk: DuckDB has errors of its own, whose text holds paths
        log.error(
            "a mail can't be shown, the lake can't be read: %s",
            e if isinstance(e, ControlTowerError) else type(e).__name__,
        )
        raise HTTPException(503, "not_now", RETRY) from None
    if contact is None:
        raise HTTPException(410, "customer_gone")
    try:
        composer = composer_of(settings, shop, run)
        return composer.email(composer.context(contact, picks, items, message_id), recipient.variant).html
    except BadSpec:  # the template is gone, broken or another one by now
        raise HTTPException(410, "changed") from None
