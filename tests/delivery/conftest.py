"""A small shop with a planned run, a real sandbox over HTTP, and the dispatcher between them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pyarrow as pa
import pytest
import sqlalchemy as sa
from controltower import clock, settings
from controltower.campaigns.specs import find_spec
from controltower.content import templates
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.delivery.dispatch import Dispatcher, Report
from controltower.ledger import consents, plans, reports
from controltower.ledger.database import begin
from controltower.ledger.tables import batches
from controltower.sandbox import credentials
from controltower.settings import INCLUDE, Settings
from support.sandbox import Running, open_sandbox

NOW = datetime.fromisoformat("2026-06-15T12:00+09:00")
CUSTOMERS = [f"c{n}" for n in range(24)]
PICKS = [{"product_id": f"p{n}", "algorithm": "als", "reason": "popular", "value": None} for n in range(4)]


def rows(table: str, *given: dict[str, Any]) -> pa.Table:
    """Rows of a contract table; what isn't given is null."""
    return pa.Table.from_pylist(list(given), schema=CONTRACT[table].schema)


@dataclass
class Desk:
    """What a delivery test works with."""

    settings: Settings
    sandbox: Running
    run_id: int = 0
    customers: list[str] = field(default_factory=lambda: list(CUSTOMERS))

    def plan(self, channel: str = "email", due_at: datetime = NOW, campaign: str = "picked_for_you") -> int:
        """Plan a message to every customer."""
        spec = find_spec(self.settings.campaigns, campaign)
        template = templates.load(self.settings.templates, spec.template)
        with begin(self.settings) as ledger:
            subjects = plans.subject_ids(ledger, self.customers, NOW)
            self.run_id = plans.freeze(
                ledger,
                occurrence_id=plans.lock_occurrence(ledger, campaign, due_at.date().isoformat(), NOW),
                campaign=campaign, as_of=NOW, now=NOW, spec=spec.model_dump(mode="json"), spec_hash=spec.hash,
                content_hash=template.content_hash, policy={}, policy_version="1", triggered_by=None,
                key=self.settings.signing_key(),
                expires_in=timedelta(hours=spec.window.expires_hours),
                plan=[
                    plans.Decision(
                        c, subjects[c], "message", 0.45, arm=spec.variants[0].name, share=0.5, channel=channel,
                        due_at=due_at, choices={"products": PICKS},
                    )
                    for c in self.customers
                ],
            )  # fmt: skip
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


def write_shop(conf: Settings) -> None:
    shutil.copy(INCLUDE / "shops" / "simulated.yaml", conf.home / "shop.yaml")
    known = NOW - timedelta(days=30)
    lake = Lake(conf)
    lake.publish(
        "customers", "i",
        rows("customers", *({"customer_id": c, "updated_at": known, "email": f"{c}@customers.example", "country": "KR",
                             "locale": "ko-KR", "timezone": "Asia/Seoul", "first_name": "민지"} for c in CUSTOMERS)),
    )  # fmt: skip
    lake.publish(
        "devices", "i",
        rows("devices", *({"device_id": f"d-{c}", "customer_id": c, "push_token": f"token-{c}", "platform": "ios",
                           "updated_at": known, "last_seen_at": known} for c in CUSTOMERS)),
    )  # fmt: skip
    lake.publish(
        "products", "i",
        rows("products", *({"product_id": f"p{n}", "updated_at": known, "title": f"상품 {n}", "price": Decimal(12300),
                            "currency": "KRW", "url": f"https://haru.example/p{n}", "in_stock": True}
                           for n in range(4))),
    )  # fmt: skip
    with begin(conf) as ledger:
        consents.record(
            ledger,
            [
                {"customer_id": c, "channel": channel, "purpose": "marketing", "recorded_at": known, "granted": True,
                 "source": "test"}
                for c in CUSTOMERS for channel in ("email", "push")
            ],
        )  # fmt: skip


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
def desk(ledger_settings: Settings, inbox: Running, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk on each database."""
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
