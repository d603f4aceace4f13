"""RFM cells: fifths of the buyers by how lately, how often and for how much they bought.

5 is the best fifth. Who is equal is in the same one, that of the lowest of them: where most bought once, they are all
in fifth 1 of frequency, and who bought twice may be in 4.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from controltower.profiles.portable import whole

PARTS = {"recency": "days_since_last_order", "frequency": "orders_total", "money": "revenue_total"}
COLUMNS = (*(f"rfm_{part}" for part in PARTS), "rfm_cell")


def cells(features: ir.Table) -> ir.Table:
    """customer_id, rfm_recency, rfm_frequency, rfm_money (1 to 5), rfm_cell (111 to 555) of who bought."""
    buyers = features.filter(features.days_since_last_order.notnull(), *(features[c].notnull() for c in PARTS.values()))
    everybody = buyers.count().over(ibis.window())
    fifths = {}
    for part, column in PARTS.items():
        better = -buyers[column] if part == "recency" else buyers[column]
        below = ibis.rank().over(order_by=better)  # how many have less
        fifths[f"rfm_{part}"] = whole(below * 5, everybody) + 1
    found = buyers.select("customer_id", **fifths)
    return found.mutate(rfm_cell=found.rfm_recency * 100 + found.rfm_frequency * 10 + found.rfm_money)
