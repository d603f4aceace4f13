"""A ledger with a run whose mails left, a key pair, and a post box for signed events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from controltower import clock, settings
from controltower.jobs.feedback import ingest_feedback
from controltower.ledger import plans, reports, tables, work
from controltower.ledger.database import begin, opened
from controltower.ledger.decisions import Decision, tabulate
from controltower.settings import Settings
from cryptography.hazmat.primitives.asymmetric import ec
from support import webhooks

NOW = datetime(2026, 6, 15, 1, 0, tzinfo=UTC)
MOMENT = int(NOW.timestamp())
CUSTOMERS = [f"c{n}" for n in range(6)]
LOST = CUSTOMERS[4:]  # SendGrid's answer for their mails was lost

_, SPARE_PUBLIC_KEY = webhooks.keypair()


@contextmanager
def undone(settings: Settings) -> Iterator[sa.Connection]:
    """A transaction that is always rolled back, so that the next example finds the ledger as this one did."""
    with opened(settings).connect() as connection, connection.begin() as transaction:
        try:
            yield connection
        finally:
            transaction.rollback()


def address(customer: str) -> str:
    return f"{customer}@customers.example"


@dataclass
class PostBox:
    """What a feedback test works with."""

    settings: Settings
    private_key: ec.EllipticCurvePrivateKey
    message_ids: dict[str, str]  # by customer
    run_id: int
    made: int = field(default=0)

    def event(self, kind: str, customer: str = "c0", **more: Any) -> dict[str, Any]:
        """An event as SendGrid posts it; keywords add or replace fields."""
        self.made += 1
        return {
            "email": address(customer),
            "timestamp": MOMENT + self.made,
            "event": kind,
            "sg_event_id": f"event-{self.made}",
            "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
            "message_id": self.message_ids.get(customer),
            "ip": "192.0.2.7",
            "useragent": "Mozilla/5.0",
            "category": ["spring"],
            **more,
        }

    def post(self, *events: Any) -> str:
        """Sign these events as one body, now by the machine's clock, and post it."""
        return self.post_body(json.dumps(list(events)).encode())

    def post_body(self, body: bytes) -> str:
        headers = webhooks.sign(self.private_key, int(clock.wall()), body)
        return webhooks.receive(self.settings, "sendgrid", headers, body)

    def ingest(self, *events: Any) -> dict[str, Any]:
        if events:
            self.post(*events)
        return ingest_feedback()

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        with begin(self.settings) as ledger:
            return [dict(r) for r in ledger.execute(sa.select(table).order_by(*table.primary_key)).mappings()]

    def totals(self) -> reports.Totals:
        with begin(self.settings) as ledger:
            (found,) = reports.totals(ledger, [self.run_id])
        assert found.accounted
        return found


@pytest.fixture
def box(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> PostBox:
    """A post box on each database; the home's clock stands at NOW."""
    private_key, public_key = webhooks.keypair()
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_WEBHOOK_KEYS", f"{SPARE_PUBLIC_KEY},{public_key}")
    conf = settings.load()
    clock.set_clock(conf, NOW, speed=0)
    run_id = _send(conf)
    with begin(conf) as ledger:
        found = ledger.execute(sa.select(tables.messages.c.customer_id, tables.messages.c.message_id))
        message_ids = dict(found.tuples().all())
    return PostBox(conf, private_key, message_ids, run_id)


def _send(conf: Settings) -> int:
    """A run of one mail a customer: all were called in, and the answers for LOST were lost."""
    before = NOW - timedelta(hours=1)
    with begin(conf) as ledger:
        run_id = plans.freeze(
            ledger, occurrence_id=plans.lock_occurrence(ledger, "spring", "2026-06-15", before), campaign="spring",
            as_of=before, now=before, spec={"name": "spring"}, spec_hash="s", content_hash="t", policy={},
            key=b"a home's key", policy_version="1", triggered_by=None, expires_in=timedelta(days=1),
            plan=tabulate([
                Decision(c, n, "message", 1.0, arm="a", share=1.0, channel="email", due_at=before, algorithm="als")
                for n, c in enumerate(CUSTOMERS)
            ]),
        )  # fmt: skip
        claimed = work.claim(ledger, NOW, ["email"])
        assert claimed is not None
        batch, token = claimed
        members = [([m.seq], None) for m in batch.messages]
        ids = work.open_requests(ledger, batch, token, "sendgrid", members, before)
        results = [
            {"request_id": i, "state": "unknown" if m.customer_id in LOST else "sent", "reason": None}
            for i, m in zip(ids, batch.messages, strict=True)
        ]
        work.close_requests(ledger, batch, token, results, before)
        work.release(ledger, batch, token, before)
    return run_id
