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
STAGES = ("prospect", "new", "active", "lapsing", "lost")
EARLIER = 7  # days: lifecycle_a_week_ago of the profiles


def lifecycle(features: ir.Table, later: float = 0.0) -> ir.StringValue:
    """The stage from days_since_last_order, purchase_days and mean_gap_days; so many days later of who buys nothing."""
    since = features.days_since_last_order
    since = since + later if later else since
    own = (features.mean_gap_days * 2.0).clip(SHORTEST_DAYS, LONGEST_DAYS)
    allowed = ibis.ifelse(features.purchase_days >= 3, own, USUAL_DAYS)
    return ibis.cases(
        (since.isnull(), "prospect"),
        ((features.purchase_days == 1) & (since <= NEW_DAYS), "new"),
        (since <= allowed, "active"),
        (since <= allowed * LOST_FACTOR, "lapsing"),
        else_="lost",
    )


def after_purchase(features: ir.Table) -> ir.StringValue:
    """The stage of who buys, until at least SHORTEST_DAYS later; whoever never did is new."""
    return ibis.ifelse(features.days_since_last_order.isnull(), "new", "active")
