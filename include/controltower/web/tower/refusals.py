"""What is shown when a page can't be: who isn't logged in, may not, asks for nothing, or met an error of ours."""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from controltower.errors import ControlTowerError
from controltower.web.tower import words
from controltower.web.tower.desk import Busy
from controltower.web.tower.page import Page

BAD_FORM = "bad form"  # the detail of the refusal of a form

log = logging.getLogger(__name__)


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_exception_handler(ControlTowerError, _stop)


class Shown(APIRoute):
    """A route whose unexpected errors become a page with an id.

    Starlette's own way would raise the error again after the page, through Airflow's middleware.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def shown(request: Request) -> Response:
            try:
                return await handle(request)
            except (HTTPException, RequestValidationError, ControlTowerError):
                raise
            except Exception as e:
                return _fail(request, e)

        return shown


def _fail(request: Request, error: Exception) -> Response:
    """A page that says only under which id the log has it; the log has the place, not the values."""
    code = secrets.token_hex(4)
    trace = "".join(traceback.format_tb(error.__traceback__))
    log.error("Tower page failed, %s: %s\n%s", code, type(error).__name__, trace)
    page = Page.of(request)
    return page.error(500, page.t("error.failed"), page.t("error.failed_more", id=code))


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    page, status = Page.of(request), error.status_code
    if status == 401:
        if request.method == "GET":
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{page.airflow}/api/v2/auth/login?next={quote(here, safe='')}", 303)
        return page.error(401, page.t("error.anonymous"), page.t("error.anonymous_more"))
    if error.detail == BAD_FORM:
        return page.error(status, page.t("error.form"), page.t("error.form_more"))
    if status == 403:
        return page.error(403, page.t("error.denied"), page.t("error.denied_more"))
    if status in (404, 405):
        return page.error(status, page.t("error.missing"), page.t("error.missing_more"))
    return page.error(status, page.t("error.bad_request"))


async def _misread(request: Request, error: Exception) -> Response:
    """A parameter that can't be read: in the path it names nothing."""
    assert isinstance(error, RequestValidationError)
    page = Page.of(request)
    if any(e["loc"][0] == "path" for e in error.errors()):
        return page.error(404, page.t("error.missing"), page.t("error.missing_more"))
    return page.error(400, page.t("error.bad_request"))


async def _stop(request: Request, error: Exception) -> Response:
    """What the reader, or whoever runs the shop, can mend."""
    assert isinstance(error, ControlTowerError)
    page = Page.of(request)
    told = f"{type(error).__name__}: {error}"
    why = page.t("run.busy") if isinstance(error, Busy) else words.trouble(told, page.t)
    return page.error(409, page.t("error.stopped"), why)
