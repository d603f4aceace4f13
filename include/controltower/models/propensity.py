"""How likely a customer buys within the next days: gradient boosted trees on all features, against an RFM logistic.

Both learn from weekly snapshots of the past whose label windows had closed by as_of. On the time split, the newest
closed snapshot is the test, and they learn from those whose windows had closed when it was taken. The winner by average
precision is trained again on all closed snapshots; its probabilities are calibrated (Platt 1999) by what the model of
the time split said about the newest one.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Self

import joblib  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from threadpoolctl import threadpool_limits

from controltower.models.base import Model, ModelConfig, Outcome, State

HORIZONS = (7, 28)  # days
SNAPSHOTS = 12  # learned from, a week apart
JUDGED_SNAPSHOTS = 8  # learned from on the time split
STEP = timedelta(days=7)
FEWEST_POSITIVES = 20
MOST_ROWS = 40_000  # customers per snapshot; of more, a drawn sample
# The same for all of a place on a day: of twelve snapshots they tell which one it is, not who buys. Left out.
OF_THE_DAY = frozenset(("days_to_holiday", "days_to_festival", "weather", "temperature", "precipitation"))


@dataclass(frozen=True)
class Snapshot:
    """Features (index customer_id, numeric columns) as of a date, and who bought within the horizon after (0 or 1)."""

    as_of: datetime
    features: pd.DataFrame
    bought: np.ndarray


class Classifier(Model):
    """Probabilities of buying from a feature frame; columns are found by name, so their order doesn't matter."""

    columns: np.ndarray
    calibration: tuple[float, float] = (1.0, 0.0)  # slope and intercept on the log-odds

    def fit(self, features: pd.DataFrame, bought: np.ndarray) -> Self:
        """Learn from rows of customers; columns without two values, or of the day alone, are left out."""
        if len(features) != len(bought):
            raise ValueError("features and bought differ in length")
        # scikit-learn 1.9 crashes on an all-NaN column, and a constant one tells nothing
        told = [c for c in features.columns if c not in OF_THE_DAY and features[c].nunique(dropna=True) > 1]
        self.columns = np.array(told, dtype=np.str_)
        self._fit(features[told].to_numpy(float), np.asarray(bought))
        return self

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Calibrated probability by row. A customer of whom no fact is known gets the lowest of all."""
        if not len(features):
            return np.zeros(0)
        slope, intercept = self.calibration
        p = _logistic(slope * _log_odds(self.raw(features)) + intercept)
        known = has_facts(features)
        p[~known] = p[known].min() if known.any() else p.min()
        return p

    def raw(self, features: pd.DataFrame) -> np.ndarray:
        """Probability by row before calibration."""
        return self._score(features.reindex(columns=list(self.columns)).to_numpy(float))

    def calibrate(self, raw: np.ndarray, bought: np.ndarray) -> None:
        """Fit slope and intercept on what `raw` said of customers whose purchases are known."""
        if min(bought.sum(), len(bought) - bought.sum()) >= FEWEST_POSITIVES:
            platt = LogisticRegression(C=1e6).fit(_log_odds(raw)[:, None], bought)
            if platt.coef_[0, 0] > 0:  # a negative slope would turn the ranking round
                self.calibration = float(platt.coef_[0, 0]), float(platt.intercept_[0])

    @abstractmethod
    def _fit(self, x: np.ndarray, y: np.ndarray) -> None:
        """Learn from rows x self.columns (NaN: unknown) and 0/1."""

    @abstractmethod
    def _score(self, x: np.ndarray) -> np.ndarray:
        """Probability by row."""

    @abstractmethod
    def _learned(self) -> State: ...

    @abstractmethod
    def _relearn(self, state: State) -> None: ...

    def _state(self) -> State:
        return {"columns": self.columns, "calibration": np.array(self.calibration), **self._learned()}

    def _restore(self, state: State) -> None:
        self.columns = state["columns"]
        self.calibration = float(state["calibration"][0]), float(state["calibration"][1])
        self._relearn(state)


class BoostedTrees(Classifier):
    """scikit-learn's HistGradientBoosting: small trees, strongly regularised, all features, unknown as such."""

    name: ClassVar[str] = "boosted_trees"

    class Config(ModelConfig):
        iterations: int = 200
        learning_rate: float = 0.03
        leaves: int = 8
        leaf_rows: int = 80
        l2: float = 10.0
        feature_share: float = 0.3

    config: Config
    trees: HistGradientBoostingClassifier

    def _fit(self, x: np.ndarray, y: np.ndarray) -> None:
        c = self.config
        trees = HistGradientBoostingClassifier(
            max_iter=c.iterations,
            learning_rate=c.learning_rate,
            max_leaf_nodes=c.leaves,
            min_samples_leaf=min(c.leaf_rows, max(5, len(y) // 20)),
            l2_regularization=c.l2,
            max_features=c.feature_share,
            early_stopping=False,
            random_state=c.seed,
        )
        with threadpool_limits(limits=1):  # the number of threads would be in the stored bytes
            self.trees = trees.fit(x, y)

    def _score(self, x: np.ndarray) -> np.ndarray:
        return self.trees.predict_proba(x)[:, 1]

    def _learned(self) -> State:
        packed = io.BytesIO()
        joblib.dump(self.trees, packed)
        return {"trees": np.frombuffer(packed.getvalue(), dtype=np.uint8)}

    def _relearn(self, state: State) -> None:
        self.trees = joblib.load(io.BytesIO(state["trees"].tobytes()))  # checked by the registry before


class RfmLogistic(Classifier):
    """Logistic regression on log recency, tenure, frequency and money: the baseline."""

    name: ClassVar[str] = "rfm_logistic"
    RFM: ClassVar[tuple[str, ...]] = (
        "days_since_last_order", "days_since_first_order", "orders_total", "revenue_total",
    )  # fmt: skip
    NEVER: ClassVar[float] = 3650.0  # days, for who never ordered

    coefficients: np.ndarray  # intercept first, on standardised columns
    scale: np.ndarray  # mean and standard deviation of each column

    def fit(self, features: pd.DataFrame, bought: np.ndarray) -> Self:
        return super().fit(features.reindex(columns=list(self.RFM)), bought)

    def _fit(self, x: np.ndarray, y: np.ndarray) -> None:
        z = self._logs(x)
        self.scale = np.stack([z.mean(axis=0), np.maximum(z.std(axis=0), 1e-9)])
        model = LogisticRegression().fit((z - self.scale[0]) / self.scale[1], y)
        self.coefficients = np.r_[model.intercept_, model.coef_[0]]

    def _score(self, x: np.ndarray) -> np.ndarray:
        z = (self._logs(x) - self.scale[0]) / self.scale[1]
        return _logistic(self.coefficients[0] + z @ self.coefficients[1:])

    def _logs(self, x: np.ndarray) -> np.ndarray:
        ages = np.char.startswith(self.columns, "days_")
        filled = np.where(np.isnan(x), np.where(ages, self.NEVER, 0.0), x)
        return np.hstack([np.log1p(np.maximum(filled, 0)), np.isnan(x[:, ages]).any(axis=1, keepdims=True)])

    def _learned(self) -> State:
        return {"coefficients": self.coefficients, "scale": self.scale}

    def _relearn(self, state: State) -> None:
        self.coefficients, self.scale = state["coefficients"], state["scale"]


class BaseRate(Classifier):
    """Everyone gets the share of customers who bought: all that can be said from too few purchases."""

    name: ClassVar[str] = "base_rate"
    rate: float

    def _fit(self, x: np.ndarray, y: np.ndarray) -> None:  # noqa: ARG002 - the features don't matter
        self.rate = float(y.mean()) if len(y) else 0.0

    def _score(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), self.rate)

    def _learned(self) -> State:
        return {"rate": np.array(self.rate)}

    def _relearn(self, state: State) -> None:
        self.rate = float(state["rate"])


KINDS: tuple[type[Classifier], ...] = (BoostedTrees, RfmLogistic, BaseRate)


def has_facts(features: pd.DataFrame) -> np.ndarray:
    """Of whom anything is known. Others stand in the customer table without a date, so a snapshot of the past holds
    them although the shop may not have known them then: they would teach the model who buys later."""
    known = np.zeros(len(features), dtype=bool)
    for column in ("days_since_last_order", "days_since_signup", "days_since_last_event"):
        if column in features:
            known |= features[column].notna().to_numpy()
    return known


def snapshot_times(as_of: datetime, horizon: int, first: datetime) -> list[datetime]:
    """The snapshots that `train` wants, newest first: label windows closed by as_of, two weeks of facts at least."""
    window = timedelta(days=horizon)
    final = [as_of - window - k * STEP for k in range(SNAPSHOTS)]
    judged = [as_of - 2 * window - k * STEP for k in range(JUDGED_SNAPSHOTS)]
    return sorted((t for t in {*final, *judged} if t >= first + timedelta(days=14)), reverse=True)


def label(snapshot: datetime, horizon: int, features: pd.DataFrame, purchases: pd.DataFrame) -> Snapshot:
    """Snapshot with labels, of customers of whom anything was known. purchases: customer_id, second (epoch)."""
    kept = features[has_facts(features)]
    if len(kept) > MOST_ROWS:
        drawn = np.random.default_rng(7).choice(len(kept), MOST_ROWS, replace=False)
        kept = kept.iloc[np.sort(drawn)]
    start = int(snapshot.timestamp())
    inside = (purchases["second"] > start) & (purchases["second"] <= start + horizon * 86_400)
    bought = kept.index.isin(purchases.loc[inside, "customer_id"].unique()).astype(int)
    return Snapshot(snapshot, kept, bought)


def train(horizon: int, as_of: datetime, snapshots: Iterable[Snapshot], today: pd.DataFrame) -> Outcome:
    """The propensity model of a horizon. today: features as of as_of, for a rate where no label window has closed."""
    window = timedelta(days=horizon)
    closed = sorted((s for s in snapshots if s.as_of + window <= as_of), key=lambda s: s.as_of, reverse=True)
    learned = closed[:SNAPSHOTS]
    x, y = _stack(learned)
    few = min(y.sum(), len(y) - y.sum()) < FEWEST_POSITIVES if len(y) else True
    if few:
        return _base_rate(horizon, learned, today)
    newest = closed[0]
    before = [s for s in closed if s.as_of + window <= newest.as_of][:JUDGED_SNAPSHOTS]
    trained = {kind.name: kind().fit(x, y) for kind in (BoostedTrees, RfmLogistic)}
    judged = _judge(before, newest)
    if judged is None:
        won, why = (
            False,
            "Too few purchases before the newest closed label window for a time split: the RFM logistic serves.",
        )
    else:
        for name, (raw, _) in judged.items():
            trained[name].calibrate(raw, newest.bought)
        trees, baseline = (judged[kind.name][1]["average_precision"] for kind in (BoostedTrees, RfmLogistic))
        won = trees > baseline
        compared = f"average precision {trees:.3f} against {baseline:.3f} on the time split"
        why = f"It beat the RFM logistic: {compared}." if won else f"It lost, so the RFM logistic serves: {compared}."
    return Outcome(
        name=f"propensity_{horizon}d",
        model=trained[BoostedTrees.name if won else RfmLogistic.name],
        challenger=BoostedTrees.name,
        published=won,
        why=why,
        metric="average_precision",
        metrics=judged[BoostedTrees.name][1] if judged else {},
        baseline=RfmLogistic.name,
        baseline_metrics=judged[RfmLogistic.name][1] if judged else {},
        window=(learned[-1].as_of, newest.as_of + window),
        rows={"rows": len(y), "positives": int(y.sum()), "snapshots": len(learned), "tried": len(newest.bought)},
        details={
            "snapshots": [s.as_of.isoformat() for s in learned],
            "columns": trained[BoostedTrees.name].columns.tolist(),
        },
    )


def _judge(before: Sequence[Snapshot], newest: Snapshot) -> dict[str, tuple[np.ndarray, dict[str, float]]] | None:
    """What each kind, trained on `before`, says of the newest snapshot: raw probabilities and metrics."""
    x, y = _stack(before)
    enough = len(y) and min(y.sum(), len(y) - y.sum()) >= FEWEST_POSITIVES
    if not enough or not 0 < newest.bought.sum() < len(newest.bought):
        return None
    judged = {}
    for kind in (BoostedTrees, RfmLogistic):
        raw = kind().fit(x, y).raw(newest.features)
        judged[kind.name] = (
            raw,
            {
                "average_precision": round(float(average_precision_score(newest.bought, raw)), 5),
                "auc": round(float(roc_auc_score(newest.bought, raw)), 5),
                "base_rate": round(float(newest.bought.mean()), 5),
            },
        )
    return judged


def _base_rate(horizon: int, learned: Sequence[Snapshot], today: pd.DataFrame) -> Outcome:
    if learned:
        x, y = _stack(learned)
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
        challenger=BoostedTrees.name,
        published=False,
        why=why,
        metric="average_precision",
        metrics={},
        baseline=BaseRate.name,
        baseline_metrics={},
        window=(learned[-1].as_of, learned[0].as_of + timedelta(days=horizon)) if learned else None,
        rows={"rows": len(y), "positives": int(y.sum()), "snapshots": len(learned), "tried": 0},
    )


def _stack(snapshots: Sequence[Snapshot]) -> tuple[pd.DataFrame, np.ndarray]:
    if not snapshots:
        return pd.DataFrame(), np.zeros(0, dtype=int)
    return pd.concat([s.features for s in snapshots]), np.concatenate([s.bought for s in snapshots])


def _log_odds(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def _logistic(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))
