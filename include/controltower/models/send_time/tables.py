"""Tables of 168 hours of a week for many customers, one byte an hour.

A row holds each hour's share as a part of the customer's best hour's, in 255 steps: shares are `row / row.sum()`, off
by 1/510 of the best hour's at most. A million customers take 168 MB; a channel adds the rows of those alone of whom it
tells something else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd


class Tables(NamedTuple):
    """What is known of n customers' hours.

    `week` (n, 168, uint8) holds for any channel but for the rows in `channels`: by name, whose rows (m,) and what they
    are (m, 168). `hour` (n,) is the best local hour of the day, `weight` (n,) the share of own evidence in it.
    """

    customer_ids: np.ndarray
    week: np.ndarray
    channels: dict[str, tuple[np.ndarray, np.ndarray]]
    hour: np.ndarray
    weight: np.ndarray

    def of(self, channel: str) -> np.ndarray:
        """(n, 168) uint8: the tables of one channel."""
        if channel not in self.channels:
            return self.week
        rows, theirs = self.channels[channel]
        whole = self.week.copy()
        whole[rows] = theirs
        return whole

    def frame(self) -> pd.DataFrame:
        """customer_id, send_hour (0-23), send_hour_weight (0-1)."""
        return pd.DataFrame({"customer_id": self.customer_ids, "send_hour": self.hour, "send_hour_weight": self.weight})


def around(hour: np.ndarray) -> np.ndarray:
    """(n, 168) uint8: tables of who is known by an hour of the day (n,) alone; the nearer to it the better."""
    away = np.abs(np.arange(24) - np.asarray(hour)[:, None])
    return np.tile((255 - 10 * np.minimum(away, 24 - away)).astype(np.uint8), (1, 7))


def quantised(shares: np.ndarray) -> np.ndarray:
    """Shares (n, 168) in 255 steps of each row's greatest, as uint8."""
    most = shares.max(axis=1, keepdims=True)
    steps = shares * (np.float32(255) / np.where(most > 0, most, 1)) + np.float32(0.5)
    return np.asarray(steps.astype(np.uint8))


def shares_of(week: np.ndarray) -> np.ndarray:
    """Shares (n, 168, float32, rows sum to 1) of quantised tables."""
    total = week.sum(axis=1, keepdims=True, dtype=np.float32)
    return np.asarray(week / np.maximum(total, 1))
