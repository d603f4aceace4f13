"""Training value: on past dates whose 30 days are over, and judged on the newer of them beside the naive rate.

The season is what the shop took of what BG/NBD and gamma-gamma, fitted on what was known then, expected of known
customers: in the 30 days that began a year (52 weeks) ago where the data reach so far back, else in the past dates'
30 days, the newest weighing most. The fewer customers it hangs on, the nearer it is to 1. Trees learn each date's
amounts divided by that date's ratio: what differs between customers, not between seasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd

from controltower.models import calibration, publication
from controltower.models.base import Outcome
from controltower.models.propensity import MOST_ROWS
from controltower.models.value.model import SHORT, Average, Lifetime, NaiveRate, Value

NAME = "clv"
STEP = timedelta(days=28)  # so that the windows hardly overlap
CLOSED = timedelta(days=35)  # weeks that hold the 30 days: then the dates are among those of the propensities
SNAPSHOTS = 7
JUDGED = 5  # of them, the newest
YEAR = timedelta(days=364)
ENOUGH = timedelta(days=90)  # of facts before a date a year ago
FEWEST_BUYERS = 50
FEWEST_AGAIN = 20  # customers who bought twice
SHARES = (0.0, 0.25, 0.5, 0.75)
FADING = 0.3  # weight of a window beside that of the next newer one, in the season
SPREAD = 0.3  # how far seasons are from 1 in general, in logarithms


@dataclass(frozen=True)
class Snapshot:
    """Summaries of the buyers known as of a date, the net amount of each within 30 days after, and their features.

    `features` has a row for each of the summaries; it has no columns where only the season is asked for.
    """

    as_of: datetime
    summaries: pd.DataFrame
    spent: np.ndarray
    features: pd.DataFrame


@dataclass(frozen=True)
class _Seen:
    """A snapshot with what the probability models, fitted on its summaries, expected; and its season."""

    snapshot: Snapshot
    model: Lifetime
    plain: np.ndarray

    @property
    def ratio(self) -> tuple[float, float]:
        """The logarithm of spent by expected, and its error's variance."""
        total, spent = float(self.plain.sum()), float(self.snapshot.spent.sum())
        if total <= 0 or spent <= 0:
            return 0.0, 1.0
        return float(np.log(spent / total)), float(((self.snapshot.spent - self.plain) ** 2).sum()) / total**2


def snapshot_times(as_of: datetime, first: datetime) -> list[datetime]:
    """The dates that `train` learns from, newest first: their 30 days are over, two weeks of facts at least."""
    times = [as_of - CLOSED - k * STEP for k in range(SNAPSHOTS)]
    return [t for t in times if t >= first + timedelta(days=14)]


def season_times(as_of: datetime, first: datetime) -> list[datetime]:
    """The dates a year before as_of, and before those that are judged, where the data reach. No features are needed."""
    dates = [as_of, *(as_of - CLOSED - k * STEP for k in range(JUDGED))]
    return [t - YEAR for t in dates if t - YEAR >= first + ENOUGH]


def label(as_of: datetime, summaries: pd.DataFrame, window: pd.DataFrame, features: pd.DataFrame) -> Snapshot:
    """A snapshot from `read_summaries` and `read_window` (SHORT days) of its date, and features (index customer_id)."""
    summaries = _drawn(summaries)
    spent = window.set_index("customer_id")["amount"].reindex(summaries["customer_id"]).fillna(0.0)
    return Snapshot(as_of, summaries, spent.to_numpy(float), features.reindex(summaries["customer_id"]))


