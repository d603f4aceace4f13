"""The kinds of propensity models: trees blended with a logistic, the RFM logistic they must beat, and the base rate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from datetime import datetime
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from controltower.models.base import Model, State
from controltower.models.boosting import Boosting, telling
from controltower.models.propensity import season
from controltower.models.propensity.forest import Forest
from controltower.models.propensity.habits import TOLD_AS, with_habits
from controltower.models.propensity.linear import Linear

AT_ONCE = 10_000  # rows: bounds the memory of scoring, and they stay in the processor's cache


class Classifier(Model):
    """Probabilities of buying from a feature frame; columns are found by name, so their order doesn't matter."""

    columns: np.ndarray
    calibration: tuple[float, float] = (1.0, 0.0)  # slope and intercept on the log-odds
    trained: float = 0.0  # epoch seconds from which the days of `daily` are counted
    daily: np.ndarray = np.zeros(7)  # what each day of the week adds to the log-odds of a horizon of one day

    def fit(self, features: pd.DataFrame, bought: np.ndarray) -> Self:
        """Learn from rows of customers; columns without two values, or of the day alone, are left out."""
        if len(features) != len(bought):
            raise ValueError("features and bought differ in length")
        frame = self._frame(features)
        told = telling(frame)
        self.columns = np.array(told, dtype=np.str_)
        self._fit(frame[told].to_numpy(float), np.asarray(bought))
        return self

    def predict(self, features: pd.DataFrame, at: datetime | None = None) -> np.ndarray:
        """Calibrated probability by row. A customer of whom no fact is known gets the lowest of all.

        at: when the horizon begins, for the day of the week; only a horizon of one day minds.
        """
        if not len(features):
            return np.zeros(0)
        slope, intercept = self.calibration
        if at is not None and self.trained:
            intercept += season.of_day(self.daily, self.trained, at)
        p = logistic(slope * log_odds(self.raw(features)) + intercept)
        known = has_facts(features)
        p[~known] = p[known].min() if known.any() else p.min()
        return p

    def raw(self, features: pd.DataFrame) -> np.ndarray:
        """Probability by row before calibration."""
        parts = [self._score(x) for x in self._parts(features)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def asked(self, features: pd.DataFrame) -> np.ndarray:
        """`raw`, of a model that may have learned from other features: ValueError, a sentence, where some lack here."""
        if lacking := sorted(set(self.columns.tolist()) - set(self._frame(features.iloc[:0]).columns)):
            raise ValueError(f"It needs features that are no longer there: {', '.join(lacking)}.")
        return self.raw(features)

    def credits(self, features: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Names of features, and (rows, names): how far each moved the row's log-odds from the average."""
        told = [TOLD_AS.get(c, c) for c in self.columns.tolist()]
        names, place = np.unique(np.array(told, dtype=np.str_), return_inverse=True)
        fold = np.zeros((len(told), len(names)))
        fold[np.arange(len(told)), place] = self.calibration[0]
        made = [self._credits(x) @ fold for x in self._parts(features)]
        return names, np.concatenate(made) if made else np.zeros((0, len(names)))

    def _parts(self, features: pd.DataFrame) -> Iterator[np.ndarray]:
        for i in range(0, len(features), AT_ONCE):
            frame = self._frame(features.iloc[i : i + AT_ONCE])
            yield frame.reindex(columns=list(self.columns)).to_numpy(float)

    def _frame(self, features: pd.DataFrame) -> pd.DataFrame:
        return features

    @abstractmethod
    def _fit(self, x: np.ndarray, y: np.ndarray) -> None:
        """Learn from rows x self.columns (NaN: unknown) and 0/1."""

    @abstractmethod
    def _score(self, x: np.ndarray) -> np.ndarray:
        """Probability by row."""

    def _credits(self, x: np.ndarray) -> np.ndarray:
        """(rows, self.columns): see `credits`."""
        return np.zeros(x.shape)

    @abstractmethod
    def _learned(self) -> State: ...

    @abstractmethod
    def _relearn(self, state: State) -> None: ...

    def _state(self) -> State:
        common = {"columns": self.columns, "calibration": np.array(self.calibration)}
        return common | {"trained": np.array(self.trained), "daily": self.daily} | self._learned()

    def _restore(self, state: State) -> None:
        self.columns = state["columns"]
        self.calibration = float(state["calibration"][0]), float(state["calibration"][1])
        self.trained, self.daily = float(state.get("trained", 0.0)), state.get("daily", np.zeros(7))
        self._relearn(state)


class TreesAndLogistic(Classifier):
    """Boosted trees and a logistic on all features and habits, averaged in log-odds.

    The trees are small, see a tenth of the features at each split, and are strongly regularised: scikit-learn's
    HistGradientBoosting. They find thresholds and what matters only together; the logistic is steadier where few
    bought. `weight` is the logistic's part, chosen on the time split (`training.train`).
    """

    name: ClassVar[str] = "trees_and_logistic"

    Config = Boosting

    config: Boosting
    forest: Forest
    linear: Linear
    weight: float = 0.25

    def _frame(self, features: pd.DataFrame) -> pd.DataFrame:
        return with_habits(features)

    def _fit(self, x: np.ndarray, y: np.ndarray) -> None:
        if not x.shape[1]:
            raise ValueError("no feature differs between rows")
        trees = HistGradientBoostingClassifier(**self.config.for_rows(len(y)))
        with threadpool_limits(limits=1):  # sums in another order give other bytes
            self.forest = Forest.grown(trees.fit(x, y))
            self.linear = Linear.fitted(x, y)

    def both(self, features: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """The log-odds by row of the trees and of the logistic."""
        x = np.concatenate(list(self._parts(features)))
        return self.forest.score(x), self.linear.score(x)

    def _score(self, x: np.ndarray) -> np.ndarray:
        return logistic((1 - self.weight) * self.forest.score(x) + self.weight * self.linear.score(x))

    def _credits(self, x: np.ndarray) -> np.ndarray:
        made = (1 - self.weight) * self.forest.credits(x)
        return made + self.weight * self.linear.credits(x) if self.weight else made

    def _learned(self) -> State:
        return {"weight": np.array(self.weight), **self.forest.state(), **self.linear.state()}

    def _relearn(self, state: State) -> None:
        self.weight = float(state["weight"])
        self.forest, self.linear = Forest.of(state), Linear.of(state)


class RfmLogistic(Classifier):
    """Logistic regression on log recency, tenure, frequency and money: the baseline."""

    name: ClassVar[str] = "rfm_logistic"
    RFM: ClassVar[tuple[str, ...]] = (
        "days_since_last_order", "days_since_first_order", "orders_total", "revenue_total",
    )  # fmt: skip
    NEVER: ClassVar[float] = 3650.0  # days, for who never ordered

    coefficients: np.ndarray  # intercept first, on standardised columns
    scale: np.ndarray  # mean and standard deviation of each column

    def _frame(self, features: pd.DataFrame) -> pd.DataFrame:
        return features.reindex(columns=list(self.RFM))

    def _fit(self, x: np.ndarray, y: np.ndarray) -> None:
        z = self._logs(x)
        self.scale = np.stack([z.mean(axis=0), np.maximum(z.std(axis=0), 1e-9)])
        model = LogisticRegression().fit((z - self.scale[0]) / self.scale[1], y)
        self.coefficients = np.r_[model.intercept_, model.coef_[0]]

    def _score(self, x: np.ndarray) -> np.ndarray:
        z = (self._logs(x) - self.scale[0]) / self.scale[1]
        return logistic(self.coefficients[0] + z @ self.coefficients[1:])

    def _credits(self, x: np.ndarray) -> np.ndarray:
        moved = (self._logs(x) - self.scale[0]) / self.scale[1] * self.coefficients[1:]
        made = moved[:, : x.shape[1]]
        never = np.flatnonzero(np.char.startswith(self.columns, "days_"))[:1]
        made[:, never] += moved[:, -1:]
        return np.asarray(made)

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


KINDS: tuple[type[Classifier], ...] = (TreesAndLogistic, RfmLogistic, BaseRate)


def has_facts(features: pd.DataFrame) -> np.ndarray:
    """Of whom anything is known. Others stand in the customer table without a date, so a snapshot of the past holds
    them although the shop may not have known them then: they would teach the model who buys later."""
    known = np.zeros(len(features), dtype=bool)
    for column in ("days_since_last_order", "days_since_signup", "days_since_last_event"):
        if column in features:
            known |= features[column].notna().to_numpy()
    return known


def log_odds(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)))


def logistic(z: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-z)))
