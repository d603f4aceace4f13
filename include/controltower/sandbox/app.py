"""The sandbox's app: SendGrid, FCM and the inbox behind one URL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from controltower import clock, settings
from controltower.sandbox import api, asm, inbox, mail, push
from controltower.sandbox.mail_fields import Problem
from controltower.sandbox.push_rules import Refusal
from controltower.sandbox.sandbox import Sandbox
from controltower.sandbox.store import Store


def create_app(
    store: Path,
    api_key: str,
    service_account: dict[str, Any] | None = None,
    *,
    now: Callable[[], datetime] | None = None,
    zone: Callable[[], tzinfo] = lambda: UTC,
    rate: int | None = None,
) -> FastAPI:
    """A sandbox that keeps what it takes in the SQLite file `store`.

    `now` is by default the clock of the home that the environment names; `zone` tells in which zone the pages show
    times; `rate` is how many mail/send requests a minute are taken (None: any number). Without a service account
    every push is refused with 401.
    """
    home = settings.load() if now is None else None
    sandbox = Sandbox(
        store=Store(store),
        api_key=api_key,
        service_account=service_account,
        now=now or (lambda: clock.now(home or settings.load())),
        zone=zone,
        rate=rate,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        sandbox.store.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    for part in (mail, asm, push, api, inbox):
        app.include_router(part.router(sandbox))
    app.add_exception_handler(HTTPException, _unknown)
    return app


async def _unknown(request: Request, error: Exception) -> Response:
    """A wrong path or method, told in the form of whom the caller took us for."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path
    if path.startswith("/v3/"):
        return mail.refuse(status, Problem("POST method allowed only" if status == 405 else "not found"))
    if path.startswith("/v1/"):
        return push.refuse(Refusal(404, "NOT_FOUND", "Requested entity was not found.", []))
    if path.startswith("/api/"):
        return JSONResponse({"error": "There is nothing here."}, status)
    return inbox.not_found(status)