def train(
    as_of: datetime,
    summaries: pd.DataFrame,
    snapshots: Iterable[Snapshot],
    seasons: Iterable[Snapshot],
    in_service: publication.InService[Value] = publication.nothing,
) -> Outcome:
    """The value model. `summaries` as of as_of; `snapshots` and `seasons` of the dates that the functions above say."""
    again = int((summaries["purchases"] > 1).sum())
    closed = sorted((s for s in snapshots if s.as_of + timedelta(days=SHORT) <= as_of), key=lambda s: s.as_of)[::-1]
    if len(summaries) < FEWEST_BUYERS or again < FEWEST_AGAIN or not (summaries["amount"] > 0).any():
        return _average(summaries, again)
    seen = [one for one in map(_look, closed) if one]
    yearly = {one.snapshot.as_of: one for one in map(_look, seasons) if one}
    share, judged = _judge(seen, yearly)
    model = _assemble(Lifetime().fit(_drawn(summaries)), as_of, seen, yearly, share)
    ours, theirs = (
        _mean([measures(one.said[kind.name], one.spent) for one in judged]) for kind in (Lifetime, NaiveRate)
    )
    won = bool(judged) and ours["decile_error"] < theirs["decile_error"]
    if not judged:
        why = "No 30 days after enough purchases are over yet, so it wasn't tried: the naive rate serves."
    else:
        compared = (
            f"decile error {ours['decile_error']:.3f} against {theirs['decile_error']:.3f}, bias {ours['bias']:.2f}"
            f" against {theirs['bias']:.2f} on {len(judged)} past dates"
        )
        why = f"It beat the naive rate: {compared}." if won else f"It lost, so the naive rate serves: {compared}."
    served: Value = model if won else NaiveRate().fit(summaries)
    outcome = Outcome(
        name=NAME,
        model=served,
        challenger=Lifetime.name,
        published=won,
        why=why,
        metric="decile_error",
        metrics=ours,
        baseline=NaiveRate.name,
        baseline_metrics=theirs,
        window=(closed[-1].as_of, as_of) if closed else None,
        rows={"customers": len(summaries), "bought_again": again, "snapshots": len(seen)},
        details={
            "lower_is_better": True,
            "season": round(model.season, 4),
            "season_from": "a year ago" if as_of - YEAR in yearly else "past windows, the newest most",
            "share_of_trees": share,
            "purchasing": {k: round(v, 5) for k, v in model.purchases._asdict().items()},
            "spending": {k: round(v, 5) for k, v in model.amounts._asdict().items()},
            "drift": calibration.drift(seen[0].plain, model.plain(summaries)) if seen else {},
        },
    )
    dates = [_date(one, Lifetime if won else NaiveRate) for one in judged]
    return publication.no_loss(outcome, as_of, in_service, dates, lower_is_better=True)


class _Judged(NamedTuple):
    """A past date: the customers by whom nothing was chosen, what they spent, and what each kind had said by name."""

    as_of: datetime
    summaries: pd.DataFrame
    features: pd.DataFrame
    spent: np.ndarray
    said: dict[str, pd.DataFrame]

    def got(self, kind: type[Value]) -> dict[str, float]:
        return measures(self.said[kind.name], self.spent)


def _date(one: _Judged, kind: type[Value]) -> publication.Date[Value]:
    def decile_error(said: pd.DataFrame, rows: np.ndarray) -> float:
        return measures(said[rows], one.spent[rows])["decile_error"]

    def beside(said: pd.DataFrame) -> publication.Beside:
        return publication.Beside(said["clv_30d"].to_numpy(float), one.spent)

    ours, theirs = one.got(Lifetime), one.got(NaiveRate)
    figures: dict[str, float] = {}
    for metric in ("decile_error", "bias"):
        figures |= {metric: ours[metric], f"baseline_{metric}": theirs[metric]}
    return publication.Date(
        one.as_of, one.summaries["customer_id"].to_numpy(), one.said[kind.name],
        lambda model: model.asked(one.summaries, one.features), decile_error, figures,
        beside(one.said[kind.name]), lambda model: beside(model.asked(one.summaries, one.features)),
    )  # fmt: skip


def _mean(measured: Sequence[dict[str, float]]) -> dict[str, float]:
    return {m: round(float(np.mean([v[m] for v in measured])), 5) for m in (measured[0] if measured else {})}


def measures(predicted: pd.DataFrame, spent: np.ndarray, name: str = "clv_30d") -> dict[str, float]:
    """What `predict` said in the column `name` beside what was spent within its days.

    `bias`: sum of the predicted by that of the spent. `decile_error`: customers in ten equal groups by prediction, the
    sum of what the groups' totals are off by, as a share of the spent. `top_tenth`: share of the spent by the tenth
    predicted most. `covered`: share of customers within the interval; `above`: beyond its upper end.
    """
    clv, total = predicted[name].to_numpy(float), spent.sum()
    groups = np.array_split(np.argsort(clv, kind="stable"), 10)
    low, high = (predicted[f"{name}_{end}"].to_numpy(float) for end in ("low", "high"))
    found = {
        "bias": clv.sum() / total,
        "decile_error": sum(abs(clv[g].sum() - spent[g].sum()) for g in groups) / total,
        "top_tenth": np.maximum(spent[groups[-1]], 0).sum() / np.maximum(spent, 0).sum(),
        "covered": ((np.maximum(spent, 0) >= low) & (spent <= high)).mean(),
        "above": (spent > high).mean(),
    }
    return {name: round(float(value), 5) for name, value in found.items()}


