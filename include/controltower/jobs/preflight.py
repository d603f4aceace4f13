"""The last look before a plan is frozen: an odd audience or stale data stops it, unless a second person approves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controltower.campaigns.preflight import LAST, Audience, anomalies
from controltower.campaigns.specs import Spec
from controltower.errors import Anomaly
from controltower.settings import Shop

if TYPE_CHECKING:
    import sqlalchemy as sa


def check(
    ledger: sa.Connection,
    shop: Shop,
    spec: Spec,
    occurrence_id: int,
    size: int,
    made: Mapping[str, str],
    now: datetime,
    despite_anomaly: bool,
) -> list[str]:
    """What is odd about an audience of `size`, chosen from `made` (table -> its as_of).

    Raises Anomaly if anything is, but with `despite_anomaly`: such a plan waits for a second person's approval.
    """
    from controltower.ledger import reports

    earlier = [
        Audience(found["size"], (found["spec"].get("audience") or {}).get("at_most"))
        for found in reports.earlier_audiences(ledger, spec.name, occurrence_id, LAST)
    ]
    odd = anomalies(
        Audience(size, spec.audience.at_most),
        earlier,
        {name: datetime.fromisoformat(at) for name, at in made.items()},
        now,
        timedelta(hours=shop.stale_after_hours),
    )
    if odd and not despite_anomaly:
        raise Anomaly(
            f"{spec.name} isn't planned: {'; '.join(odd)}.",
            "Look at the data and the audience's rules, then trigger it again; to send all the same, tick"
            " `despite_anomaly` in the form, and a second person approves.",
        )
    return odd
