"""Our own database: the tables of the ledger. What each state means is in docs/ledger.md."""

from controltower.ledger.tables.base import metadata
from controltower.ledger.tables.people import arms, consents, erased, merges, signing_keys, subjects, suppressions
from controltower.ledger.tables.received import delivery_events, event_bodies, loads, webhook_bodies
from controltower.ledger.tables.runs import (
    approvals,
    campaign_runs,
    choices,
    decisions,
    occurrences,
    planning_failures,
    readouts,
)
from controltower.ledger.tables.sending import (
    batches,
    messages,
    outcomes,
    provider_rates,
    providers,
    requests,
    test_sends,
)

__all__ = [
    "approvals",
    "arms",
    "batches",
    "campaign_runs",
    "choices",
    "consents",
    "decisions",
    "delivery_events",
    "erased",
    "event_bodies",
    "loads",
    "merges",
    "messages",
    "metadata",
    "occurrences",
    "outcomes",
    "planning_failures",
    "provider_rates",
    "providers",
    "readouts",
    "requests",
    "signing_keys",
    "subjects",
    "suppressions",
    "test_sends",
    "webhook_bodies",
]
