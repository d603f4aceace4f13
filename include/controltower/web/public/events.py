"""What the shop's systems post of behaviour. Guard: an API key, as bearer token or, as Segment does, as user name."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from controltower import clock
from controltower.data.sources import event_forms
from controltower.ledger import event_bodies
from controltower.ledger.database import begin
from controltower.settings import Settings
from controltower.web.public import bodies
from controltower.web.public.page import HEADERS
from controltower.web.public.together import Together

LARGEST_BODY: Final = 1_000_000  # bytes; Segment's own batches have at most half of it


def router(settings: Settings) -> APIRouter:
    routes = APIRouter()

    def store_all(some: Sequence[bytes]) -> list[bool]:
        with begin(settings) as ledger:
            return event_bodies.store(ledger, some, clock.now(settings))

    together = Together(store_all)

    @routes.post("/v1/events")
    async def events(request: Request) -> Response:
        check_api_key(settings, request)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, "compressed")
        body = await bodies.read(request, LARGEST_BODY)
        try:
            found = sum(1 for _ in event_forms.rows(body, clock.now(settings)))
        except ValueError:  # orjson's error is one
            raise HTTPException(400, "unknown_form") from None
        return JSONResponse({"body": await together.store(body), "events": found}, 202, HEADERS)

    return routes


def check_api_key(settings: Settings, request: Request) -> None:
    """HTTPException 401 without one of the settings' keys; 403 where there are none."""
    if not settings.event_keys:
        raise HTTPException(403, "no_keys")
    kind, _, told = request.headers.get("authorization", "").partition(" ")
    given = told.strip().encode()
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[0]
        except (binascii.Error, ValueError):
            given = b""
    found = [hmac.compare_digest(given, key.encode()) for key in settings.event_keys]
    if kind.lower() not in ("bearer", "basic") or not any(found):
        raise HTTPException(401, "bad_key", {"WWW-Authenticate": "Bearer"})
