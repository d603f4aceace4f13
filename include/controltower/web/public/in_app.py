"""The messages that the shop's app shows. Guard: a customer token, which the shop's backend makes.

They are made again as of now, as a mail's page is. What the customer no longer allows isn't shown, whatever was sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, time
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from controltower import clock
from controltower.campaigns.composing import catalogue
from controltower.campaigns.specs import Window
from controltower.content.customer_tokens import verify_customer
from controltower.content.links import BadToken
from controltower.data.lake import Lake
from controltower.delivery import last_check
from controltower.delivery.policy import Check, Facts
from controltower.errors import BadSpec
from controltower.ledger import consents, events, in_app, plans, recipients, runs, suppressions
from controltower.ledger.database import begin, check_key, reading
from controltower.ledger.in_app import CHANNEL, Available
from controltower.profiles.contacts import contacts
from controltower.settings import Settings, load_shop
from controltower.web.public.page import HEADERS, RETRY
from controltower.web.public.remade import composer_of

log = logging.getLogger(__name__)

_ANY_TIME: Final = Window(start=time.min, end=time.max)  # of the day: the app is open because the customer opened it
_NOBODY: Final[frozenset[str]] = frozenset()


def router(settings: Settings) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/in-app")
    def fetch(request: Request) -> Response:
        customer, now = customer_of(settings, request), clock.now(settings)
        with reading(settings) as ledger:
            there = in_app.available(ledger, customer, now)
        shown = show(settings, there, now) if there else []
        try:
            note(settings, "delivered", [m.message_id for m, _ in shown if "delivered" not in m.events], now)
        except SQLAlchemyError as e:  # a ledger that is busy must not keep the app from showing them
            log.warning("that in-app messages were fetched could not be noted: %s", type(e).__name__)
        return JSONResponse({"messages": [text for _, text in shown]}, headers=HEADERS)

    @routes.post("/v1/in-app/{message_id}/seen")
    def seen(message_id: str, request: Request) -> Response:
        customer = customer_of(settings, request)
        known = re.fullmatch(r"[0-9a-f]{32}", message_id)
        with reading(settings) as ledger:
            recipient = recipients.find(ledger, message_id) if known else None
        if recipient is None or recipient.channel != CHANNEL or customer not in recipient.customers:
            raise HTTPException(404, "unknown_message")
        note(settings, "opened", [message_id], clock.now(settings))
        return Response(status_code=204, headers=HEADERS)

    return routes


def customer_of(settings: Settings, request: Request) -> str:
    """Whom the caller's token speaks for; HTTPException 401 without one that is valid, BadSettings with another key."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        if kind.lower() == "bearer":
            return verify_customer(settings.signing_key(), token.strip(), clock.now(settings))
    except BadToken:
        check_key(settings)  # with another home's, no token is ours
    raise HTTPException(401, "bad_token", {"WWW-Authenticate": "Bearer"})


def show(settings: Settings, there: list[Available], now: datetime) -> list[tuple[Available, dict[str, Any]]]:
    """Those of the messages that may be shown, as apps get them. HTTPException 503 where the lake can't be read."""
    customers = {m.customer_id for m in there}
    with reading(settings) as ledger:
        whose = {run_id: runs.known(ledger, run_id) for run_id in {m.run_id for m in there}}
        chosen = {run_id: plans.picks(ledger, run_id, customers) for run_id in whose}
        unprofiled = {run_id: last_check.unprofiled(ledger, run_id, now, customers) for run_id in whose}
        facts = {
            purpose: Facts(
                granted=consents.granted(ledger, CHANNEL, purpose, now, customers),
                night=consents.granted(ledger, CHANNEL, "night_marketing", now, customers),
                suppressed=suppressions.held(ledger, "customer", CHANNEL, purpose, now, customers),
                suppressed_devices=_NOBODY, capped=_NOBODY,
            )
            for purpose in {run.spec["purpose"] for run in whose.values()}
        }  # fmt: skip
    shop = load_shop(settings)
    picks = {m.message_id: chosen[m.run_id].get(m.customer_id, []) for m in there}
    try:
        with Lake(settings).read(now) as lake:
            who = contacts(lake, shop, customers)
            items = catalogue(lake, {pick["product_id"] for some in picks.values() for pick in some})
    except Exception as e:  # a damaged file, a full disk: DuckDB has errors of its own, whose text holds paths
        log.error("in-app messages can't be shown, the lake can't be read: %s", type(e).__name__)
        raise HTTPException(503, "not_now", RETRY) from None
    shown = []
    for m in there:
        contact, run = who.get(m.customer_id), whose[m.run_id]
        known = replace(facts[run.spec["purpose"]], unprofiled=unprofiled[m.run_id])
        check = Check(CHANNEL, known, now, m.expires_at, _ANY_TIME, None)
        if contact is None or check.refusal(contact):
            continue
        try:
            composer = composer_of(settings, shop, run)
            text = composer.in_app(composer.context(contact, picks[m.message_id], items, m.message_id), m.variant)
        except BadSpec as e:
            log.warning("in-app message %s can't be shown any more: %s", m.message_id, e.what)
            continue
        shown.append((
            m,
            {
                "message_id": m.message_id, "title": text.title, "body": text.body, "url": text.url,
                "image": text.image_url, "expires_at": m.expires_at.isoformat(timespec="seconds"),
                "seen": "opened" in m.events, "data": text.data,
            },
        ))  # fmt: skip
    return shown


def note(settings: Settings, event: str, message_ids: Iterable[str], now: datetime) -> None:
    """Record what the app did with messages, once a message."""
    rows = [
        {"provider": CHANNEL, "provider_event_id": f"{event}:{message_id}", "message_id": message_id, "event": event,
         "occurred_at": now, "received_at": now}
        for message_id in message_ids
    ]  # fmt: skip
    if rows:
        with begin(settings) as ledger:
            events.record(ledger, rows)
