"""Training who becomes a customer: on past dates whose windows had closed, judged on the newest of them.

All closed dates tell who is likelier, the newest how many there are: shops grow and seasons turn. On each judged date
both learn from what was closed then; the challenger serves where its mean average precision beats the last visit's,
unless what was in service was better (publication.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

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
    """What two kinds said of a date; `rows`: their figures for the card."""

    snapshot: Snapshot
    said: dict[str, np.ndarray]
    rows: dict[str, dict[str, Any]]


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
) -> Outcome:
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
        {name: _mean([one.rows[kind.name][name] for one in judged]) for name in METRICS if judged} for kind in TRIED
    )
    won = bool(judged) and ours["average_precision"] > theirs["average_precision"]
    kind = Likeness if won else LastVisit
    said = [one.said[kind.name] for one in judged]
    came = [one.snapshot.became for one in judged]
    table = calibration.table(np.concatenate(said), np.concatenate(came)) if judged else []
    outcome = Outcome(
        name=NAME,
        model=_learned(kind, there),
        challenger=Likeness.name,
        published=won,
        why=_why(won, ours, theirs, len(judged)),
        metric="average_precision",
        metrics=ours,
        baseline=LastVisit.name,
        baseline_metrics=theirs,
        window=(there[-1].as_of, there[0].as_of + timedelta(days=Acquisition.DAYS)),
        rows=rows,
        details={"backtest": [one.rows[kind.name] for one in judged], "calibration": {"table": table}},
    )
    dates = [_date(one.snapshot, p) for one, p in zip(judged, said, strict=True)]
    return publication.no_loss(outcome, as_of, in_service, dates)


def _judge(snapshots: Sequence[Snapshot]) -> list[Judged]:
    """The newest dates on which there was enough to learn from, by what was closed by then."""
    found = []
    for snapshot in snapshots[:JUDGED]:
        closed = snapshot.as_of - timedelta(days=Acquisition.DAYS)
        before = [s for s in snapshots if s.as_of <= closed]
        if not _enough(_stack(before)[1]) or not 0 < snapshot.became.sum() < len(snapshot.became):
            continue
        said = {kind.name: _learned(kind, before).predict(snapshot.people) for kind in TRIED}
        found.append(Judged(snapshot, said, {name: _row(snapshot, p) for name, p in said.items()}))
    return found


def _row(snapshot: Snapshot, p: np.ndarray) -> dict[str, Any]:
    return {
        "as_of": snapshot.as_of.isoformat(), "people": len(p), "became": int(snapshot.became.sum()),
        "average_precision": round(float(average_precision_score(snapshot.became, p)), 5),
        "auc": round(float(roc_auc_score(snapshot.became, p)), 5),
        "expected": round(float(p.sum()), 2), "variance": round(float((p * (1 - p)).sum()), 2),
    }  # fmt: skip


def _learned(kind: type[Acquisition], snapshots: Sequence[Snapshot]) -> Acquisition:
    model, newest = kind().fit(*_stack(snapshots)), snapshots[0]
    return model.level(newest.people, newest.became) if _enough(newest.became) else model


def _date(snapshot: Snapshot, said: np.ndarray) -> publication.Date[Acquisition]:
    def precision(p: np.ndarray, rows: np.ndarray) -> float:
        return float(average_precision_score(snapshot.became[rows], p[rows]))

    ids = snapshot.people["person"].to_numpy(object)
    return publication.Date(snapshot.as_of, ids, said, lambda model: model.predict(snapshot.people), precision)


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
