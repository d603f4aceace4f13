"""A ledger on each database with a small planned run in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from controltower.ledger import plans
from controltower.ledger.database import begin
from controltower.ledger.decisions import Decision, tabulate
from controltower.settings import Settings

NOW = datetime(2026, 6, 15, 1, 0, tzinfo=UTC)
DUE = NOW + timedelta(hours=1)
LATER = NOW + timedelta(hours=5)


def message(n: int, due_at: datetime = DUE, channel: str = "email") -> Decision:
    return Decision(
        f"c{n}", n, "message", 0.45, arm="a", share=0.5, channel=channel, due_at=due_at, algorithm="als",
        choices={"products": [{"product_id": "p1", "algorithm": "als", "reason": None, "value": None}]},
    )  # fmt: skip


def write_plan(
    settings: Settings,
    plan: list[Decision],
    *,
    campaign: str = "spring",
    occurrence: str = "2026-06-15",
    now: datetime = NOW,
    key: bytes = b"a home's key",  # by which the messages are in the order that tests count on
    **spec: Any,
) -> int:
    with begin(settings) as ledger:
        occurrence_id = plans.lock_occurrence(ledger, campaign, occurrence, now)
        return plans.freeze(
            ledger, occurrence_id=occurrence_id, campaign=campaign, as_of=now, now=now, spec={"name": campaign, **spec},
            spec_hash="s1", content_hash="t1", policy={}, key=key, policy_version="1", triggered_by=None,
            expires_in=timedelta(days=1), plan=tabulate(plan),
        )  # fmt: skip


@pytest.fixture
def planned(ledger_settings: Settings) -> Callable[..., int]:
    """Plans n messages due at DUE, one customer held out and one without consent. Returns the run id."""

    def plan(n: int = 3, **keys: str) -> int:
        return write_plan(
            ledger_settings,
            [
                *(message(i) for i in range(n)),
                Decision("held", 9001, "holdout", 0.1, reason="holdout", arm="holdout"),
                Decision("silent", 9002, "not_sent", 1.0, reason="no_consent"),
            ],
            **keys,
        )

    return plan
