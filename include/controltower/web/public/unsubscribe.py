"""One-click unsubscribing (RFC 8058) and its page. Guard: the message's unsubscribe token. GET changes nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from controltower import clock
from controltower.content.links import LETTERS, sign
from controltower.ledger import consents, events, recipients
from controltower.ledger.database import begin, reading
from controltower.ledger.recipients import Recipient
from controltower.settings import Settings
from controltower.web.public import bodies
from controltower.web.public.page import page, reader_of
from controltower.web.public.tokens import message_of

PURPOSE: Final = "marketing"  # what every campaign sends for


def router(settings: Settings) -> APIRouter:
    routes = APIRouter()

    @routes.get("/u{token}")
    def ask(token: str, request: Request) -> Response:
        message_id = message_of(settings, "unsubscribe", token)
        with reading(settings) as ledger:
            recipient = recipients.find(ledger, message_id)
            if recipient is None:
                raise HTTPException(404, "unknown_message")
            said = consents.standing(ledger, recipient.customers, clock.now(settings))
        words = [said.get((c, recipient.channel, PURPOSE)) for c in recipient.customers]
        ended = all(word is not None and not word.granted for word in words)
        since = max((word.since for word in words if word), default=None) if ended else None
        return show(request, recipient, since, asks=not ended)

    @routes.post("/u{token}")
    async def end(token: str, request: Request) -> Response:
        message_id = message_of(settings, "unsubscribe", token)
        await bodies.read(request, bodies.LARGEST_FORM)  # List-Unsubscribe=One-Click; whoever posts here wants the same
        return await run_in_threadpool(withdraw, message_id, request)

    def withdraw(message_id: str, request: Request) -> Response:
        now = clock.now(settings)
        with begin(settings) as ledger:
            recipient = recipients.find(ledger, message_id, lock=True)
            if recipient is None:
                raise HTTPException(404, "unknown_message")
            channel = recipient.channel
            consents.withdraw(
                ledger, recipient.customers, channel, PURPOSE, now, source="unsubscribe", proof=message_id
            )
            note(ledger, message_id, now)
            said = consents.standing(ledger, recipient.customers, now)
        since = max(said[customer, channel, PURPOSE].since for customer in recipient.customers)
        return show(request, recipient, since, asks=False)

    def show(request: Request, recipient: Recipient, since: datetime | None, asks: bool) -> Response:
        choices = LETTERS["preferences"] + sign(settings.signing_key(), "preferences", recipient.message_id)
        return page(
            request, reader_of(settings, recipient, request), "unsubscribe.html",
            channel=recipient.channel, purpose=PURPOSE, since=since, asks=asks, choices=choices,
        )  # fmt: skip

    return routes


def note(ledger: sa.Connection, message_id: str, now: datetime) -> None:
    """Record that a message led to a withdrawal, once a message."""
    events.record(
        ledger,
        [
            {"provider": "controltower", "provider_event_id": f"unsubscribed:{message_id}", "event": "unsubscribed",
             "message_id": message_id, "occurred_at": now, "received_at": now}
        ],
    )  # fmt: skip
