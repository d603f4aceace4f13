"""A shop of a few customers, all of whom may be written to, straight in the lake and the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from controltower.campaigns.specs import find_spec, validate
from controltower.content import templates
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.ledger import consents, plans
from controltower.ledger.database import begin
from controltower.ledger.decisions import Decision, tabulate
from controltower.settings import INCLUDE, Settings

from support.lakes import publish_rows

PICKS = [{"product_id": f"p{n}", "algorithm": "als", "reason": "popular", "value": None} for n in range(4)]


def rows(table: str, *given: dict[str, Any]) -> pa.Table:
    """Rows of a contract table; what isn't given is null."""
    return pa.Table.from_pylist(list(given), schema=CONTRACT[table].schema)


def write_shop(conf: Settings, customers: Sequence[str], now: datetime) -> None:
    """Each with an address, a device and the consents, for a month."""
    shutil.copy(INCLUDE / "shops" / "simulated.yaml", conf.home / "shop.yaml")
    known = now - timedelta(days=30)
    lake = Lake(conf)
    publish_rows(lake, "customers", "i",
        rows("customers", *({"customer_id": c, "updated_at": known, "email": f"{c}@customers.example", "country": "KR",
                             "locale": "ko-KR", "timezone": "Asia/Seoul", "first_name": "민지"} for c in customers)),
    )  # fmt: skip
    publish_rows(lake, "devices", "i",
        rows("devices", *({"device_id": f"d-{c}", "customer_id": c, "push_token": f"token-{c}", "platform": "ios",
                           "updated_at": known, "last_seen_at": known} for c in customers)),
    )  # fmt: skip
    publish_rows(lake, "products", "i",
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
                for c in customers for channel in ("email", "push")
            ],
        )  # fmt: skip


def plan(
    conf: Settings,
    customers: Sequence[str],
    now: datetime,
    *,
    channel: str = "email",
    due_at: datetime | None = None,
    campaign: str = "picked_for_you",
    **changes: Any,
) -> int:
    """Plan a message of a shipped campaign, its spec with changes, to each customer. Returns the run id."""
    due_at = due_at or now
    spec = validate(find_spec(conf.campaigns, campaign).model_dump(mode="json") | changes, campaign)
    template = templates.load(conf.templates, spec.template)
    with begin(conf) as ledger:
        subjects = plans.subject_ids(ledger, customers, now)
        return plans.freeze(
            ledger,
            occurrence_id=plans.lock_occurrence(ledger, campaign, due_at.date().isoformat(), now),
            campaign=campaign, as_of=now, now=now, spec=spec.model_dump(mode="json"), spec_hash=spec.hash,
            content_hash=template.content_hash, policy={}, policy_version="1", triggered_by=None,
            key=conf.signing_key(), expires_in=timedelta(hours=spec.window.expires_hours),
            plan=tabulate([
                Decision(
                    c, subjects[c], "message", 0.45, arm=spec.variants[0].name, share=0.5, channel=channel,
                    due_at=due_at, choices={"products": PICKS},
                )
                for c in customers
            ]),
        )  # fmt: skip
