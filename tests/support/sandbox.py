"""A sandbox over real HTTP, and the requests that tests send it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
from controltower.sandbox import credentials
from controltower.sandbox.app import create_app
from controltower.sandbox.credentials import Credentials
from controltower.sandbox.serve import running

from support.patience import PATIENCE

NOW = datetime(2026, 6, 15, 7, 0, tzinfo=UTC)
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


@dataclass
class Running:
    url: str
    api_key: str
    account: dict[str, Any]
    account_path: Path
    http: httpx.Client

    def mail(self, **changes: Any) -> dict[str, Any]:
        return {
            "personalizations": [{"to": [{"email": "customer@example.com"}], "custom_args": {"message_id": "m-1"}}],
            "from": {"email": "shop@example.com", "name": "Shop"},
            "subject": "Hello",
            "content": [{"type": "text/plain", "value": "Hi"}],
        } | changes

    def send(self, body: dict[str, Any]) -> httpx.Response:
        return self.http.post("/v3/mail/send", json=body, headers={"Authorization": f"Bearer {self.api_key}"})

    def access_token(self, scope: str = SCOPE, **claims: Any) -> str:
        return self.token(scope=scope, **claims).json()["access_token"]

    def token(self, key: str | None = None, grant: str | None = None, **claims: Any) -> httpx.Response:
        now = wall()
        given = {
            "iss": self.account["client_email"],
            "aud": "https://oauth2.googleapis.com/token",
            "iat": now,
            "exp": now + 3600,
            "scope": SCOPE,
        } | claims
        assertion = jwt.encode(given, key or self.account["private_key"], "RS256")
        grant = grant or "urn:ietf:params:oauth:grant-type:jwt-bearer"
        return self.http.post("/token", data={"grant_type": grant, "assertion": assertion})

    def push(self, message: dict[str, Any], token: str | None = None) -> httpx.Response:
        return self.http.post(
            f"/v1/projects/{credentials.PROJECT}/messages:send",
            json={"message": message},
            headers={"Authorization": f"Bearer {token or self.access_token()}"},
        )


def wall() -> int:
    """The wall clock, which PyJWT and Google's clients read."""
    return int(datetime.now(UTC).timestamp())


@contextmanager
def open_sandbox(made: Credentials, store: Path, *, port: int = 0, **options: Any) -> Iterator[Running]:
    """A sandbox whose clock stands at NOW; `options` go to create_app."""
    account = made.service_account()
    app = create_app(store, made.api_key, account, now=lambda: NOW, **options)
    with running(app, port=port) as url, httpx.Client(base_url=url, timeout=PATIENCE) as http:
        yield Running(url, made.api_key, account, made.service_account_path, http)
