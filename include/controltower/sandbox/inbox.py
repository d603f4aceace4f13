"""The inbox: what the sandbox caught, as the customers would see it. No script, nothing from elsewhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from controltower.sandbox import rendering
from controltower.sandbox.sandbox import Sandbox

PAGE = 50
_PAGES = Path(__file__).parent / "pages"
_CSP = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self' data:",
        "frame-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'self'",
    )
)
# A mail is a stranger's page: sandboxed even when opened by itself, no script, pictures only from within it. Links
# that somebody clicks open a new tab, an ordinary one: else the public app's forms would not work there.
CAGE = "allow-popups allow-popups-to-escape-sandbox"
_MAIL_CSP = (
    f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'self'; "
    f"sandbox {CAGE}"
)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_PAGES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def router(sandbox: Sandbox) -> APIRouter:
    routes = APIRouter(default_response_class=HTMLResponse)
    store = sandbox.store

    def show(message: dict[str, Any]) -> dict[str, Any]:
        """A stored message with its times in the shop's zone."""
        due = message["send_at"]
        received = datetime.fromisoformat(message["received_at"]).astimezone(sandbox.zone())
        scheduled = datetime.fromtimestamp(due, UTC).astimezone(sandbox.zone()) if due else None
        return message | {"received": received, "scheduled": scheduled}

    @routes.get("/")
    def inbox(request: Request) -> Response:
        asked = request.query_params
        text, channel = asked.get("q", "").strip()[:200], asked.get("channel", "")
        channel = channel if channel in ("email", "push") else ""
        page = max(int(asked["page"]), 1) if asked.get("page", "").isdecimal() and len(asked["page"]) < 9 else 1
        found, total = store.find(channel=channel, text=text, limit=PAGE, offset=(page - 1) * PAGE)

        def link(**changes: Any) -> str:
            query = {"q": text, "channel": channel, "page": page} | changes
            return "/?" + urlencode({k: v for k, v in query.items() if v and (k, v) != ("page", 1)})

        return _page(
            "inbox.html",
            messages=[show(m) for m in found],
            summary=store.summary(),
            total=total,
            text=text,
            channel=channel,
            page=page,
            pages=max(-(-total // PAGE), 1),
            link=link,
        )

    @routes.get("/mail/{key}")
    def mail(key: int) -> Response:
        message, request = _message(sandbox, key, "email")
        if message is None:
            return not_found(404)
        received = rendering.mail_as_received(request, message["position"])
        raw = json.dumps(rendering.one_of(request, message["position"]), indent=2, ensure_ascii=False)
        return _page("mail.html", message=show(message), mail=received, raw=raw, cage=CAGE)

    @routes.get("/mail/{key}/html")
    def mail_html(key: int) -> Response:
        message, request = _message(sandbox, key, "email")
        if message is None:
            return not_found(404)
        body = rendering.shown_in_tabs(rendering.mail_as_received(request, message["position"]).html)
        return HTMLResponse(rendering.shown_offline(body), headers=_HEADERS | {"Content-Security-Policy": _MAIL_CSP})

    @routes.get("/push/{key}")
    def push(key: int) -> Response:
        message, request = _message(sandbox, key, "push")
        if message is None:
            return not_found(404)
        raw = json.dumps(request, indent=2, ensure_ascii=False)
        return _page("push.html", message=show(message), push=rendering.push_as_received(request), raw=raw)

    @routes.get("/style.css")
    def style() -> Response:
        return Response((_PAGES / "style.css").read_bytes(), media_type="text/css", headers=_HEADERS)

    return routes


def not_found(status: int) -> Response:
    return _page("missing.html", status)


def _message(sandbox: Sandbox, key: int, channel: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    message = sandbox.store.message(key, channel)
    body = sandbox.store.body(message["request_id"]) if message else None
    if message is None or body is None:
        return None, {}
    request = rendering.parse(body)
    return message, request


def _page(template: str, status: int = 200, /, **values: Any) -> Response:
    page = _templates.get_template(template).render(values)
    return HTMLResponse(page, status, _HEADERS | {"Content-Security-Policy": _CSP})
