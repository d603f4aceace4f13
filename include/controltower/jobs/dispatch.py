"""Sending what is due."""

from __future__ import annotations

from typing import Any

from controltower import clock, settings


def dispatch_messages(stay: float = 0.0) -> dict[str, Any]:
    """Send every message that is due by the home's clock, through the providers. Raises where one can't be used.

    What limits and short pauses hold up is waited for, up to `stay` seconds after the start.

    Returns counts of requests by state, of messages refused or deferred by reason, and what still waits: for
    its hour (`pending`, `next_due`), or because its run is held back (`held`, by why).
    """
    from controltower.data.lake import Lake
    from controltower.delivery.dispatch import Dispatcher, raise_trouble
    from controltower.ledger import reports
    from controltower.ledger.database import reading

    conf = settings.load()
    if _is_new(conf):
        return {"batches": 0, "requests": {}, "refused": {}, "deferred": {}, "pending": 0, "held": {}, "next_due": None}
    shop = settings.load_shop(conf)
    with Lake(conf).read(clock.now(conf)) as lake:
        report = Dispatcher(conf, shop, lake).run(stay)
    with reading(conf) as ledger:
        pending, next_due = reports.waiting(ledger)
        held = reports.held(ledger)
    raise_trouble(report)
    return {
        "batches": report.batches,
        "requests": dict(report.requests),
        "refused": dict(report.refused),
        "deferred": dict(report.deferred),
        "pending": pending,
        "held": held,
        "next_due": next_due.isoformat() if next_due else None,
    }


def _is_new(conf: settings.Settings) -> bool:
    """Whether nothing was loaded into this home yet, so that nothing was planned: its first load may take a while."""
    from controltower.ledger import runs
    from controltower.ledger.database import reading

    if conf.shop_file.is_file():
        return False
    with reading(conf) as ledger:
        return not runs.last_of_each(ledger)
