"""A small shop with planned messages behind the public app, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import httpx
import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.content import links
from controltower.data.lake import Lake
from controltower.ledger import consents
from controltower.ledger.database import begin, reading
from controltower.ledger.tables import batches, delivery_events, messages, subjects
from controltower.ledger.tables import consents as consent_rows
from controltower.settings import Settings
from controltower.web.public.app import create_app
from delivery.conftest import NOW, Desk, write_shop
from starlette.testclient import TestClient
from support.lakes import publish_rows
from support.small_shop import rows

BROWSER = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Mobile Safari/537.36"
CUSTOMERS = ["c0", "c1", "c2"]  # c1 reads English; c0 has a second id, c0-old
BOXES = ("email.marketing", "push.marketing", "push.night_marketing")


@dataclass
class Public:
    """What a test of the public app works with; `messages` are ids by (channel, customer)."""

    settings: Settings
    http: TestClient
    messages: dict[tuple[str, str], str]

    def message(self, customer: str = "c0", channel: str = "email") -> str:
        return self.messages[channel, customer]

    def path(self, purpose: str, message_id: str) -> str:
        return f"/{links.LETTERS[purpose]}{links.sign(self.settings.signing_key(), purpose, message_id)}"

    def get(self, purpose: str, message_id: str, **more: Any) -> httpx.Response:
        return self.http.get(self.path(purpose, message_id), **more)

    def unsubscribe(self, message_id: str) -> httpx.Response:
        return self.http.post(self.path("unsubscribe", message_id), data={"List-Unsubscribe": "One-Click"})

    def choose(self, message_id: str, checked: tuple[str, ...], shown: tuple[str, ...]) -> httpx.Response:
        """Save the preference page with these boxes checked, that came with those."""
        form = {"action": "save", "box": list(checked), "shown": list(shown)}
        return self.http.post(self.path("preferences", message_id), data=form)

    def stop(self, message_id: str) -> httpx.Response:
        return self.http.post(self.path("preferences", message_id), data={"action": "stop"})

    def at(self, text: str) -> datetime:
        """Let the home's clock stand there."""
        moment = datetime.fromisoformat(text)
        clock.set_clock(self.settings, moment, speed=0)
        return moment

    def consents(self) -> list[sa.Row[Any]]:
        """The rows that pages wrote, in their order."""
        c = consent_rows.c
        with reading(self.settings) as ledger:
            return list(ledger.execute(sa.select(consent_rows).where(c.source != "test").order_by(c.consent_id)))

    def granted(self, channel: str, purpose: str = "marketing") -> set[str]:
        with reading(self.settings) as ledger:
            return consents.granted(ledger, channel, purpose, clock.now(self.settings))

    def events(self) -> list[sa.Row[Any]]:
        with reading(self.settings) as ledger:
            return list(ledger.execute(sa.select(delivery_events).order_by(delivery_events.c.event_id)))


@pytest.fixture
def public(ledger_settings: Settings) -> Iterator[Public]:
    conf = ledger_settings
    clock.set_clock(conf, NOW, speed=0)
    write_shop(conf)
    reader = {"customer_id": "c1", "updated_at": NOW, "email": "c1@customers.example", "country": "GB",
              "locale": "en-GB", "timezone": "Europe/London", "first_name": "Emma"}  # fmt: skip
    publish_rows(Lake(conf), "customers", "j", rows("customers", reader))
    desk = Desk(conf, cast(Any, None), customers=list(CUSTOMERS))
    desk.plan("email")
    desk.plan("push", campaign="win_back")
    with begin(conf) as ledger:
        of_c0 = sa.select(subjects.c.subject_id).where(subjects.c.customer_id == "c0").scalar_subquery()
        ledger.execute(sa.insert(subjects).values(customer_id="c0-old", subject_id=of_c0, created_at=NOW))
        consents.record(ledger, [{"customer_id": "c0-old", "channel": "email", "purpose": "marketing",
                                  "recorded_at": NOW, "granted": True, "source": "test"}])  # fmt: skip
        found = ledger.execute(
            sa.select(batches.c.channel, messages.c.customer_id, messages.c.message_id).join(
                batches, batches.c.batch_id == messages.c.batch_id
            )
        )
        ids = {(channel, customer): message_id for channel, customer, message_id in found}
    with TestClient(create_app(conf), follow_redirects=False, headers={"User-Agent": BROWSER}) as http:
        yield Public(conf, http, ids)
