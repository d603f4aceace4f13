"""What a message changes, by customer: three ways to learn it from a randomised experiment, and what serves without.

* T: the outcome of the treated and of the controls are learned apart; the difference is the uplift.
* X (Künzel, Sekhon, Bickel and Yu 2019): what a treated customer did beyond what is expected untreated, and what a
  control was expected to do beyond what they did, are learned as such and mixed by the propensity.
* Doubly robust (Kennedy 2020): one regression on the gains of `qini.gains`, right where either the propensities (they
  are known here) or the expectations are.

What is expected of a row comes from rows of other customers (two folds).
"""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple, Self

import joblib  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from threadpoolctl import threadpool_limits

from controltower.models.base import Model, ModelConfig, State
from controltower.models.uplift import qini
from controltower.models.uplift.trials import Experiment

FOLDS = 2
Base = Literal["trees", "linear"]


class Expected(NamedTuple):
    """By row, the outcome expected untreated and treated."""

    untreated: np.ndarray
    treated: np.ndarray


class Uplift(Model):
    """The change of the outcome per customer, in its units, by a feature frame; columns are found by name."""

    columns: np.ndarray
    effect: float = 0.0  # of treating everybody
    error: float = np.nan  # the standard error of what is said of a fifth of the customers, or of all; NaN: untaught

    def fit(self, experiment: Experiment, expected: Expected | None = None) -> Self:
        """Learn from an experiment in which both were drawn. `expected`: as of `cross_fitted`, where it is known."""
        if len(np.unique(experiment.treated)) < 2:
            raise ValueError("an experiment has treated rows and controls")
        self.columns = np.array(told(experiment.features), dtype=np.str_)
        expected = expected or cross_fitted(experiment, self.config.seed)
        gain = qini.gains(experiment, *expected)
        self.effect = float(gain.mean())
        self._fit(experiment.features[self.columns].to_numpy(float), experiment, expected, gain)
        return self

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Uplift by row (n,); the average effect where the experiment's features told nothing."""
        if not len(features) or not len(self.columns):
            return np.full(len(features), self.effect)
        return self._score(features.reindex(columns=list(self.columns)).to_numpy(float))

    @abstractmethod
    def _fit(self, x: np.ndarray, experiment: Experiment, expected: Expected, gain: np.ndarray) -> None: ...

    @abstractmethod
    def _score(self, x: np.ndarray) -> np.ndarray: ...

    def _learned(self) -> State:
        return {}

    def _relearn(self, state: State) -> None: ...

    def _state(self) -> State:
        told = {"effect": np.array(self.effect), "error": np.array(self.error)}
        return {"columns": self.columns, **told, **self._learned()}

    def _restore(self, state: State) -> None:
        self.columns, self.effect, self.error = state["columns"], float(state["effect"]), float(state["error"])
        self._relearn(state)


class Learner(Uplift):
    """One that fits regressions: `base` says which."""

    class Config(ModelConfig):
        base: Base = "trees"

    config: Config
    fitted: list[Any]

    def _regression(self, x: np.ndarray, y: np.ndarray) -> Any:
        return regression(x, y, self.config.base, self.config.seed)

    def _learned(self) -> State:
        packed = io.BytesIO()
        joblib.dump(self.fitted, packed)
        return {"fitted": np.frombuffer(packed.getvalue(), dtype=np.uint8)}

    def _relearn(self, state: State) -> None:
        self.fitted = joblib.load(io.BytesIO(state["fitted"].tobytes()))  # checked by the registry before


class TLearner(Learner):
    name: ClassVar[str] = "t_learner"

    def _fit(self, x: np.ndarray, experiment: Experiment, expected: Expected, gain: np.ndarray) -> None:  # noqa: ARG002
        y, t = experiment.outcome, experiment.treated
        self.fitted = [outcomes(x[t == arm], y[t == arm], self.config.base, self.config.seed) for arm in (0, 1)]

    def _score(self, x: np.ndarray) -> np.ndarray:
        untreated, treated = (one(x) for one in self.fitted)
        return treated - untreated


class XLearner(Learner):
    name: ClassVar[str] = "x_learner"
    share: float

    def _fit(self, x: np.ndarray, experiment: Experiment, expected: Expected, gain: np.ndarray) -> None:  # noqa: ARG002
        y, on = experiment.outcome, experiment.treated == 1
        self.share = float(experiment.propensity.mean())
        self.fitted = [
            self._regression(x[~on], (expected.treated - y)[~on]), self._regression(x[on], (y - expected.untreated)[on])
        ]  # fmt: skip

    def _score(self, x: np.ndarray) -> np.ndarray:
        of_controls, of_treated = (one(x) for one in self.fitted)
        return self.share * of_controls + (1 - self.share) * of_treated

    def _learned(self) -> State:
        return super()._learned() | {"share": np.array(self.share)}

    def _relearn(self, state: State) -> None:
        super()._relearn(state)
        self.share = float(state["share"])


class DoublyRobust(Learner):
    name: ClassVar[str] = "doubly_robust"

    class Config(Learner.Config):
        base: Base = "linear"

    config: Config

    def _fit(self, x: np.ndarray, experiment: Experiment, expected: Expected, gain: np.ndarray) -> None:  # noqa: ARG002
        self.fitted = [self._regression(x, gain)]

    def _score(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.fitted[0](x))


