"""SendGrid's part: POST /v3/mail/send, POST and GET /v3/mail/batch.

https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from controltower import clock
from controltower.sandbox import faults, mail_rules, rendering
from controltower.sandbox.mail_fields import Problem
from controltower.sandbox.sandbox import Sandbox, bearer, parse_json, read_body

MOST_BYTES = 30_000_000  # "the total size of your email, including attachments, must be less than 30MB"
RATE_SECONDS = 60
WRONG_KEY = Problem("The provided authorization grant is invalid, expired, or revoked")


def refuse(status: int, *problems: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer with SendGrid's error body."""
    return JSONResponse({"errors": [p._asdict() for p in problems]}, status, headers)


def router(sandbox: Sandbox) -> APIRouter:
    routes = APIRouter()
    window = _Window(sandbox.rate)

    @routes.post("/v3/mail/send")
    async def send(request: Request) -> Response:
        if not has_key(request, sandbox):
            return refuse(401, WRONG_KEY)
        allowed, limits = window.take(clock.wall())
        if not allowed:
            return refuse(429, Problem("too many requests"), headers=limits)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return refuse(415, Problem("Content-Type should be application/json."), headers=limits)
        body = await read_body(request, MOST_BYTES)
        if body is None:
            return refuse(413, Problem("The JSON payload you have included in your request is too large."))

        async def accept() -> Response:
            response = await run_in_threadpool(_accept, sandbox, body)
            response.headers.update(limits)
            return response

        fault = await run_in_threadpool(sandbox.store.take_fault, "sendgrid")
        return await faults.answer(request, fault, accept, broken)

    @routes.post("/v3/mail/batch")
    def make_batch(request: Request) -> Response:
        if not has_key(request, sandbox):
            return refuse(401, WRONG_KEY)
        batch_id = secrets.token_urlsafe(32)
        sandbox.store.add_batch(batch_id)
        return JSONResponse({"batch_id": batch_id}, 201)

    @routes.get("/v3/mail/batch/{batch_id}")
    def show_batch(request: Request, batch_id: str) -> Response:
        if not has_key(request, sandbox):
            return refuse(401, WRONG_KEY)
        if not sandbox.store.knows_batch(batch_id):
            return refuse(400, Problem("invalid batch id"))
        return JSONResponse({"batch_id": batch_id})

    return routes


def has_key(request: Request, sandbox: Sandbox) -> bool:
    return secrets.compare_digest(bearer(request).encode(), sandbox.api_key.encode())


def _accept(sandbox: Sandbox, body: bytes) -> Response:
    try:
        mail = parse_json(body)
    except (ValueError, RecursionError):
        return refuse(400, Problem("Bad Request"))
    problems = mail_rules.check(mail, now=sandbox.now(), known_batch=sandbox.store.knows_batch)
    if problems:
        return refuse(400, *problems)
    message_id = secrets.token_urlsafe(16)
    if mail_rules.wants_sandbox_mode(mail):
        return Response(status_code=200, headers={"X-Message-Id": message_id})
    sandbox.store.add("email", message_id, sandbox.received_at(), body, rendering.entries(mail))
    return Response(status_code=202, headers={"X-Message-Id": message_id})


def broken(status: int, wait: float) -> Response:
    if status != 429:
        return refuse(status, Problem("An error occurred on a SendGrid server."))
    reset = int(clock.wall() + wait) + 1  # by the clock of the answer's Date, which is the machine's
    limits = {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset)}
    return refuse(429, Problem("too many requests"), headers=limits)


@dataclass
class _Window:
    """How many requests this minute has seen; used from the event loop only."""

    limit: int | None
    minute: int = 0
    used: int = 0

    def take(self, now: float) -> tuple[bool, dict[str, str]]:
        """Whether one more is allowed, and the rate headers to answer with (the reset in epoch seconds)."""
        if self.limit is None:
            return True, {}
        minute = int(now // RATE_SECONDS)
        if minute != self.minute:
            self.minute, self.used = minute, 0
        self.used += 1
        return self.used <= self.limit, {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(self.limit - self.used, 0)),
            "X-RateLimit-Reset": str((minute + 1) * RATE_SECONDS),
        }
