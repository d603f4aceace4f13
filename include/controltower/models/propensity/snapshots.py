"""Snapshots of the past: features as of a date, and who bought within the horizon after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from controltower.models.propensity.classifiers import has_facts

SNAPSHOTS = 12  # learned from
JUDGED_SNAPSHOTS = 8  # learned from on a time split
BACKTESTS = 3  # past dates that are judged
MOST_ROWS = 40_000  # customers per snapshot; of more, a drawn sample
SETTLED = timedelta(days=14)  # of facts before the first snapshot


@dataclass(frozen=True)
class Snapshot:
    """Features (index customer_id, numeric columns) as of a date, and who bought within the horizon after (0 or 1)."""

    as_of: datetime
    features: pd.DataFrame
    bought: np.ndarray


def step(horizon: int) -> timedelta:
    """From one snapshot to the next. A week, so that horizons share them; but of single days they walk through the
    week: a shop closed on Saturdays would have no buyer in Saturdays' snapshots, and Mondays' tell of Mondays."""
    return timedelta(days=6 if horizon < 7 else 7)


def judged_dates(as_of: datetime, horizon: int) -> list[datetime]:
    """The dates of the backtest, newest first: their label windows are closed by as_of.

    Windows of 28 days overlap by half: apart, the oldest would need facts of half a year before as_of to learn from,
    beyond what a shop must keep (`shop.KEPT_DAYS`).
    """
    apart = max(timedelta(days=horizon) / 2, step(horizon))
    return [as_of - timedelta(days=horizon) - k * apart for k in range(BACKTESTS)]


def snapshot_times(as_of: datetime, horizon: int, first: datetime) -> list[datetime]:
    """The snapshots that `train` wants, newest first: label windows closed by as_of, two weeks of facts at least."""
    wanted = [as_of - timedelta(days=horizon) - k * step(horizon) for k in range(SNAPSHOTS)]
    return [t for t in wanted if t >= first + SETTLED]


def closed_by(snapshots: Sequence[Snapshot], moment: datetime, horizon: int, most: int) -> list[Snapshot]:
    """The newest snapshots whose label windows were closed at a moment, newest first."""
    there = [s for s in snapshots if s.as_of + timedelta(days=horizon) <= moment]
    return sorted(there, key=lambda s: s.as_of, reverse=True)[:most]


def label(snapshot: datetime, horizon: int, features: pd.DataFrame, purchases: pd.DataFrame) -> Snapshot:
    """Snapshot with labels, of customers of whom anything was known. purchases: customer_id, second (epoch)."""
    kept = drawn(features)
    start = int(snapshot.timestamp())
    inside = (purchases["second"] > start) & (purchases["second"] <= start + horizon * 86_400)
    bought = kept.index.isin(purchases.loc[inside, "customer_id"].unique()).astype(int)
    return Snapshot(snapshot, kept, bought)


def drawn(features: pd.DataFrame) -> pd.DataFrame:
    """The customers of whom anything is known; of many, a sample. A copy: the whole frame may go."""
    there = np.flatnonzero(has_facts(features))
    if len(there) > MOST_ROWS:
        there = np.sort(there[np.random.default_rng(7).choice(len(there), MOST_ROWS, replace=False)])
    return features.iloc[there]


def stack(snapshots: Sequence[Snapshot]) -> tuple[pd.DataFrame, np.ndarray]:
    """All rows, and who bought."""
    if not snapshots:
        return pd.DataFrame(), np.zeros(0, dtype=int)
    return pd.concat([s.features for s in snapshots]), np.concatenate([s.bought for s in snapshots])
