"""What the ledger keeps of providers' limits."""

from __future__ import annotations

from controltower.ledger import providers
from controltower.ledger.database import begin
from controltower.settings import Settings


def test_who_began_before_midnight_leaves_the_new_days_count_alone(ledger_settings: Settings) -> None:
    yesterday, today = "2026-06-15", "2026-06-16"
    with begin(ledger_settings) as ledger:
        providers.usage(ledger, "sendgrid", today, [])
        providers.take(ledger, "sendgrid", today, 10, {})
    with begin(ledger_settings) as ledger:  # gives back
        used = providers.usage(ledger, "sendgrid", yesterday, [])
        providers.take(ledger, "sendgrid", yesterday, used.taken - 3, {})
        assert providers.usage(ledger, "sendgrid", today, []).taken == 10
        used = providers.usage(ledger, "sendgrid", yesterday, [])  # takes
        providers.take(ledger, "sendgrid", yesterday, used.taken + 2, {})
        assert providers.usage(ledger, "sendgrid", today, []).taken == 12
