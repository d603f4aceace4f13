"""Training the propensity of a horizon, judging it on past dates, and calibrating it for the coming days.

Learned from snapshots of the past whose label windows had closed by as_of. On each date of the backtest
(`judged_dates`), models learn from what was closed then. Trees and logistic are blended as fits these dates best, and
serve if their mean average precision there beats the RFM logistic's: of each half of the customers with the blend that
fits the other half best. The model that serves is trained again on all closed snapshots, unless what is in service was
better (publication.py). It is calibrated (Platt 1999) by what the models of the backtest said: by the newest date alone
where windows are long, else with one slope for all, and an intercept that is smoothed over them, the newest counting
most; what season.py sees coming is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from controltower.models import calibration, publication
from controltower.models.base import Outcome
from controltower.models.boosting import telling
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
    in_service: publication.InService[Classifier] = publication.nothing,
) -> Outcome:
    """The propensity model of a horizon in days.

    today: features as of as_of, for drift, and for a rate where no label window has closed.
    purchases: customer_id, second (epoch), for season and days of the week; without them neither is known.
    """
    there = list(snapshots)
    learned = closed_by(there, as_of, horizon, SNAPSHOTS)
    x, y = stack(learned)
    if not judging.enough(y) or not telling(x):
        return _base_rate(horizon, learned, today)
    splits = judging.backtest(there, judged_dates(as_of, horizon), horizon)
    weight = judging.best_weight(splits) if splits else judging.WEIGHTS[0]
    judged, baseline = judging.blended(splits), [s.baseline for s in splits]
    ours, theirs = (judging.metrics(splits, z) if splits else {} for z in (judged, baseline))
    won = bool(splits) and ours["average_precision"] > theirs["average_precision"]
    model: Classifier
    if won:
        model = TreesAndLogistic()
        model.weight = weight
    else:
        model = RfmLogistic()
    model.fit(x, y)
    outlook = _calibrate(model, horizon, as_of, splits, weight if won else None, purchases)
    outcome = Outcome(
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
            "calibration": {"slope": round(model.calibration[0], 4), "intercept": round(model.calibration[1], 4),
                            "outlook": outlook},
            "drift": _drift(model, learned[0], today),
        },
    )  # fmt: skip
    served = judged if won else baseline
    asked = [_date(*one) for one in zip(splits, served, judged, judging.calibrated(splits, served), strict=True)]
    return publication.no_loss(outcome, as_of, in_service, asked)


def _date(
    split: judging.Split, scores: np.ndarray, challenger: np.ndarray, said: np.ndarray | None
) -> publication.Date[Classifier]:
    precision = judging.precision_of(split.bought)
    everybody = np.ones(len(scores), dtype=bool)
    return publication.Date(
        split.as_of,
        split.customers,
        scores,
        lambda model: model.asked(split.snapshot.features),
        precision,
        {
            "average_precision": round(precision(challenger, everybody), 5),
            "baseline_average_precision": round(precision(split.baseline, everybody), 5),
        },
        None if said is None else publication.Beside(said, split.bought),
        lambda model: publication.Beside(model.predict(split.snapshot.features, split.as_of), split.bought),
    )


def _calibrate(
    model: Classifier,
    horizon: int,
    as_of: datetime,
    splits: Sequence[judging.Split],
    weight: float | None,
    purchases: pd.DataFrame,
) -> dict[str, Any]:
    """Set slope, intercept and days of the week; what was expected of the coming window, for the card.

    weight: the logistic's, of the blend that serves; None where the baseline does.
    """
    coming = season.outlook(season.rates(purchases, as_of, horizon))
    if horizon < 7:
        model.trained, model.daily = as_of.timestamp(), season.weekdays(purchases, as_of)
    # the buyers of one day are few: they count for less than a week's
    level = coming.level if horizon >= 7 else coming.level / 2
    used = splits[:1] if level == 1 else splits
    slope, asked = 1.0, [0.0]
    if sum(int(s.bought.sum()) for s in used) >= judging.FEWEST_POSITIVES:
        scores = [s.baseline if weight is None else s.ours(weight) for s in used]
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
        **calibration.drift(before, after),
        "features_stability": judging.drift(newest.features, now, model.columns.tolist()),
    }


def _base_rate(horizon: int, learned: Sequence[Snapshot], today: pd.DataFrame) -> Outcome:
    if not learned:
        x, y = today, (today["days_since_last_order"] <= horizon).to_numpy().astype(int)
        why = (
            f"No label window of {horizon} days has closed since the first facts: everyone gets the share that bought"
            " lately."
            if today["days_since_last_order"].notna().any()
            else "Nobody has bought yet, so nothing tells who will: everyone gets nearly 0."
        )
    else:
        x, y = stack(learned)
        why = f"{int(y.sum())} of {len(y)} rows in closed label windows bought: "
        why += "no feature differs between them" if judging.enough(y) else "too few of one kind to learn from"
        why += ", so everyone gets their share."
    return Outcome.untried(
        name=f"propensity_{horizon}d",
        model=BaseRate().fit(x, y),
        challenger=TreesAndLogistic,
        why=why,
        metric="average_precision",
        rows={"rows": len(y), "positives": int(y.sum()), "snapshots": len(learned), "tried": 0},
        window=(learned[-1].as_of, learned[0].as_of + timedelta(days=horizon)) if learned else None,
    )
