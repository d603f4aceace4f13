"""What the propensity models read beside the features: a customer's own rhythm, computed from the features alone.

A tree can split a number but hardly divide two of them or add up six, and a logistic can do neither. Each habit is
told, in reasons, as the feature that says most of the same (`TOLD_AS`), so that reasons name documented features.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

# days that count as seen beside a customer's own: one order a month or two is what little history is shrunk to
PRIOR_DAYS = 60.0
HALF_WAYS = ((15, "orders_30d"), (40, "orders_90d"), (100, "orders_365d"))  # days after which an order counts 1/e
SPANS = (7, 14, 30, 60, 90, 180, 365)

TOLD_AS: dict[str, str] = {
    "steady_rate": "order_rate",
    "recent_gap": "mean_gap_days",
    "recent_due": "overdue_ratio",
    "recent_left": "overdue_ratio",
    "mean_left": "overdue_ratio",
    "last_due": "last_gap_days",
    "longest_due": "longest_gap_days",
    "due_score": "overdue_ratio",
    "gap_variation": "gap_spread_days",
    "steady_gap": "order_rate",
    "steady_due": "days_since_last_order",
    **{f"fading_orders_{days}": told for days, told in HALF_WAYS},
}
_NEEDED = (
    "days_since_last_order", "days_since_first_order", "days_since_second_last", "days_since_third_last",
    "purchase_days", "mean_gap_days", "gap_spread_days", "longest_gap_days", "last_gap_days",
    *(f"orders_{span}d" for span in SPANS),
)  # fmt: skip


def with_habits(features: pd.DataFrame) -> pd.DataFrame:
    """The features (rows of customers) and the columns of TOLD_AS; NaN where a habit isn't known."""
    f = features.reindex(columns=list(_NEEDED)).astype(float)
    since, tenure, times = f["days_since_last_order"], f["days_since_first_order"], f["purchase_days"]
    recent = ((f["days_since_third_last"] - since) / 2).fillna(f["days_since_second_last"] - since)
    steady = (tenure - since + PRIOR_DAYS) / times.clip(lower=1)
    made = {
        "steady_rate": times / (tenure + PRIOR_DAYS),
        "recent_gap": recent,
        "recent_due": since / recent.clip(lower=1),
        "recent_left": recent - since,
        "mean_left": f["mean_gap_days"] - since,
        "last_due": since / f["last_gap_days"].clip(lower=1),
        "longest_due": since / f["longest_gap_days"].clip(lower=1),
        "due_score": (since - f["mean_gap_days"]) / (f["gap_spread_days"] + 5),
        "gap_variation": f["gap_spread_days"] / f["mean_gap_days"].clip(lower=1),
        "steady_gap": steady,
        "steady_due": since / steady,
    }
    counts = [np.zeros(len(f)), *(f[f"orders_{span}d"].to_numpy() for span in SPANS)]
    edges = (0, *SPANS)
    for days, _ in HALF_WAYS:
        made[f"fading_orders_{days}"] = sum(
            (counts[i] - counts[i - 1]) * np.exp(-(edges[i] + edges[i - 1]) / 2 / days) for i in range(1, len(edges))
        )
    return pd.concat([features, pd.DataFrame(made, index=features.index)], axis=1)
