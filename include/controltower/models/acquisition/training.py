"""Training who becomes a customer: on past dates whose windows had closed, judged on the newest of them.

All closed dates tell who is likelier, the newest how many there are: shops grow and seasons turn. On each judged date
both learn from what was closed then; the challenger serves where its mean average precision beats the last visit's,
unless what was in service was better (publication.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from controltower.models import calibration, publication
from controltower.models.acquisition.model import Acquisition, Everybody, LastVisit, Likeness
from controltower.models.base import Outcome

NAME = "acquisition"
STEP = 14  # days between past dates
DATES = 8
JUDGED = 3
FEWEST = 20  # first orders
MOST = 40_000  # people a date; of more, a drawn sample
METRICS = ("average_precision", "auc")
TRIED: tuple[type[Acquisition], ...] = (Likeness, LastVisit)


class Snapshot(NamedTuple):
    """People who never had bought by a date (`people.read_people`, `drawn`), and who of them did in the DAYS after."""

    as_of: datetime
    people: pd.DataFrame
    became: np.ndarray


class Judged(NamedTuple):
    """What two kinds said of a date, and their figures."""

    snapshot: Snapshot
    said: dict[str, np.ndarray]
    metrics: dict[str, dict[str, float]]


def times(as_of: datetime, first: datetime) -> list[datetime]:
    """The past dates that are wanted, newest first: closed by as_of, with two weeks of facts before them at least."""
    dates = [as_of - timedelta(days=Acquisition.DAYS + STEP * k) for k in range(DATES)]
    return [t for t in dates if t >= first + timedelta(days=14)]


def drawn(people: pd.DataFrame) -> pd.DataFrame:
    """MOST of the people of a date, or all; what isn't drawn isn't held by the answer."""
    if len(people) <= MOST:
        return people
    at = np.sort(np.random.default_rng(7).choice(len(people), MOST, replace=False))
    return people.iloc[at].reset_index(drop=True)


def train(
    as_of: datetime,
    snapshots: Sequence[Snapshot],
    in_service: publication.InService[Acquisition] = publication.nothing,
    today: pd.DataFrame | None = None,
) -> Outcome:
    """snapshots: newest first; today: people as of as_of, for drift."""
    there = [s for s in snapshots if len(s.people)]
    people, became = _stack(there)
    rows = {"rows": len(became), "positives": int(became.sum()), "snapshots": len(there)}
    if not _enough(became):
        why = (
            f"{int(became.sum())} of {len(became)} people who hadn't bought did so within {Acquisition.DAYS} days of a"
            f" past date: fewer than {FEWEST}, or all, so everybody gets their share."
        )
        return Outcome.untried(NAME, Everybody().fit(people, became), Likeness, why, "average_precision", rows)
    judged = _judge(there)
    ours, theirs = (
        {name: _mean([one.metrics[kind.name][name] for one in judged]) for name in METRICS if judged} for kind in TRIED
    )
    won = bool(judged) and ours["average_precision"] > theirs["average_precision"]
    kind = Likeness if won else LastVisit
    model, before = _learned(kind, there), there[0].people
    drift = {} if today is None else calibration.drift(model.predict(before), model.predict(today))
    outcome = Outcome(
        name=NAME,
        model=model,
        challenger=Likeness.name,
        published=won,
        why=_why(won, ours, theirs, len(judged)),
        metric="average_precision",
        metrics=ours,
        baseline=LastVisit.name,
        baseline_metrics=theirs,
        window=(there[-1].as_of, there[0].as_of + timedelta(days=Acquisition.DAYS)),
        rows=rows,
        details={"drift": drift},
    )
    return publication.no_loss(outcome, as_of, in_service, [_date(one, kind) for one in judged])


def _judge(snapshots: Sequence[Snapshot]) -> list[Judged]:
    """The newest dates on which there was enough to learn from, by what was closed by then."""
    found = []
    for snapshot in snapshots[:JUDGED]:
        closed = snapshot.as_of - timedelta(days=Acquisition.DAYS)
        before = [s for s in snapshots if s.as_of <= closed]
        if not _enough(_stack(before)[1]) or not 0 < snapshot.became.sum() < len(snapshot.became):
            continue
        said = {kind.name: _learned(kind, before).predict(snapshot.people) for kind in TRIED}
        found.append(Judged(snapshot, said, {name: _metrics(snapshot.became, p) for name, p in said.items()}))
    return found


def _metrics(became: np.ndarray, p: np.ndarray) -> dict[str, float]:
    return {
        "average_precision": round(float(average_precision_score(became, p)), 5),
        "auc": round(float(roc_auc_score(became, p)), 5),
    }


def _learned(kind: type[Acquisition], snapshots: Sequence[Snapshot]) -> Acquisition:
    model, newest = kind().fit(*_stack(snapshots)), snapshots[0]
    return model.level(newest.people, newest.became) if _enough(newest.became) else model


def _date(one: Judged, kind: type[Acquisition]) -> publication.Date[Acquisition]:
    snapshot, said = one.snapshot, one.said[kind.name]

    def precision(p: np.ndarray, rows: np.ndarray) -> float:
        return float(average_precision_score(snapshot.became[rows], p[rows]))

    ids = snapshot.people["person"].to_numpy(object)
    figures: dict[str, float] = {}
    for name in METRICS:
        figures[name] = one.metrics[Likeness.name][name]
        figures[f"baseline_{name}"] = one.metrics[LastVisit.name][name]

    def ask(model: Acquisition) -> np.ndarray:
        return model.predict(snapshot.people)

    return publication.Date(
        snapshot.as_of, ids, said, ask, precision, figures, publication.Beside(said, snapshot.became),
        lambda model: publication.Beside(ask(model), snapshot.became),
    )  # fmt: skip


def _why(won: bool, ours: dict[str, float], theirs: dict[str, float], dates: int) -> str:
    if not dates:
        return "Too few first orders before past dates for a time split: the last visit serves."
    compared = (
        f"average precision {ours['average_precision']:.3f} against {theirs['average_precision']:.3f}"
        f" on {dates} past dates"
    )
    return f"It beat the last visit: {compared}." if won else f"It lost, so the last visit serves: {compared}."


def _stack(snapshots: Sequence[Snapshot]) -> tuple[pd.DataFrame, np.ndarray]:
    if not snapshots:
        return pd.DataFrame(), np.zeros(0, dtype=int)
    return pd.concat([s.people for s in snapshots]), np.concatenate([s.became for s in snapshots])


def _enough(became: np.ndarray) -> bool:
    return FEWEST <= int(became.sum()) < len(became)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 5)
