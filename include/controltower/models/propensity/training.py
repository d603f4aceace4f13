"""Training the propensity of a horizon, judging it on past dates, and calibrating it for the coming days.

Learned from snapshots of the past whose label windows had closed by as_of. On each date of the backtest
(`judged_dates`), models learn from what was closed then. Trees and logistic are blended as fits these dates best, and
serve if their mean average precision there beats the RFM logistic's. The model that serves is trained again on all
closed snapshots. It is calibrated (Platt 1999) by what the models of the backtest said: by the newest date alone where
windows are long, else with one slope for all, and an intercept that is smoothed over them, the newest counting most;
what season.py sees coming is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from controltower.models.base import Outcome
from controltower.models.propensity import judging, season
from controltower.models.propensity.classifiers import (
    BaseRate,
    Classifier,
    RfmLogistic,
    TreesAndLogistic,
    has_facts,
    log_odds,
)
from controltower.models.propensity.snapshots import SNAPSHOTS, Snapshot, closed_by, judged_dates, stack

NOTHING = pd.DataFrame({"customer_id": pd.Series(dtype=str), "second": pd.Series(dtype=np.int64)})


def train(
    horizon: int,
    as_of: datetime,
    snapshots: Iterable[Snapshot],
    today: pd.DataFrame,
    purchases: pd.DataFrame = NOTHING,
) -> Outcome:
    """The propensity model of a horizon in days.

    today: features as of as_of, for drift, and for a rate where no label window has closed.
    purchases: customer_id, second (epoch), for season and days of the week; without them neither is known.
    """
    there = list(snapshots)
    learned = closed_by(there, as_of, horizon, SNAPSHOTS)
    x, y = stack(learned)
    if not judging.enough(y):
        return _base_rate(horizon, learned, today)
    splits = judging.backtest(there, judged_dates(as_of, horizon), horizon)
    weight = judging.best_weight(splits) if splits else judging.WEIGHTS[0]
    blended = [s.ours(weight) for s in splits]
    ours, theirs = (judging.metrics(splits, z) if splits else {} for z in (blended, [s.baseline for s in splits]))
    won = bool(splits) and ours["average_precision"] > theirs["average_precision"]
    model: Classifier
    if won:
        model = TreesAndLogistic()
        model.weight = weight
    else:
        model = RfmLogistic()
    model.fit(x, y)
    outlook = _calibrate(model, horizon, as_of, splits, blended if won else None, purchases)
    dates, table = judging.report(splits, blended)
    return Outcome(
        name=f"propensity_{horizon}d",
        model=model,
        challenger=TreesAndLogistic.name,
        published=won,
        why=_why(won, len(splits), ours, theirs),
        metric="average_precision",
        metrics=ours,
        baseline=RfmLogistic.name,
        baseline_metrics=theirs,
        window=(learned[-1].as_of, learned[0].as_of + timedelta(days=horizon)),
        rows={
            "rows": len(y), "positives": int(y.sum()), "snapshots": len(learned),
            "tried": sum(len(s.bought) for s in splits),
        },
        details={
            "snapshots": [s.as_of.isoformat() for s in learned],
            "columns": model.columns.tolist(),
            "logistic_weight": weight,
            "backtest": dates,
            "calibration": {"slope": round(model.calibration[0], 4), "intercept": round(model.calibration[1], 4),
                            "outlook": outlook, "table": table},
            "drift": _drift(model, learned[0], today),
        },
    )  # fmt: skip


def _calibrate(
    model: Classifier,
    horizon: int,
    as_of: datetime,
    splits: Sequence[judging.Split],
    blended: Sequence[np.ndarray] | None,
    purchases: pd.DataFrame,
) -> dict[str, Any]:
    """Set slope, intercept and days of the week; what was expected of the coming window, for the card."""
    coming = season.outlook(season.rates(purchases, as_of, horizon))
    if horizon < 7:
        model.trained, model.daily = as_of.timestamp(), season.weekdays(purchases, as_of)
    # the buyers of one day are few: they count for less than a week's
    level = coming.level if horizon >= 7 else coming.level / 2
    used = splits[:1] if level == 1 else splits
    slope, asked = 1.0, [0.0]
    if sum(int(s.bought.sum()) for s in used) >= judging.FEWEST_POSITIVES:
        scores = [s.baseline for s in used] if blended is None else blended[: len(used)]
        slope, intercepts, _ = judging.platt(scores, [s.bought for s in used])
        # each as if of the day of the week that begins at as_of
        asked = [i - season.of_day(model.daily, as_of, s.as_of) for i, s in zip(intercepts, used, strict=True)]
    model.calibration = slope, season.smoothed(asked, level) + coming.ahead
    return coming.said


def _why(won: bool, dates: int, ours: dict[str, float], theirs: dict[str, float]) -> str:
    if not dates:
        return "Too few purchases before the newest closed label window for a time split: the RFM logistic serves."
    compared = (
        f"average precision {ours['average_precision']:.3f} against {theirs['average_precision']:.3f} on the time split"
        + (f" (mean of {dates} past dates)" if dates > 1 else "")
    )
    return f"It beat the RFM logistic: {compared}." if won else f"It lost, so the RFM logistic serves: {compared}."


def _drift(model: Classifier, newest: Snapshot, today: pd.DataFrame) -> dict[str, Any]:
    """How customers moved from the newest snapshot learned from to today: population stability indices."""
    now = today[has_facts(today)]
    before, after = (log_odds(model.raw(frame)) for frame in (newest.features, now))
    return {
        "score_stability": round(judging.stability(before, after), 4),
        "features_stability": judging.drift(newest.features, now, model.columns.tolist()),
    }


def _base_rate(horizon: int, learned: Sequence[Snapshot], today: pd.DataFrame) -> Outcome:
    if learned:
        x, y = stack(learned)
        why = (
            f"{int(y.sum())} of {len(y)} rows in closed label windows bought: too few of one kind to learn from, so"
            " everyone gets their share."
        )
    else:
        x, y = today, (today["days_since_last_order"] <= horizon).to_numpy().astype(int)
        why = (
            f"No label window of {horizon} days has closed since the shop's first facts: everyone gets the share that"
            " bought lately."
        )
    return Outcome(
        name=f"propensity_{horizon}d",
        model=BaseRate().fit(x, y),
        challenger=TreesAndLogistic.name,
        published=False,
        why=why,
        metric="average_precision",
        metrics={},
        baseline=BaseRate.name,
        baseline_metrics={},
        window=(learned[-1].as_of, learned[0].as_of + timedelta(days=horizon)) if learned else None,
        rows={"rows": len(y), "positives": int(y.sum()), "snapshots": len(learned), "tried": 0},
    )
