"""The public app: what providers, mailbox programs and customers reach. Each route and its guard is in guards.py."""

from __future__ import annotations

import logging
from http import HTTPStatus

import sqlalchemy as sa
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from controltower.content.links import BadToken
from controltower.errors import ControlTowerError
from controltower.ledger.database import check_key, reading
from controltower.settings import Settings
from controltower.web.public import clicks, events, in_app, preferences, recommendations, unsubscribe, view, webhooks
from controltower.web.public.page import HEADERS, PAGES, RETRY, error_page
from controltower.web.public.tokens import OfTest

log = logging.getLogger(__name__)

_BY_STATUS = {404: "not_found", 405: "wrong_method", 413: "too_large", 400: "bad_form", 503: "unavailable"}


def create_app(settings: Settings) -> FastAPI:
    """The app of one home; nothing is opened or written before the first request."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # The first is asked most: routes are tried in this order.
    for part in (recommendations, webhooks, events, clicks, unsubscribe, preferences, view, in_app):
        app.include_router(part.router(settings))

    @app.get("/health")
    def health() -> Response:
        with reading(settings) as ledger:  # first: a new home's key is made with its ledger
            ledger.execute(sa.text("select 1"))
        settings.signing_key()
        return JSONResponse({"ledger": "ok"}, headers=HEADERS)

    @app.get("/style.css")
    def style() -> Response:
        headers = HEADERS | {"Cache-Control": "public, max-age=3600"}
        return Response((PAGES / "style.css").read_bytes(), media_type="text/css", headers=headers)

    def refuse(request: Request, status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
        """A page in the reader's language; to programs, JSON with the same reason."""
        if request.url.path.startswith(("/webhooks/", "/health", "/v1/")):
            return JSONResponse({"error": reason}, status, HEADERS | (headers or {}))
        return error_page(settings, request, status, reason, headers)

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, BadToken):
            try:
                await run_in_threadpool(check_key, settings)  # with another home's, no link is ours
            except (sa.exc.SQLAlchemyError, ControlTowerError, OSError) as e:
                error = e
        match error:
            case HTTPException():
                known = error.detail not in {s.phrase for s in HTTPStatus}
                reason = error.detail if known else _BY_STATUS.get(error.status_code, "not_found")
                return refuse(request, error.status_code, reason, dict(error.headers or {}))
            case OfTest():
                return refuse(request, 200, "test")  # as far as a mailbox program can tell, the link works
            case BadToken():
                return refuse(request, 404, "bad_link")
            case sa.exc.SQLAlchemyError():  # its own text holds the statement's values
                log.error("the ledger failed: %s", type(error).__name__)
            case _:
                log.error("%s", error)
        return refuse(request, 503, "unavailable", RETRY)

    for kind in (HTTPException, OfTest, BadToken, sa.exc.SQLAlchemyError, ControlTowerError, OSError):
        app.add_exception_handler(kind, answer)
    return app
