"""What a home holds, in figures."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.jobs import anomalies

if TYPE_CHECKING:
    from controltower.data.lake import Lake


def summarise() -> dict[str, Any]:
    """The shop's customers, each campaign run from the ledger, the models in service. Counts only."""
    from controltower.data.lake import Lake
    from controltower.ledger import reports
    from controltower.ledger.database import reading
    from controltower.models import registry

    conf = settings.load()
    shop = settings.load_shop(conf)
    lake, now = Lake(conf), clock.now(conf)
    customers = {moment: _customers(lake, moment) for moment in (None, now)}
    with reading(conf) as ledger:
        runs = [t.as_dict() for t in reversed(reports.totals(ledger))]
        pending, next_due = reports.waiting(ledger)
        held = reports.held(ledger)
        odd = anomalies.standing(ledger, shop, now)
    last = [r for r in runs if r["state"] != "superseded"]  # a newer version counts the same audience again
    return {
        "shop": shop.name,
        "simulated": shop.made_up("en"),
        "customers": customers[None],
        "customers_known_by_now": customers[now],
        "anomalies": [anomalies.tell(shop, o) for o in odd],
        "runs": runs,
        "audience": sum(r["audience"] for r in last),
        "held_out": sum(r["held_out"] for r in last),
        "not_sent": _added(r["not_sent"] for r in last),
        "accepted": _added(r["accepted"] for r in runs),
        "rejected": _added(r["rejected"] for r in runs),
        "unknown": sum(r["unknown"] for r in runs),
        "cancelled": sum(r["cancelled"] for r in last),
        "pending": pending,
        "held": held,
        "next_due": next_due.isoformat() if next_due else None,
        "accounted": all(r["accounted"] for r in runs),
        "models": registry.in_service(conf),
    }


def _customers(lake: Lake, as_of: datetime | None) -> int:
    with lake.read(as_of) as reading:
        return reading.arrow(reading.table("customers").select("customer_id")).num_rows


def _added(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for name, n in count.items():
            total[name] = total.get(name, 0) + n
    return dict(sorted(total.items()))