def _drawn(summaries: pd.DataFrame) -> pd.DataFrame:
    """A sample of many customers: it tells four parameters as well."""
    if len(summaries) <= MOST_ROWS:
        return summaries
    at = np.random.default_rng(7).choice(len(summaries), MOST_ROWS, replace=False)
    return summaries.iloc[np.sort(at)]


def _look(snapshot: Snapshot) -> _Seen | None:
    """None where too few had bought by then."""
    rows = snapshot.summaries
    if len(rows) < FEWEST_BUYERS or (rows["purchases"] > 1).sum() < FEWEST_AGAIN or not (rows["amount"] > 0).any():
        return None
    model = Lifetime().fit(rows)
    return _Seen(snapshot, model, model.plain(rows))


def _assemble(
    model: Lifetime, as_of: datetime, seen: Sequence[_Seen], yearly: Mapping[datetime, _Seen], share: float
) -> Lifetime:
    """The model as of a date: with trees of the snapshots that were over then, and a season."""
    over = [s for s in seen if s.snapshot.as_of + timedelta(days=SHORT) <= as_of]
    model.season = _season([yearly[as_of - YEAR]] if as_of - YEAR in yearly else over)
    if over:
        model.fit_trees(
            pd.concat([s.snapshot.features for s in over]),
            np.concatenate([s.plain for s in over]),
            np.concatenate([s.snapshot.spent / _season([s]) for s in over]),
        )
    model.share = share if model.trees is not None else 0.0
    return model


def _season(seen: Sequence[_Seen]) -> float:
    """Spent by expected of some windows, the newest first, shrunk towards 1 by how little they tell."""
    if not seen:
        return 1.0
    weights = FADING ** np.arange(len(seen))
    logs, noise = np.average(np.array([s.ratio for s in seen]), axis=0, weights=weights)
    return float(np.exp(logs * SPREAD**2 / (SPREAD**2 + noise)))


def _judge(seen: Sequence[_Seen], yearly: Mapping[datetime, _Seen]) -> tuple[float, list[_Judged]]:
    """The share of the trees, chosen on one half of the customers; and the dates, of the other half."""
    tried = []
    for one in seen[:JUDGED]:
        at = one.snapshot.as_of
        if one.snapshot.spent.sum() <= 0:
            continue
        tried.append((one, _assemble(one.model, at, seen, yearly, 0.0)))
    loss = dict.fromkeys(SHARES, 0.0)
    for one, model in tried:
        half = _choosing(one.snapshot)
        trees = model.by_trees(one.snapshot.features, one.plain)
        for share in SHARES:
            mixed = model.season * ((1 - share) * one.plain + share * trees)
            loss[share] += _deviance(one.snapshot.spent[half], mixed[half])
    share = min(loss, key=lambda s: loss[s]) if tried else 0.0
    judged = []
    for one, model in tried:
        model.share = share if model.trees is not None else 0.0
        judging = ~_choosing(one.snapshot)
        rows, spent = one.snapshot.summaries[judging], one.snapshot.spent[judging]
        if spent.sum() <= 0 or len(rows) < FEWEST_BUYERS:
            continue
        features = one.snapshot.features[judging]
        said = {k.name: k.asked(rows, features) for k in (model, NaiveRate().fit(rows))}
        judged.append(_Judged(one.snapshot.as_of, rows, features, spent, said))
    return share, judged


def _choosing(snapshot: Snapshot) -> np.ndarray:
    return publication.half(snapshot.summaries["customer_id"].to_numpy())


def _deviance(spent: np.ndarray, expected: np.ndarray) -> float:
    """Mean quasi-Poisson deviance over the mean amount, so that no currency's size counts."""
    y, mu = np.maximum(spent, 0.0), np.maximum(expected, 1e-9)
    scale = max(float(y.mean()), 1e-9)
    return float((mu - y * np.log(mu / scale)).mean() / scale)


def _average(summaries: pd.DataFrame, again: int) -> Outcome:
    if not len(summaries):
        why = "Nobody has bought yet, so no value can be told."
    elif not again:
        why = (
            f"None of {len(summaries)} customers has bought twice, so how often people come back is not known: everyone"
            " gets the shop's average, which is a guess."
        )
    else:
        why = (
            f"Only {again} of {len(summaries)} customers bought twice ({FEWEST_AGAIN} of {FEWEST_BUYERS} are needed):"
            " everyone gets the shop's average."
        )
    rows = {"customers": len(summaries), "bought_again": again, "snapshots": 0}
    return Outcome.untried(NAME, Average().fit(summaries), Lifetime, why, "decile_error", rows)
