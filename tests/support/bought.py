"""Snapshots of customers whose purchases follow a rule that is known."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
from controltower.models.propensity import Snapshot
from controltower.profiles.features import NAMES

from support.shop_tables import T


def people(rng: np.random.Generator, count: int) -> pd.DataFrame:
    frame = pd.DataFrame(np.nan, index=[f"c{i}" for i in range(count)], columns=list(NAMES))
    frame["days_since_last_order"] = rng.exponential(40, count)
    frame["days_since_first_order"] = frame["days_since_last_order"] + rng.exponential(90, count)
    frame["orders_total"] = rng.poisson(3, count) + 1.0
    frame["revenue_total"] = frame["orders_total"] * rng.lognormal(3, 0.5, count)
    frame["carts_7d"] = rng.binomial(1, 0.15, count).astype(float)
    return frame


def snapshots(horizon: int, informative: bool, count: int = 600, weeks: int = 10) -> list[Snapshot]:
    rng = np.random.default_rng(3)
    made = []
    for week in range(weeks):
        features = people(rng, count)
        if informative:
            odds = 3 * features["carts_7d"] - 2.5
        else:
            odds = 1.0 - 0.8 * np.log1p(features["days_since_last_order"])
        bought = (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(int).to_numpy()
        made.append(Snapshot(T - timedelta(days=horizon + 7 * week), features, bought))
    return made
