"""A home with a small simulated shop, an inbox with messages to its customers, and a public app that only listens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from controltower import clock, settings
from controltower.sandbox import credentials, rendering
from controltower.sandbox.serve import running
from controltower.sandbox.store import Store
from controltower.settings import Settings
from controltower.simulation import answers
from controltower.simulation.truth import Truth
from fastapi import FastAPI, Request, Response

SENT = datetime.fromisoformat("2026-06-05T12:00:00+09:00")
STAMP = "2026-06-04T220000Z"


@dataclass
class Listener:
    """What a public app was told; `status` is what it answers."""

    url: str = ""
    status: int = 202
    bodies: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    left: list[tuple[str, bytes]] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for body, _ in self.bodies for event in json.loads(body)]

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/webhooks/sendgrid")
        async def webhook(request: Request) -> Response:
            if self.status == 202:
                self.bodies.append((await request.body(), dict(request.headers)))
            return Response(status_code=self.status)

        @app.get("/c{token}")
        def click(token: str, request: Request) -> Response:
            self.opened.append(str(request.url))
            return Response(status_code=302, headers={"Location": "http://127.0.0.1:9/never-opened"})

        @app.get("/u{token}")
        def look(token: str) -> Response:
            self.looked.append(token)
            return Response("page")

        @app.post("/u{token}")
        async def leave(token: str, request: Request) -> Response:
            self.left.append((token, await request.body()))
            return Response(status_code=200)

        return app


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    with running(listener.app()) as url:
        listener.url = url
        yield listener


@dataclass
class Inbox:
    """A home whose sandbox caught messages to the customers of its simulated shop."""

    settings: Settings
    truth: Truth
    public_url: str
    requests: int = 0

    @classmethod
    def make(cls, home: Path, shop: Path, public_url: str) -> Inbox:
        """On a copy of a shop's folder; the environment names home and public app."""
        shutil.copytree(shop, home / "simulated" / STAMP)
        shutil.copy(settings.INCLUDE / "shops" / "simulated.yaml", home / "shop.yaml")
        credentials.make(home / "sandbox", "http://127.0.0.1:9")
        truth = Truth.of_home(home)
        assert truth
        return cls(settings.load(), truth, public_url)

    def fill(self, customers: int, days: int = 1) -> None:
        """A mail a day to the first customers and a push to those who use the app, of what they like best."""
        emails, tokens = self.addresses()
        for day in range(days):
            at = SENT + timedelta(days=day)
            for customer in list(self.truth.customers)[:customers]:
                liked = sorted(
                    self.truth.products.values(),
                    key=lambda p: -answers.appeal(self.truth, self.truth.customers[customer], p),
                )
                products = [p.product_id for p in liked[:4]]
                if customer in emails:
                    self.mail(emails[customer], products, at, f"{day:08x}{customer[1:]:0>24}")
                if customer in tokens:
                    self.push(tokens[customer], products[0], at, f"{day:08x}{customer[1:]:1>24}")

    def addresses(self) -> tuple[dict[str, str], dict[str, str]]:
        import pyarrow.parquet as pq

        people = pq.read_table(self.truth.folder / "customers.parquet", columns=["customer_id", "email"]).to_pylist()
        devices = pq.read_table(
            self.truth.folder / "devices.parquet", columns=["customer_id", "push_token"]
        ).to_pylist()
        return ({r["customer_id"]: r["email"] for r in people if r["email"]},
                {r["customer_id"]: r["push_token"] for r in devices if r["push_token"]})  # fmt: skip

    def mail(self, email: str, products: list[str], at: datetime, message_id: str | None, html: str = "") -> None:
        name = message_id or "none"
        links = "".join(f'<a href="{self.link(name, p, i)}"><img alt="x"></a>' for i, p in enumerate(products, 1))
        body = {
            "personalizations": [{
                "to": [{"email": email}],
                "custom_args": {"message_id": message_id} if message_id else {},
                "headers": {"List-Unsubscribe": f"<mailto:out@haru.example>, <{self.public_url}/u{name}>"},
            }],
            "from": {"email": "shop@haru.example"},
            "subject": "Hello",
            "content": [{"type": "text/plain", "value": "Hi"}, {"type": "text/html", "value": html or links}],
            "categories": ["picked", "picked.personal"],
        }  # fmt: skip
        self._add("email", body, at, rendering.entries(body))

    def push(self, token: str, product: str, at: datetime, message_id: str) -> None:
        message = {
            "token": token,
            "notification": {"title": "Hello"},
            "data": {"message_id": message_id, "url": self.link(message_id, product, 1)},
            "fcm_options": {"analytics_label": "picked"},
        }
        body = {"message": message}
        self._add("push", body, at, [rendering.push_entry(body)])

    def link(self, name: str, product: str, position: int) -> str:
        return f"{self.public_url}/c{name}?to=https://haru.example/{product};p={product};n={position};s=x"

    def _add(self, channel: str, body: dict[str, Any], at: datetime, entries: Any) -> None:
        self.requests += 1
        self.store.add(channel, f"request-{self.requests}", at.isoformat(), json.dumps(body).encode(), entries)

    @cached_property
    def store(self) -> Store:
        return Store(self.settings.home / "sandbox" / "inbox.db")

    def at(self, days: float) -> None:
        """Let the home's clock stand so long after the first message."""
        clock.set_clock(self.settings, SENT + timedelta(days=days), speed=0)
