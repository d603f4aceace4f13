"""What providers post. Guard: the provider's signature over the raw body, which `feedback.intake` checks."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from controltower.feedback import intake
from controltower.settings import Settings
from controltower.web.public import bodies
from controltower.web.public.page import HEADERS
from controltower.web.public.together import Together

log = logging.getLogger(__name__)

_STATUS: Final = {"no_signature": 401, "bad_signature": 401, "stale": 403, "no_keys": 403}


def router(settings: Settings) -> APIRouter:
    routes = APIRouter()
    sendgrids = Together(partial(intake.store, settings, "sendgrid"))

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
