"""Reading what providers posted."""

from __future__ import annotations

import logging
from typing import Any

from controltower import clock, settings
from controltower.jobs.providers import pause_complained_of

log = logging.getLogger(__name__)


def ingest_feedback() -> dict[str, Any]:
    """Handle the stored webhook bodies that wait: delivery events, suppressions, withdrawn consents.

    Each body is one transaction, so a run that was killed is simply run again. Returns counts: bodies, events (new),
    duplicates, of_tests (of test sends: kept nowhere), unknown_message, unknown_event, broken {reason: n}, suppressed
    {reason: n}, unsubscribed, confirmed (messages whose answer was lost and that did leave), twice (sent again, and
    both left), complained {provider: n}; paused, the providers that are complained of too often;
    and as_of.
    """
    from controltower.feedback import consequences
    from controltower.ledger import webhooks
    from controltower.ledger.database import begin, check_key

    conf = settings.load()
    check_key(conf)  # Airflow's first run in a new home may come before anything is loaded
    key = conf.signing_key()
    report = consequences.Report()
    while True:
        with begin(conf) as ledger:
            body = webhooks.next_waiting(ledger)
            if body is None:
                break
            outcome = consequences.handle(ledger, body, key, report)
            webhooks.close(ledger, body.body_id, outcome, clock.now(conf))
        if outcome != "handled":
            log.warning("webhook body %d of %s: %s", body.body_id, body.provider, outcome)
    paused = [name for name in sorted(report.complained) if pause_complained_of(name)]
    log.info("%d bodies, %d new events", report.bodies, report.events)
    counts = vars(report) | {"broken": dict(report.broken), "suppressed": dict(report.suppressed)}
    counts |= {"complained": dict(report.complained), "paused": paused}
    return counts | {"as_of": clock.now(conf).isoformat()}
