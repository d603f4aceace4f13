"""Firebase Cloud Messaging's part: POST /token (Google's OAuth for service accounts) and messages:send.

https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send and
https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from controltower.sandbox import faults, push_rules, rendering
from controltower.sandbox.push_rules import FCM_ERROR, Refusal
from controltower.sandbox.sandbox import Sandbox, bearer, parse_json, read_body

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - google-auth signs for it whatever token_uri says
SCOPES = frozenset(f"https://www.googleapis.com/auth/{s}" for s in ("firebase.messaging", "cloud-platform"))
TOKEN_SECONDS = 3600
MOST_BYTES = 1_000_000
_PREFIX = "ya29."
_UNAUTHENTICATED = Refusal(
    401,
    "UNAUTHENTICATED",
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
    [],
)
_WRONG_SCOPE = Refusal(403, "PERMISSION_DENIED", "Request had insufficient authentication scopes.", [])
_OTHER_PROJECT = Refusal(
    403, "PERMISSION_DENIED", "SenderId mismatch", [{"@type": FCM_ERROR, "errorCode": "SENDER_ID_MISMATCH"}]
)
_BROKEN = {
    400: push_rules.invalid("Request contains an invalid argument."),
    429: Refusal(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", [{"@type": FCM_ERROR, "errorCode": "QUOTA_EXCEEDED"}]),
    500: Refusal(500, "INTERNAL", "Internal error encountered.", [{"@type": FCM_ERROR, "errorCode": "INTERNAL"}]),
    503: Refusal(
        503, "UNAVAILABLE", "The service is currently unavailable.", [{"@type": FCM_ERROR, "errorCode": "UNAVAILABLE"}]
    ),
}


def refuse(refusal: Refusal, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer with Google's error body."""
    return JSONResponse(refusal.body(), refusal.code, headers)


def router(sandbox: Sandbox) -> APIRouter:
    routes = APIRouter()
    account = sandbox.service_account
    keys = _keys(account) if account else None

    @routes.post("/token")
    async def token(request: Request) -> Response:
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        if form.get("grant_type") != [GRANT]:
            return _oauth_error("unsupported_grant_type", f"Invalid grant_type: expected {GRANT}")
        if account is None or keys is None:
            return _oauth_error("invalid_grant", "The sandbox was started without a service account.")
        try:
            claims = _verified(form.get("assertion", [""])[0], account, keys[0])
        except jwt.InvalidTokenError as e:
            return _oauth_error("invalid_grant", f"Invalid JWT: {e}")
        granted = {"iss": account["client_email"], "scope": claims["scope"], "exp": claims["iat"] + TOKEN_SECONDS}
        return JSONResponse(
            {
                "access_token": _PREFIX + jwt.encode(granted, keys[1], "HS256"),
                "expires_in": TOKEN_SECONDS - 1,
                "token_type": "Bearer",
            }
        )

    @routes.post("/v1/projects/{project}/messages:send")
    async def send(request: Request, project: str) -> Response:
        scopes = _scopes(bearer(request), keys[1] if keys else "")
        if account is None or scopes is None:
            return refuse(_UNAUTHENTICATED, {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'})
        if not scopes & SCOPES:
            return refuse(_WRONG_SCOPE)
        if project != account["project_id"]:
            return refuse(_OTHER_PROJECT)
        body = await read_body(request, MOST_BYTES)
        if body is None:
            return refuse(push_rules.invalid("Request payload size exceeds the limit."))

        async def accept() -> Response:
            return await run_in_threadpool(_accept, sandbox, project, body)

        fault = await run_in_threadpool(sandbox.store.take_fault, "fcm")
        return await faults.answer(request, fault, accept, _broken)

    return routes


def _accept(sandbox: Sandbox, project: str, body: bytes) -> Response:
    try:
        given = parse_json(body)
    except (ValueError, RecursionError):
        return refuse(push_rules.invalid("Invalid JSON payload received. Unexpected token."))
    request = push_rules.check(given)
    if isinstance(request, Refusal):
        return refuse(request)
    if request.get("validate_only"):
        return JSONResponse({"name": f"projects/{project}/messages/fake_message_id"})
    now = sandbox.now()
    name = f"projects/{project}/messages/0:{int(now.timestamp() * 1_000_000)}%{secrets.token_hex(8)}"
    sandbox.store.add("push", name, sandbox.received_at(), body, [rendering.push_entry(request)])
    return JSONResponse({"name": name})


def _broken(status: int, wait: float) -> Response:
    return refuse(_BROKEN[status], {} if status in (400, 500) else {"Retry-After": str(max(int(wait), 1))})


def _keys(account: dict[str, Any]) -> tuple[Any, str]:
    """The account's public key, and the secret that signs access tokens (the same after a restart)."""
    private = account["private_key"].encode()
    secret = hashlib.sha256(b"sandbox access token\n" + private).hexdigest()
    return load_pem_private_key(private, None).public_key(), secret


def _verified(assertion: str, account: dict[str, Any], public_key: Any) -> dict[str, Any]:
    """The claims of a signed assertion; jwt.InvalidTokenError where Google would refuse it."""
    claims: dict[str, Any] = jwt.decode(
        assertion,
        public_key,
        algorithms=["RS256"],
        audience=[account["token_uri"], GOOGLE_TOKEN_URI],
        issuer=account["client_email"],
        leeway=60,
        options={"require": ["iss", "aud", "exp", "iat", "scope"]},
    )
    if claims["exp"] - claims["iat"] > TOKEN_SECONDS:
        raise jwt.InvalidTokenError("Token must be a short-lived token (60 minutes) and in a reasonable timeframe.")
    return claims


def _scopes(token: str, secret: str) -> set[str] | None:
    """What an access token of ours allows; None where it is not ours or too old."""
    try:
        claims = jwt.decode(token.removeprefix(_PREFIX), secret, algorithms=["HS256"], options={"require": ["exp"]})
    except jwt.InvalidTokenError:
        return None
    return set(str(claims["scope"]).split())


def _oauth_error(code: str, text: str) -> Response:
    return JSONResponse({"error": code, "error_description": text}, 400)
