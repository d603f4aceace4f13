"""What providers post. Guard: the provider's signature over the raw body, which `feedback.intake` checks."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from controltower.feedback import intake
from controltower.settings import Settings
from controltower.web.public import bodies
from controltower.web.public.page import HEADERS

log = logging.getLogger(__name__)

_STATUS: Final = {"no_signature": 401, "bad_signature": 401, "stale": 403, "no_keys": 403}


def router(settings: Settings) -> APIRouter:
    routes = APIRouter()
    sendgrids = Together(settings, "sendgrid")

    @routes.post("/webhooks/sendgrid")
    async def sendgrid(request: Request) -> Response:
        body = await bodies.read(request, intake.LARGEST_BODY)
        try:
            await run_in_threadpool(intake.verify, settings, "sendgrid", request.headers, body)
        except intake.Refused as refused:
            log.warning("a webhook was refused: %s", refused.reason)
            return JSONResponse({"error": refused.reason}, _STATUS[refused.reason], HEADERS)
        return JSONResponse({"body": await sendgrids.store(body)}, 202, HEADERS)

    return routes


class Together:
    """Stores a provider's bodies; what comes while a transaction is under way shares the next one.

    Each is answered when it is stored, and all of them wait for one commit instead of one after the other's. Used from
    the event loop only.
    """

    def __init__(self, settings: Settings, provider: str) -> None:
        self._settings, self._provider = settings, provider
        self._waiting: list[tuple[bytes, asyncio.Future[str]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def store(self, body: bytes) -> str:
        """As `intake.store` says of it; raises what the ledger raised."""
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, told))
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_all())
        return await told

    async def _store_all(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting, []
            try:
                found = await run_in_threadpool(intake.store, self._settings, self._provider, [b for b, _ in some])
            except Exception as e:
                for _, told in some:
                    if not told.done():
                        told.set_exception(e)
            else:
                for (_, told), how in zip(some, found, strict=True):
                    if not told.done():  # who posted it may have gone
                        told.set_result(how)
        self._storing = None
