"""A shop whose runs, events and orders a test writes down one by one, on each database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from controltower import clock
from controltower.data.lake import Lake
from controltower.jobs.measurement import report_campaign
from controltower.ledger import events as ledger_events
from controltower.ledger import holds, plans, runs, work
from controltower.ledger.database import begin
from controltower.ledger.decisions import Decision, tabulate
from controltower.ledger.tables import batches, campaign_runs, messages
from controltower.settings import Settings
from support import shop_tables
from support.lakes import publish_rows

NOW = datetime.fromisoformat("2026-06-15T09:00+09:00")  # when runs are planned
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SHOP: dict[str, Any] = {
    "name": "Haru", "timezone": "Asia/Seoul", "currency": "KRW", "country": "KR", "url": "https://haru.example",
    "attribution_days": 7,
    "sender": {"name": "Haru", "email": "a@haru.example", "contact": "1", "postal_address": "Seoul"},
}  # fmt: skip


@dataclass
class Story:
    """What happened, told line by line."""

    settings: Settings
    _numbers: Any = field(default_factory=count)
    _orders: list[Any] = field(default_factory=list)

    def shop(self, **changes: Any) -> None:
        (self.settings.home / "shop.yaml").write_text(yaml.safe_dump(SHOP | changes, allow_unicode=True))

    def plan(self, decided: Mapping[str, str], *, campaign: str = "spring", occurrence: str = "2026-06-15",
             now: datetime = NOW, **spec: Any) -> int:  # fmt: skip
        """Plan a run. Each customer with `email/variant`, `push/variant`, `holdout`, `global_holdout`, or a reason."""
        with begin(self.settings) as ledger:
            occurrence_id = plans.lock_occurrence(ledger, campaign, occurrence, now)
            subjects = plans.subject_ids(ledger, list(decided), now)
            made = []
            for customer, what in decided.items():
                channel, _, variant = what.partition("/")
                if variant:
                    made.append(Decision(customer, subjects[customer], "message", 0.4, arm=variant, share=0.5,
                                         channel=channel, due_at=now + HOUR))  # fmt: skip
                elif what.endswith("holdout"):
                    made.append(Decision(customer, subjects[customer], "holdout", 0.1, reason=what, arm=what))
                else:
                    made.append(Decision(customer, subjects[customer], "not_sent", 1.0, reason=what))
            earlier = runs.current(ledger, campaign, occurrence)
            if earlier:
                plans.cancel_unsent(ledger, occurrence_id, reason="superseded", now=now, superseded=True)
            return plans.freeze(
                ledger, occurrence_id=occurrence_id, campaign=campaign, as_of=now, now=now,
                spec={"name": campaign, "title": campaign.title(), "holdout": 0.1} | spec, spec_hash="s",
                content_hash="t", policy={}, policy_version="1", triggered_by=None, key=b"a home's key",
                expires_in=DAY, plan=tabulate(made),
            )  # fmt: skip

    def send(self, at: datetime = NOW + HOUR, state: str = "sent", only: set[str] | None = None) -> None:
        """Send every batch that is due; with `only`, those customers, and the others are refused."""
        while True:
            with begin(self.settings) as ledger:
                claimed = work.claim(ledger, at, ("email", "push"))
                if claimed is None:
                    return
                batch, token = claimed
                taken = [m.seq for m in batch.messages if only is None or m.customer_id in only]
                refused = [(m.seq, "not_sent", "suppressed") for m in batch.messages if m.seq not in taken]
                if taken:
                    provider = {"email": "sendgrid", "push": "fcm"}[batch.channel]
                    (call,) = work.open_requests(ledger, batch, token, provider, [(taken, None)], at)
                    work.close_requests(ledger, batch, token, [{"request_id": call, "state": state}], at)
                work.drop(ledger, batch, token, refused, at)
                work.release(ledger, work.read(ledger, batch.batch_id), token, at)

    def back(self, customer: str, *events: str, at: datetime = NOW + 2 * HOUR, run_id: int | None = None,
             machine: bool = False) -> None:  # fmt: skip
        """Events come back for a customer's message."""
        m = messages.c
        mine = sa.select(m.message_id).where(m.customer_id == customer)
        if run_id is not None:
            mine = mine.where(m.batch_id.in_(sa.select(batches.c.batch_id).where(batches.c.run_id == run_id)))
        with begin(self.settings) as ledger:
            message_id = ledger.execute(mine.order_by(m.seq.desc())).scalars().first()
            ledger_events.record(
                ledger,
                [{"provider": "sendgrid", "provider_event_id": f"e{next(self._numbers)}", "message_id": message_id,
                  "event": e, "occurred_at": at, "received_at": at, "machine": machine} for e in events],
            )  # fmt: skip

    def order(self, customer: str | None, at: datetime, *lines: tuple[str, float, float], **more: Any) -> None:
        """An order; `discount` is its first line's. Its lines are (product, quantity, unit price)."""
        discount = more.pop("discount", None)
        head, body = shop_tables.order(
            more.pop("order_id", f"o{next(self._numbers)}"), customer, at, *lines, **({"currency": "KRW"} | more)
        )
        if discount:
            body[0]["discount"] = shop_tables.money(discount)
        self._orders.append((head, body))

    def orders_are_loaded(self, interval: str = "../2026-07-15T00:00:00Z") -> None:
        """What was ordered so far, as one load that reaches to the interval's end."""
        lake = Lake(self.settings)
        for table, rows in shop_tables.orders(*self._orders).items():
            publish_rows(lake, table, interval, shop_tables.table(table, rows))
        self._orders.clear()

    def cancelled(self, run_id: int) -> None:
        with begin(self.settings) as ledger:
            occurrence = sa.select(campaign_runs.c.occurrence_id).where(campaign_runs.c.run_id == run_id)
            occurrence_id = ledger.execute(occurrence).scalar_one()
            plans.cancel_unsent(ledger, occurrence_id, reason="cancelled", now=NOW + 2 * HOUR, superseded=False)

    def held(self, run_id: int, hold: str) -> None:
        with begin(self.settings) as ledger:
            if hold == holds.PAUSE:
                assert holds.pause(ledger, run_id) == "paused"
            else:
                holds.set_hold(ledger, run_id, "approval")

    def report(self, campaign: str = "spring", as_of: datetime | None = NOW + 8 * DAY, **which: Any) -> dict[str, Any]:
        return report_campaign(campaign, as_of=as_of.isoformat() if as_of else None, **which)


@pytest.fixture
def story(ledger_settings: Settings) -> Story:
    clock.set_clock(ledger_settings, NOW + 8 * DAY, speed=0)
    told = Story(ledger_settings)
    told.shop()
    return told


def values(report: dict[str, Any], level: str = "run", of: str = "") -> dict[str, Any]:
    """The figures of one level, by KPI."""
    (found,) = [x for x in report["levels"] if (x["level"], x["of"]) == (level, of)]
    return {name: figure["value"] for name, figure in found["figures"].items()}


def reasons(report: dict[str, Any], level: str = "run", of: str = "") -> dict[str, str]:
    (found,) = [x for x in report["levels"] if (x["level"], x["of"]) == (level, of)]
    return {name: figure["reason"] for name, figure in found["figures"].items() if figure["reason"]}
