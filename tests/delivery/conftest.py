"""A small shop with a planned run, a real sandbox over HTTP, and the dispatcher between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from controltower import clock, settings
from controltower.data.lake import Lake
from controltower.delivery.dispatch import Dispatcher, Report
from controltower.delivery.providers.sendgrid import SendGrid
from controltower.ledger import reports
from controltower.ledger.database import begin
from controltower.ledger.tables import batches, providers
from controltower.sandbox import credentials
from controltower.settings import Settings
from support import small_shop
from support.sandbox import Running, open_sandbox

NOW = datetime.fromisoformat("2026-06-15T12:00+09:00")
AT_ONCE = 16  # calls that SendGrid gets together
CUSTOMERS = [f"c{n}" for n in range(24)]


@dataclass
class Desk:
    """What a delivery test works with."""

    settings: Settings
    sandbox: Running
    run_id: int = 0
    customers: list[str] = field(default_factory=lambda: list(CUSTOMERS))

    def plan(
        self, channel: str = "email", due_at: datetime = NOW, campaign: str = "picked_for_you", **changes: Any
    ) -> int:
        """Plan a message to every customer; the campaign's spec with changes."""
        self.run_id = small_shop.plan(
            self.settings, self.customers, NOW, channel=channel, due_at=due_at, campaign=campaign, **changes
        )
        return self.run_id

    def dispatch(self, now: datetime | None = NOW) -> Report:
        """Dispatch with the clock standing at `now`, or where it stands."""
        if now:
            clock.set_clock(self.settings, now, speed=0)
        with Lake(self.settings).read(now) as lake:
            return Dispatcher(self.settings, settings.load_shop(self.settings), lake).run()

    def totals(self) -> reports.Totals:
        with begin(self.settings) as ledger:
            (found,) = reports.totals(ledger, [self.run_id])
        assert found.accounted
        return found

    def pending(self, channel: str) -> int:
        with begin(self.settings) as ledger:
            waiting = sa.select(sa.func.sum(batches.c.size)).where(
                batches.c.state == "pending", batches.c.channel == channel
            )
            return int(ledger.execute(waiting).scalar_one())

    def caught(self) -> dict[str, int]:
        return self.sandbox.http.get("/api/summary").json()

    def fault(self, kind: str, count: int = 1, **more: object) -> None:
        answer = self.sandbox.http.post("/api/faults", json={"kind": kind, "count": count, **more})
        assert answer.status_code == 201

    def retry_now(self) -> None:
        """Let the database's clock have passed every pause."""
        with begin(self.settings) as ledger:
            ledger.execute(sa.update(batches).values(not_before=0.0))
            ledger.execute(sa.update(providers).values(paused_until=0.0).where(providers.c.refused.is_(None)))


def write_shop(conf: Settings) -> None:
    small_shop.write_shop(conf, CUSTOMERS, NOW)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> credentials.Credentials:
    return credentials.make(tmp_path_factory.mktemp("credentials"), "http://127.0.0.1:9")


@pytest.fixture(scope="session")
def open_inbox(made: credentials.Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with open_sandbox(made, tmp_path_factory.mktemp("sandbox") / "inbox.db") as running:
        credentials.make(made.service_account_path.parent, running.url)
        yield running


@pytest.fixture
def inbox(open_inbox: Running) -> Running:
    """The sandbox, emptied."""
    open_inbox.http.delete("/api/messages")
    open_inbox.http.delete("/api/faults")
    return open_inbox


@pytest.fixture
def desk(batching_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk on each database, whose mails go out one in a request, some at a time: a fault then meets one message."""
    monkeypatch.setattr(SendGrid, "splits", False)
    monkeypatch.setattr(SendGrid, "calls_at_once", AT_ONCE)
    return batching_desk


@pytest.fixture
def batching_desk(ledger_settings: Settings, inbox: Running, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk on each database, whose mails of one layout share a request."""
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_URL", inbox.url)
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", inbox.api_key)
    monkeypatch.setenv("CONTROLTOWER_FCM_URL", inbox.url)
    monkeypatch.setenv("CONTROLTOWER_FCM_CREDENTIALS", str(inbox.account_path))
    conf = settings.load()
    write_shop(conf)
    return Desk(conf, inbox)


@pytest.fixture
def messages(inbox: Running) -> Callable[[str], list[dict[str, Any]]]:
    def of(message_id: str) -> list[dict[str, Any]]:
        answer: httpx.Response = inbox.http.get("/api/messages", params={"message_id": message_id})
        return answer.json()["messages"]

    return of