class TreatAll(Uplift):
    """Everybody gets the average effect: nothing is gained by choosing."""

    name: ClassVar[str] = "treat_all"

    def _fit(self, x: np.ndarray, experiment: Experiment, expected: Expected, gain: np.ndarray) -> None: ...

    def _score(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), self.effect)


class TreatNone(TreatAll):
    """Everybody gets the average effect, which isn't worth a message."""

    name: ClassVar[str] = "treat_none"


KINDS: tuple[type[Uplift], ...] = (DoublyRobust, XLearner, TLearner, TreatAll, TreatNone)


class Linear:
    """Ridge or logistic regression on standardised signed logarithms; what is unknown is the median, and flagged."""

    def __init__(self, x: np.ndarray, y: np.ndarray, binary: bool) -> None:
        logs = _logs(x)
        with np.errstate(all="ignore"):
            self.median = np.array([np.median(c[~np.isnan(c)]) if (~np.isnan(c)).any() else 0.0 for c in logs.T])
        unknown = np.isnan(logs)
        self.flagged = np.flatnonzero((unknown.mean(axis=0) > 0.01) & (unknown.mean(axis=0) < 0.99))
        z = self._filled(logs)
        self.mean, self.scale = z.mean(axis=0), np.maximum(z.std(axis=0), 1e-9)
        z = self._standard(z)
        # gains are mostly noise: penalties up to some ten times the number of rows leave little but the mean
        ridge = RidgeCV(alphas=np.geomspace(1e-3, 10, 9) * len(y))
        self.binary = binary
        learned = LogisticRegression(C=0.1).fit(z, y) if binary else ridge.fit(z, y)
        self.coefficients = np.ravel(learned.coef_)
        self.intercept = float(np.ravel(learned.intercept_)[0])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        z = self._standard(self._filled(_logs(x))) @ self.coefficients + self.intercept
        return 1 / (1 + np.exp(-z)) if self.binary else z

    def _filled(self, logs: np.ndarray) -> np.ndarray:
        unknown = np.isnan(logs)
        return np.hstack([np.where(unknown, self.median, logs), unknown[:, self.flagged]])

    def _standard(self, z: np.ndarray) -> np.ndarray:
        return np.clip((z - self.mean) / self.scale, -5, 5)


class Trees:
    """scikit-learn's HistGradientBoosting, small and strongly regularised."""

    def __init__(self, x: np.ndarray, y: np.ndarray, binary: bool, seed: int) -> None:
        kind = HistGradientBoostingClassifier if binary else HistGradientBoostingRegressor
        leaf = max(20, len(y) // 50)  # effects are small beside the noise: a leaf needs many rows
        made = kind(
            max_iter=60, learning_rate=0.05, max_leaf_nodes=6, min_samples_leaf=leaf, l2_regularization=10.0,
            early_stopping=False, random_state=seed,
        )  # fmt: skip
        self.binary = binary
        with threadpool_limits(limits=1):  # the number of threads would be in the stored bytes
            self.trees = made.fit(x, y)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.trees.predict_proba(x)[:, 1] if self.binary else self.trees.predict(x)


class Constant:
    """Where nothing can be learned: the mean."""

    def __init__(self, y: np.ndarray) -> None:
        self.value = float(y.mean()) if len(y) else 0.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), self.value)


def regression(x: np.ndarray, y: np.ndarray, base: Base, seed: int, binary: bool = False) -> Any:
    """A function from rows to expectations; of a few rows, or without columns, the mean."""
    if len(y) < 40 or not x.shape[1] or np.ptp(y) == 0 or (binary and min(y.sum(), len(y) - y.sum()) < 10):
        return Constant(y)
    known = ~np.isnan(x).all(axis=0)
    if not known.all():  # scikit-learn 1.9 crashes on a column of which nothing is known
        x = np.where(known, x, 0.0)
    return Linear(x, y, binary) if base == "linear" else Trees(x, y, binary, seed)


def outcomes(x: np.ndarray, y: np.ndarray, base: Base, seed: int) -> Any:
    """A regression of an outcome: a probability where it is 0/1."""
    return regression(x, y, base, seed, binary=bool(np.isin(y, (0, 1)).all()))


def cross_fitted(experiment: Experiment, seed: int, base: Base = "trees") -> Expected:
    """What is expected of each row untreated and treated, said by models of other customers' rows."""
    x = experiment.features[told(experiment.features)].to_numpy(float)
    y, t = experiment.outcome, experiment.treated
    fold = parts(experiment, FOLDS, seed)
    made = Expected(np.zeros(len(y)), np.zeros(len(y)))
    for this in range(FOLDS):
        there, others = fold == this, fold != this
        for arm, values in enumerate(made):
            rows = others & (t == arm)
            values[there] = outcomes(x[rows], y[rows], base, seed)(x[there])
    return made


def parts(experiment: Experiment, count: int, seed: int) -> np.ndarray:
    """By row, which of `count` parts of about equal size its customer was drawn into."""
    customer, _ = pd.factorize(experiment.features.index)
    people = int(customer.max()) + 1 if len(customer) else 0
    return (np.random.default_rng(seed).permutation(people) % count)[customer]


def told(features: pd.DataFrame) -> list[str]:
    """The columns that have two values or more."""
    return [str(c) for c in features.columns if features[c].nunique(dropna=True) > 1]


def _logs(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(x) * np.log1p(np.abs(x)))
