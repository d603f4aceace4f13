"""The logistic challenger: L2-regularised logistic regression on all features, each in signed logarithms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from controltower.models.base import State

C = 0.1  # inverse of the regularisation
FARTHEST = 4.0  # standard deviations: one huge order must not decide


class Linear(NamedTuple):
    """Standardisation and coefficients by column; `unknown` is what a column adds in log-odds where it is NaN."""

    mean: np.ndarray
    spread: np.ndarray
    coefficient: np.ndarray
    unknown: np.ndarray
    intercept: np.ndarray

    @classmethod
    def fitted(cls, x: np.ndarray, y: np.ndarray) -> Linear:
        """From rows x columns (NaN: unknown) and 0/1. Columns unknown in the same rows share one indicator."""
        logs = _logs(x)
        gone = np.isnan(logs)
        mean = np.nanmean(logs, axis=0)
        spread = np.maximum(np.nanstd(logs, axis=0), 1e-9)
        patterns = {gone[:, j].tobytes(): j for j in range(x.shape[1])[::-1] if gone[:, j].mean() > 0}
        flagged = sorted(patterns.values())
        z = np.hstack([_standard(logs, mean, spread), gone[:, flagged]])
        model = LogisticRegression(C=C, max_iter=300).fit(z, y)
        unknown = np.zeros(x.shape[1])
        unknown[flagged] = model.coef_[0, x.shape[1] :]
        return cls(mean, spread, model.coef_[0, : x.shape[1]], unknown, model.intercept_)

    def score(self, x: np.ndarray) -> np.ndarray:
        """Log-odds by row."""
        return np.asarray(self.intercept[0] + self.credits(x).sum(axis=1))

    def credits(self, x: np.ndarray) -> np.ndarray:
        """(rows, columns): what each column adds to the log-odds, coefficient x deviation from the mean."""
        logs = _logs(x)
        return np.where(np.isnan(logs), self.unknown, _standard(logs, self.mean, self.spread) * self.coefficient)

    def state(self) -> State:
        return {f"linear_{name}": getattr(self, name) for name in self._fields}

    @classmethod
    def of(cls, state: State) -> Linear:
        return cls(**{name: state[f"linear_{name}"] for name in cls._fields})


def _logs(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.log1p(np.abs(x))


def _standard(logs: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.clip((logs - mean) / spread, -FARTHEST, FARTHEST))
