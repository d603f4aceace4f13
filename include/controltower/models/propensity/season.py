"""How many will buy of those known: the base rate that probabilities are shifted to.

One week is noisy (a bank holiday in it would halve everyone's probability), and when the season turns, a window of 28
days lags. So what the model says too much or too little of is smoothed over the dates of the backtest; and where it
would have told past weeks better, a part of the recent trend and of what happened at this time a year ago is added
(simple exponential smoothing and its damped trend: Hyndman and Athanasopoulos, Forecasting: principles and practice,
8.1 and 8.2). Probabilities get there by a shift of the log-odds, which approximates conditioning on the total
(Rosenman, McCartan and Olivella 2021, arXiv 2112.06674).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

DAY = 86_400
WEEK = 7 * DAY
YEAR = 52  # weeks
# Weight of the newest weekly window: then they are two weeks old on average. The newest of 28 days alone is, too.
LEVEL = 0.3
TRENDS = (0.0, 0.5, 1.0)
SEASONS = (0.0, 0.5, 1.0)
NEITHER = (0.0, 0.0)
JUDGED = 26  # past weeks
FEWEST_JUDGED = 8
SURELY = 0.9  # trend or season must have less than this part of the squared error without them
FEWEST_BUYERS = 10  # in a window: with fewer its rate tells nothing
SMOOTHED = 16  # windows


class Rates(NamedTuple):
    """Weekly rates, newest first: entry k is of the windows that begin at as_of - 7 (k + 1) days. NaN: not closed.

    `window` is the share of known customers who bought within the horizon (of one day: the mean of seven such days);
    `week` the same of seven days, in which the trend is seen first.
    """

    window: np.ndarray
    week: np.ndarray
    lag: int  # weeks until a window is closed


def rates(purchases: pd.DataFrame, as_of: datetime, horizon: int) -> Rates:
    """Of purchases (customer_id, second) before as_of. A customer is known from the first purchase on."""
    end = int(as_of.timestamp())
    past = purchases[purchases["second"] <= end].sort_values("second")
    second, who = past["second"].to_numpy(np.int64), pd.factorize(past["customer_id"])[0]
    first = np.full(who.max() + 1 if len(who) else 0, np.iinfo(np.int64).max)
    np.minimum.at(first, who, second)
    known_at = np.sort(first)
    weeks = int((end - second[0]) // WEEK) if len(second) else 0
    lag = max(1, -(-horizon // 7))
    window, week = np.full(weeks, np.nan), np.full(weeks, np.nan)

    def share(start: int, days: int) -> float:
        low, high = np.searchsorted(second, [start, start + days * DAY], side="right")
        there = np.unique(who[low:high])
        buyers, known = int((first[there] <= start).sum()), int(np.searchsorted(known_at, start, side="right"))
        return buyers / known if known and buyers else np.nan

    for k in range(weeks):
        start = end - (k + 1) * WEEK
        if np.searchsorted(known_at, start, side="right") < FEWEST_BUYERS:
            break
        week[k] = share(start, 7)
        if horizon < 7:
            days = [share(start + d * DAY, horizon) for d in range(7)]
            window[k] = np.nan_to_num(days).mean() or np.nan
        elif k + 1 >= lag:
            window[k] = share(start, horizon)
    return Rates(window, week, lag)


class Outlook(NamedTuple):
    """What to expect of the coming window: the weight of the newest of the past weekly windows in the smoothed level,
    and what trend and season add to that level in logarithms. `said` is for the card."""

    level: float
    ahead: float
    said: dict[str, Any]


def outlook(found: Rates) -> Outlook:
    """How past weeks would have been told best: trend and season are judged on what was known then."""
    window, week = np.log(found.window), np.log(found.week)
    judged = [k for k in range(found.lag - 1, min(len(window), found.lag - 1 + JUDGED)) if np.isfinite(window[k])]
    level = LEVEL if found.lag == 1 else 1.0
    tried: dict[tuple[float, float], float] = {}
    for how in product(TRENDS, SEASONS):
        errors = [_forecast(window, week, k + 1, found.lag, level, *how) - window[k] for k in judged]
        told = [e * e for e in errors if np.isfinite(e)]
        if len(told) >= max(FEWEST_JUDGED, len(judged) // 2):  # else it would be judged on other weeks
            tried[how] = float(np.mean(told))
    best = min(tried, key=lambda how: tried[how]) if tried else NEITHER
    chosen = best if tried and tried[best] < SURELY * tried.get(NEITHER, np.inf) else NEITHER
    trend, season = chosen
    told_now = [_forecast(window, week, 0, found.lag, level, *how) for how in (chosen, NEITHER)]
    ahead = told_now[0] - told_now[1]
    said: dict[str, Any] = {"level": level, "trend": trend, "season": season}
    if not np.isfinite(ahead):  # a year ago isn't known of this week
        ahead, said = 0.0, said | {"trend": 0.0, "season": 0.0}
    said["ahead"] = round(float(ahead), 4)
    if chosen in tried:
        said |= {"error": round(tried[chosen] ** 0.5, 4), "judged_weeks": len(judged)}
    return Outlook(level, float(ahead), said)


def smoothed(values: Sequence[float], level: float) -> float:
    """Newest first; each older one weighs 1 - level of the one after."""
    if level >= 1:
        return float(values[0])
    return float(np.average(values, weights=(1 - level) ** np.arange(len(values))))


def _forecast(
    window: np.ndarray, week: np.ndarray, at: int, lag: int, level: float, trend: float, season: float
) -> float:
    """Log rate of the window that begins `at` weeks before as_of, from those closed by then."""
    closed = window[at + lag - 1 :][:SMOOTHED]
    closed = closed[np.isfinite(closed)]
    if len(closed) < 2:
        return np.nan
    told = smoothed(closed.tolist(), level)
    if trend:
        lately = week[at : at + 8]
        told += trend * float(lately[:2].mean() - lately.mean()) if len(lately) == 8 else np.nan
    if season:
        then, before = at - 1 + YEAR, at - 1 + YEAR + lag
        told += season * float(window[then] - window[before]) if at >= 0 and before < len(window) else np.nan
    return told


def weekdays(purchases: pd.DataFrame, as_of: datetime, weeks: int = 8) -> np.ndarray:
    """Seven log factors: how the number of buyers on the first, second, ... day after as_of (and each week on) departs
    from the mean day's, by the last weeks; shrunk by one day's worth of buyers."""
    end = int(as_of.timestamp())
    past = purchases[(purchases["second"] <= end) & (purchases["second"] > end - weeks * WEEK)]
    day = (past["second"].to_numpy(np.int64) - end - 1) // DAY  # -1: the last day before as_of
    pairs = pd.DataFrame({"who": past["customer_id"].to_numpy(), "day": day}).drop_duplicates()
    counts = np.bincount(pairs["day"].to_numpy(np.int64) % 7, minlength=7).astype(float)
    mean = counts.mean()
    return np.log((counts + mean / weeks) / (mean + mean / weeks)) if mean else np.zeros(7)


def of_day(factors: Sequence[float] | np.ndarray, trained: datetime | float, at: datetime) -> float:
    """The factor of the day that begins at a moment, of factors counted from when the model was trained."""
    begin = trained.timestamp() if isinstance(trained, datetime) else trained
    return float(factors[round((at.timestamp() - begin) / DAY) % 7])
