"""Where a customer stands with the shop, by rules that fit on a page.

prospect  never bought
new       bought on one day only, at most NEW_DAYS ago
active    bought within the allowed time: twice the customer's own mean gap between purchase days, but at least
          SHORTEST_DAYS and at most LONGEST_DAYS; USUAL_DAYS for a customer who bought on fewer than three days
lapsing   bought within LOST_FACTOR times the allowed time
lost      bought longer ago
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

NEW_DAYS = 30.0
USUAL_DAYS = 60.0
SHORTEST_DAYS = 30.0
LONGEST_DAYS = 120.0
LOST_FACTOR = 3.0


def lifecycle(features: ir.Table) -> ir.StringValue:
    """The stage from days_since_last_order, purchase_days and mean_gap_days."""
    since = features.days_since_last_order
    own = (features.mean_gap_days * 2.0).clip(SHORTEST_DAYS, LONGEST_DAYS)
    allowed = ibis.ifelse(features.purchase_days >= 3, own, USUAL_DAYS)
    return ibis.cases(
        (since.isnull(), "prospect"),
        ((features.purchase_days == 1) & (since <= NEW_DAYS), "new"),
        (since <= allowed, "active"),
        (since <= allowed * LOST_FACTOR, "lapsing"),
        else_="lost",
    )
