"""Three ways to say who becomes a customer: by all that is known, by the last visit alone, and everybody alike."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from controltower.models.base import Model, ModelConfig, State

NEVER = 365.0  # days, where there was no event or no sign-up


class Acquisition(Model):
    """The chance of a first order within DAYS, of rows as `people.read_people` gives them."""

    COLUMNS: ClassVar[tuple[str, ...]] = ()
    DAYS: ClassVar[int] = 28

    class Config(ModelConfig):
        c: float = 0.1  # inverse strength of the L2 penalty, as scikit-learn's

    config: Config
    weights: np.ndarray  # the intercept, then one a column
    scale: np.ndarray  # mean and standard deviation of each column

    def fit(self, people: pd.DataFrame, became: np.ndarray) -> Self:
        """became: 0 or 1 by row; both must be there."""
        if len(people) != len(became):
            raise ValueError("people and became differ in length")
        x = self._told(people)
        if not x.shape[1]:
            self.scale = np.zeros((2, 0))
            rate = float(np.clip(became.mean() if len(became) else 0.0, 1e-6, 1 - 1e-6))
            self.weights = np.array([np.log(rate / (1 - rate))])
            return self
        self.scale = np.stack([x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)])
        learned = LogisticRegression(C=self.config.c, max_iter=1000).fit(self._scaled(x), became)
        self.weights = np.r_[learned.intercept_, learned.coef_[0]]
        return self

    def level(self, people: pd.DataFrame, became: np.ndarray) -> Self:
        """Move the intercept so that as many are expected of these as became customers; some must have."""
        rest = self._scaled(self._told(people)) @ self.weights[1:]
        self.weights[0] = brentq(lambda start: expit(start + rest).sum() - became.sum(), -50.0, 50.0)
        return self

    def predict(self, people: pd.DataFrame) -> np.ndarray:
        return np.asarray(expit(self.weights[0] + self._scaled(self._told(people)) @ self.weights[1:]))

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return np.asarray((x - self.scale[0]) / self.scale[1])

    def _told(self, people: pd.DataFrame) -> np.ndarray:
        """(rows, COLUMNS): days and counts as logarithms, what isn't known as long ago, or none."""
        parts = [np.zeros((len(people), 0))]
        for name in self.COLUMNS:
            values = people[name].to_numpy(float)
            if name.startswith("days_since"):
                values = np.log1p(np.clip(np.nan_to_num(values, nan=NEVER), 0, NEVER))
            elif name not in ("visitor", "app", "referred", "likeness"):
                values = np.log1p(values)
            parts.append(np.nan_to_num(values)[:, None])
        return np.hstack(parts)

    def _state(self) -> State:
        return {"weights": self.weights, "scale": self.scale}

    def _restore(self, state: State) -> None:
        self.weights, self.scale = state["weights"], state["scale"]


class Likeness(Acquisition):
    """Logistic regression on all that is known of people who never bought, likeness to the best customers included."""

    name: ClassVar[str] = "likeness"
    COLUMNS = (
        "visitor", "days_since_signed_up", "days_since_first", "days_since_last", "views", "views_lately", "carts",
        "carts_lately", "checkouts", "searches", "sessions", "days", "products", "app", "referred", "likeness",
    )  # fmt: skip


class LastVisit(Acquisition):
    """Logistic regression on how long ago the last event was: the baseline."""

    name: ClassVar[str] = "last_visit"
    COLUMNS = ("days_since_last",)


class Everybody(Acquisition):
    """Everybody the same chance: all that can be said from too few first orders."""

    name: ClassVar[str] = "everybody"


KINDS: tuple[type[Acquisition], ...] = (Likeness, LastVisit, Everybody)
