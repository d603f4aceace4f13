"""What customers will spend, net: BG/NBD purchases times gamma-gamma amounts, for the next 30 days blended with trees.

`Lifetime` is the model: the probability models of purchasing.py and spending.py say how much over any horizon. For the
next 30 days boosted trees on all features say it, too; a share of theirs, chosen on the time split, is mixed in. What
both expect is multiplied by the season: what the shop took of the expected in a past window. Over longer horizons all
seasons come by, so only the first 30 days of them are changed. `NaiveRate` is the baseline, `Average` serves where too
few bought twice.

Every kind gives a predictive interval, not only one of the mean: what is spent is 0 with some probability, and else
gamma distributed with the model's mean and variance.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import ClassVar, NamedTuple, Self

import joblib  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
from pydantic import Field
from scipy.special import gammaincinv
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from controltower.models.base import Model, ModelConfig, State
from controltower.models.boosting import Boosting, telling
from controltower.models.value import purchasing, spending

HORIZONS = (30, 365, 1095)  # days
SHORT = HORIZONS[0]  # the one that trees and season change
COVERAGE = 0.8  # of the intervals
BLOCK = 100_000  # customers asked at a time: their features stand in memory twice
NAMES = {30: "clv_30d", 365: "clv_1y", 1095: "clv_3y"}
COLUMNS = tuple(f"{NAMES[h]}{end}" for h in HORIZONS for end in ("", "_low", "_high"))


class Expected(NamedTuple):
    """By customer, of the amount spent within a horizon: mean, mean square, and the chance of any purchase."""

    mean: np.ndarray
    square: np.ndarray
    any: np.ndarray


class Value(Model):
    """Value by customer from summaries (see summaries.py) and, where the kind wants them, features."""

    class Config(ModelConfig):
        discount: float = Field(default=0.0, ge=0)  # a year: money so much later is worth 1 / (1 + discount)

    config: Config

    def fit(self, summaries: pd.DataFrame) -> Self:
        """Learn from customers who bought. Raises ValueError where there is too little to learn this kind from."""
        self._fit(summaries)
        return self

    def predict(self, customers: np.ndarray, summaries: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
        """customer_id and COLUMNS, in the shop's currency, of the customers asked for; NaN for who never bought.

        `features` has customer_id as its index; a customer without a row in it has unknown features.
        """
        at = pd.Index(summaries["customer_id"]).get_indexer(customers)
        parts = [slice(i, i + BLOCK) for i in range(0, max(len(customers), 1), BLOCK)]
        found = [self._told(customers[some], at[some], summaries, features) for some in parts]
        return pd.concat(found, ignore_index=True)

    def _told(
        self, customers: np.ndarray, at: np.ndarray, summaries: pd.DataFrame, features: pd.DataFrame
    ) -> pd.DataFrame:
        """`predict` of customers by the positions `at` of their summaries, -1 where they have none."""
        bought = at >= 0
        mine = summaries.iloc[at[bought]]
        told = features.reindex(customers[bought])
        found = pd.DataFrame({"customer_id": customers})
        short: Expected | None = None
        for horizon in HORIZONS:
            plain = self._expected(mine, horizon)
            mean = self._discounted(mine, horizon, plain.mean)
            if short is None:
                changed = self._short(plain.mean, told)
                ahead, short = changed - plain.mean, plain
            for column, values in zip(("", "_low", "_high"), _interval(plain, mean + ahead), strict=True):
                whole = np.full(len(customers), np.nan)
                whole[bought] = values
                found[NAMES[horizon] + column] = whole
        return found

    def _discounted(self, summaries: pd.DataFrame, horizon: int, mean: np.ndarray) -> np.ndarray:
        """The mean, each half year's part of it discounted to today from its middle."""
        rate = self.config.discount
        if not rate or horizon <= SHORT:
            return mean
        total, before, until = np.zeros_like(mean), np.zeros_like(mean), 0.0
        steps = [float(SHORT), *np.arange(182.5, horizon, 182.5), float(horizon)]
        for step in steps:
            now = self._expected(summaries, step).mean
            total += (now - before) * (1 + rate) ** (-(until + step) / 730)
            before, until = now, step
        return total

    def asked(self, summaries: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
        """`predict` of all of the summaries, of a model that may have learned from other features: ValueError, a
        sentence, where some lack here."""
        if lacking := self._needs() - set(features.columns):
            raise ValueError(f"It needs features that are no longer there: {', '.join(sorted(lacking))}.")
        return self.predict(summaries["customer_id"].to_numpy(), summaries, features)

    def _needs(self) -> set[str]:
        """The features that are learned from."""
        return set()

    @abstractmethod
    def _fit(self, summaries: pd.DataFrame) -> None: ...

    @abstractmethod
    def _expected(self, summaries: pd.DataFrame, horizon: float) -> Expected:
        """By row, of the next `horizon` days."""

    def _short(self, mean: np.ndarray, features: pd.DataFrame) -> np.ndarray:  # noqa: ARG002 - for those who use them
        """What takes the place of the mean of the next SHORT days; `features` has the same rows."""
        return mean


class Lifetime(Value):
    """BG/NBD and gamma-gamma; for the next 30 days blended with boosted trees, and times the season."""

    name: ClassVar[str] = "bgnbd_trees"

    class Config(Value.Config, Boosting):
        penalty: float = Field(default=0.001, ge=0)  # see purchasing.fit: of a young shop a and b aren't to be told
        feature_share: float = 0.3

    config: Config
    purchases: purchasing.Purchasing
    amounts: spending.Spending
    season: float = 1.0
    share: float = 0.0  # of the trees
    columns: np.ndarray
    unit: float = 1.0  # the trees' target is in it
    trees: HistGradientBoostingRegressor | None = None

    def _fit(self, summaries: pd.DataFrame) -> None:
        x, tx, t = _history(summaries)
        self.purchases = purchasing.fit(x, tx, t, penalty=self.config.penalty)
        paid = summaries[summaries["amount"] > 0]
        number = paid["purchases"].to_numpy(float)
        self.amounts = spending.fit(number, paid["amount"].to_numpy(float) / number)
        self.columns = np.array([], dtype=np.str_)

    def fit_trees(self, features: pd.DataFrame, plain: np.ndarray, spent: np.ndarray) -> None:
        """Learn what was spent within 30 days (without the season, see training.py) from features, and from `plain`,
        what `_expected` said then. Rows are customers at past dates."""
        told = telling(features)
        y = np.maximum(spent, 0.0)
        if not told or not y.sum():
            return
        self.columns, self.unit = np.array(told, dtype=np.str_), float(y.mean())
        # quasi-Poisson: the mean is what counts, and its errors grow with it
        trees = HistGradientBoostingRegressor(loss="poisson", **self.config.for_rows(len(y)))
        with threadpool_limits(limits=1):  # the number of threads would be in the stored bytes
            self.trees = trees.fit(self._columns(features, plain), y / self.unit)

    def by_trees(self, features: pd.DataFrame, plain: np.ndarray) -> np.ndarray:
        """What the trees alone expect of the next 30 days, without the season; `plain` where there are none."""
        if self.trees is None or not len(features):
            return plain
        return self.trees.predict(self._columns(features, plain)) * self.unit

    def plain(self, summaries: pd.DataFrame) -> np.ndarray:
        """What BG/NBD and gamma-gamma expect of the next 30 days."""
        return self._expected(summaries, SHORT).mean

    def _expected(self, summaries: pd.DataFrame, horizon: float) -> Expected:
        counts = purchasing.purchases_within(self.purchases, *_history(summaries), horizon)
        paid = spending.amounts(self.amounts, summaries["purchases"].to_numpy(), summaries["amount"].to_numpy())
        square = counts.mean * paid.square + (counts.square - counts.mean) * paid.together
        return Expected(counts.mean * paid.mean, square, counts.any)

    def _short(self, mean: np.ndarray, features: pd.DataFrame) -> np.ndarray:
        mixed = mean if not self.share else (1 - self.share) * mean + self.share * self.by_trees(features, mean)
        return self.season * mixed

    def _needs(self) -> set[str]:
        return set(self.columns.tolist()) if self.share else set()

    def _columns(self, features: pd.DataFrame, plain: np.ndarray) -> np.ndarray:
        return np.c_[features.reindex(columns=list(self.columns)).to_numpy(float), plain]

    def _state(self) -> State:
        packed = io.BytesIO()
        joblib.dump(self.trees, packed)
        return {
            "purchases": np.array(self.purchases),
            "amounts": np.array(self.amounts),
            "mix": np.array([self.season, self.share, self.unit]),
            "columns": self.columns,
            "trees": np.frombuffer(packed.getvalue(), dtype=np.uint8),
        }

    def _restore(self, state: State) -> None:
        self.purchases = purchasing.Purchasing(*state["purchases"].tolist())
        self.amounts = spending.Spending(*state["amounts"].tolist())
        self.season, self.share, self.unit = state["mix"].tolist()
        self.columns = state["columns"]
        self.trees = joblib.load(io.BytesIO(state["trees"].tobytes()))  # checked by the registry before


class NaiveRate(Value):
    """The customer's own past amount a day, times the horizon: the baseline.

    The days are those since the first purchase, but 30 at least: of who bought yesterday the plain quotient would be
    30 times that, and easily beaten.
    """

    name: ClassVar[str] = "naive_rate"

    def _fit(self, summaries: pd.DataFrame) -> None: ...

    def _expected(self, summaries: pd.DataFrame, horizon: float) -> Expected:
        number, amount = (summaries[c].to_numpy(float) for c in ("purchases", "amount"))
        days = np.maximum(summaries["first"].to_numpy(float), SHORT)
        return _poisson(number / days * horizon, np.maximum(amount, 0) / number)

    def _state(self) -> State:
        return {}

    def _restore(self, state: State) -> None: ...


class Average(Value):
    """Everyone gets the shop's repeat purchases a day times its usual amount: what few purchases tell."""

    name: ClassVar[str] = "average_rate"
    rate: float  # repeat purchases a customer and day
    amount: float

    def _fit(self, summaries: pd.DataFrame) -> None:
        number = float(summaries["purchases"].sum())
        days = float(summaries["first"].sum())
        again = number - len(summaries)
        # half a purchase that nobody made: a shop of two days without one isn't a shop where nobody will buy again
        self.rate = (again + 0.5) / (days + 365.0)
        self.amount = max(float(summaries["amount"].sum()), 0.0) / number if number else 0.0

    def _expected(self, summaries: pd.DataFrame, horizon: float) -> Expected:
        return _poisson(np.full(len(summaries), self.rate * horizon), np.full(len(summaries), self.amount))

    def _state(self) -> State:
        return {"rate": np.array([self.rate, self.amount])}

    def _restore(self, state: State) -> None:
        self.rate, self.amount = state["rate"].tolist()


KINDS: tuple[type[Value], ...] = (Lifetime, NaiveRate, Average)


def _history(summaries: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Repeat purchases, days from the first to the last purchase, and from the first until now."""
    number, first, last = (summaries[c].to_numpy(float) for c in ("purchases", "first", "last"))
    return number - 1, first - last, first


def _poisson(number: np.ndarray, amount: np.ndarray) -> Expected:
    """Of purchases at a known rate whose amounts are exponential."""
    return Expected(number * amount, (2 * number + number**2) * amount**2, -np.expm1(-number))


def _interval(plain: Expected, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mean that takes the place of `plain`'s, and the bounds between which COVERAGE of what may be spent lies.

    The chance of any purchase follows the mean as hazards do; how much amounts vary, once there is one, stays.
    """
    there = (plain.mean > 0) & (mean > 0)
    low, high = np.zeros(len(mean)), np.zeros(len(mean))
    some = Expected(*(v[there] for v in plain))
    chance = np.clip(some.any, 1e-12, 1 - 1e-12)
    shape = 1 / np.maximum(some.square * chance / some.mean**2 - 1, 1e-3)
    chance = -np.expm1(np.log1p(-chance) * mean[there] / some.mean)
    for level, bound in (((1 - COVERAGE) / 2, low), ((1 + COVERAGE) / 2, high)):
        inside = np.maximum(level - (1 - chance), 0.0) / chance
        # a shape near 0 puts nearly all at 0 and the rest anywhere
        bound[there] = gammaincinv(np.maximum(shape, 0.02), inside) * mean[there] / chance / np.maximum(shape, 0.02)
    return mean, low, high
