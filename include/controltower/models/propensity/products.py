"""How likely a customer buys something of a set (a category, a brand, a collection, a list) within the next days.

The overall propensity says whether the customer buys; what the customer bought and looked at says whether it is of the
set. A small logistic puts the two together, learned on past snapshots whose windows had closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from controltower.models.propensity.classifiers import Classifier, has_facts, log_odds
from controltower.models.propensity.judging import enough

DAY = 86_400
STRENGTH = 10.0  # order lines that everyone's share of the set weighs
LATELY = 30  # days
LONG_AGO = 3650.0  # days, for who never bought of the set


class OfProducts(NamedTuple):
    """p: by customer_id of the frame of as_of; learned: from the set's own buyers, else p is the overall propensity x
    the own share of the set; buyers: rows of the past snapshots that bought of it."""

    p: pd.Series
    learned: bool
    buyers: int


def for_products(
    model: Classifier,
    horizon: int,
    as_of: datetime,
    frames: Mapping[datetime, pd.DataFrame],
    lines: pd.DataFrame,
    looks: pd.DataFrame | None = None,
) -> OfProducts:
    """Probability of an order line of the set within `horizon` days after as_of.

    model: the overall propensity of the same horizon
    frames: features by date: of as_of, and of past snapshots; those whose windows had closed by as_of are learned from
    lines: customer_id, second (epoch), inside (is the product of the set): order lines, returns left out
    looks: customer_id, second: views and carts of products of the set

    Never above the overall propensity, and 0 where nobody ever bought of the set. With too few buyers of the set to
    learn from it is the overall propensity x the own share of the set, shrunk to everyone's (empirical Bayes).
    Raises KeyError where frames lack as_of.
    """
    today, overall, naive = _inputs(model, as_of, frames[as_of], lines, looks)
    if not (lines.loc[lines["inside"], "second"] <= as_of.timestamp()).any():
        return OfProducts(pd.Series(0.0, index=frames[as_of].index), False, 0)
    x, y = [], []
    for date, frame in sorted(frames.items()):
        if date + timedelta(days=horizon) <= as_of:
            known = frame[has_facts(frame)]
            start = int(date.timestamp())
            there = lines["inside"] & (lines["second"] > start) & (lines["second"] <= start + horizon * DAY)
            x.append(_inputs(model, date, known, lines, looks)[0])
            y.append(known.index.isin(lines.loc[there, "customer_id"].unique()).astype(int))
    bought = np.concatenate(y) if y else np.zeros(0)
    if not enough(bought):
        return OfProducts(pd.Series(naive, index=frames[as_of].index), False, int(bought.sum()))
    rows = np.concatenate(x)
    mean, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-9)
    learned = LogisticRegression(C=1.0).fit((rows - mean) / spread, bought)
    p = learned.predict_proba((today - mean) / spread)[:, 1]
    return OfProducts(pd.Series(np.minimum(p, overall), index=frames[as_of].index), True, int(bought.sum()))


def _inputs(
    model: Classifier, date: datetime, features: pd.DataFrame, lines: pd.DataFrame, looks: pd.DataFrame | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the logistic reads as of a date, the overall propensity, and that x the own shrunk share of the set."""
    now = date.timestamp()
    past = lines[lines["second"] <= now]
    own = past[past["inside"]]
    count = lambda rows: rows.groupby("customer_id").size().reindex(features.index).fillna(0).to_numpy(float)  # noqa: E731
    everyone = (len(own) + 0.5) / (len(past) + 1)
    share = (count(own) + STRENGTH * everyone) / (count(past) + STRENGTH)
    last = own.groupby("customer_id")["second"].max().reindex(features.index).to_numpy(float)
    since = np.nan_to_num((now - last) / DAY, nan=LONG_AGO)
    looked = np.zeros(len(features))
    if looks is not None and len(looks):
        looked = count(looks[(looks["second"] <= now) & (looks["second"] > now - LATELY * DAY)])
    overall = model.predict(features, date)
    x = np.column_stack([
        log_odds(overall), np.log(share), np.log1p(count(own)), np.log1p(since), np.log1p(looked), looked > 0,
    ])  # fmt: skip
    return x, overall, overall * share
