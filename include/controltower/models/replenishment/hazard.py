"""When customers buy next: the chance of it in each of the coming weeks, given that they haven't bought until then.

`Hazard` is a discrete-time hazard model (Allison, Discrete-Time Methods for the Analysis of Event Histories,
Sociological Methodology 13, 1982): a logistic regression over the coming intervals, in which the time since the last
purchase goes on while everything else stays as it is known today. The chances of not buying, multiplied, are the
survival curve; from it come the day by which half would have bought, the interval around it, and the chance of no
purchase at all in 28 days, which is what dormancy means here.

The baselines put a lognormal wait around the customer's own median gap (`OwnMedianGap`), or around everyone's
(`ConstantWait`), given how long has been waited already.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.special import log_ndtr
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from controltower.models.base import Model, ModelConfig, State
from controltower.models.recommend.interactions import positions
from controltower.models.replenishment.purchases import Series, States, states

EDGES = np.array([0, 7, 14, 21, 28, 56, 84, 112, 140, 168, 224, 280, 364])  # days ahead: the ends of the intervals
SOON = 4  # intervals until SOON_DAYS
SOON_DAYS = int(EDGES[SOON])
BLOCK = 200_000  # rows asked at a time: some 25 columns each
LEVELS = (0.1, 0.5, 0.9)  # of the purchases: next_order_low, next_order_at, next_order_high
FEWEST_EVENTS = 20  # purchases in an interval, or it isn't told
BEYOND, NO_REPEAT, NEVER = "beyond_horizon", "no_repeat", "never_bought"  # reasons for no date
COLUMNS = ("next_order_at", "next_order_low", "next_order_high", "order_28d", "dormancy_28d", "reason")


class Rows(NamedTuple):
    """Series as of a day: what they tell, what their customers' other orders tell (None for customers' own series),
    the items' positions in `item_ids` (-1: none)."""

    own: States
    customer: States | None
    item: np.ndarray
    item_ids: np.ndarray

    def take(self, at: np.ndarray | slice) -> Rows:
        """Some of the rows, by their positions here."""
        customer = None if self.customer is None else self.customer.take(at)
        return Rows(self.own.take(at), customer, self.item[at], self.item_ids)


class Past(NamedTuple):
    """Rows as of a past date, the days until the next purchase (infinite: none yet), and the days that are over."""

    rows: Rows
    wait: np.ndarray
    over: float


class NextOrder(Model):
    """The survival curve of the next purchase, by series; `fit` and `predict` are the same for all kinds."""

    everyone: float  # median days between purchases; NaN where nobody bought twice
    item_ids: np.ndarray
    item_gaps: np.ndarray  # usual log days between purchases, by item
    pace: float = 1.0  # the hazards are multiplied by it, see training.py

    class Config(ModelConfig):
        trust: float = 10.0  # customers who weigh as much as an item's own

    config: Config

    def fit(self, today: Rows, past: Sequence[Past]) -> Self:
        """Learn gaps from rows as of today, and what followed from those of the past."""
        gaps = today.own.gap
        known = ~np.isnan(gaps)
        self.everyone = float(np.median(gaps[known])) if known.any() else float("nan")
        self.item_ids = today.item_ids
        item, count = today.item[known & (today.item >= 0)], len(today.item_ids)
        logs = np.log(np.maximum(gaps[known & (today.item >= 0)], 1.0))
        usual = float(logs.mean()) if len(logs) else 0.0
        total = np.bincount(item, weights=logs, minlength=count) + self.config.trust * usual
        self.item_gaps = total / (np.bincount(item, minlength=count) + self.config.trust)
        self._fit(today, past)
        return self

    def predict(self, some: Series, orders: Series | None, as_of: datetime) -> pd.DataFrame:
        """customer_id, item (where there are items) and COLUMNS: a row a series.

        `some` and `orders` (all purchases of the customers; only for series with items) are as of as_of. Dates are in
        UTC, NaT where they lie beyond what was learned; where `next_order_at` does, `reason` is BEYOND. Where nobody
        has ever bought twice it is NO_REPEAT, and nothing is told.
        """
        rows = describe(some, orders, 0)
        curve = self.survival(rows)
        found = pd.DataFrame({"customer_id": some.customer_ids[some.customer[rows.own.rows]]})
        if len(some.item_ids):
            found["item"] = some.item_ids[some.item[rows.own.rows]]
        start = pd.Timestamp(as_of).tz_convert("UTC")
        low, middle, high = (start + pd.to_timedelta(_quantile(curve, level), unit="D") for level in LEVELS)
        for name, date in zip(COLUMNS[:3], (middle, low, high), strict=True):
            found[name] = pd.Series(date).dt.floor("s")
        soon = curve[:, SOON] if curve.shape[1] > SOON else np.full(len(curve), np.nan)
        found["order_28d"], found["dormancy_28d"] = 1 - soon, soon
        none = NO_REPEAT if np.isnan(self.everyone) else BEYOND
        found["reason"] = np.where(found["next_order_at"].isna(), none, "")
        return found

    def survival(self, rows: Rows) -> np.ndarray:
        """(rows, intervals + 1): the chance of no purchase until each of EDGES, as far as it is told; 1 first."""
        number = len(rows.own.rows)
        if not number:
            return np.ones((0, SOON + 1))
        blocks = [rows.take(slice(at, at + BLOCK)) for at in range(0, number, BLOCK)]
        return np.concatenate([self._survival(block) ** self.pace for block in blocks])

    def usual(self, rows: Rows) -> np.ndarray:
        """The usual days between purchases by row: of the item, else everyone's."""
        found = np.full(len(rows.own.rows), self.everyone)
        if len(self.item_ids) and len(rows.item_ids):
            at = positions(self.item_ids, rows.item_ids)[rows.item]
            found[at >= 0] = np.exp(self.item_gaps[at[at >= 0]])
        return found

    @abstractmethod
    def _fit(self, today: Rows, past: Sequence[Past]) -> None: ...

    @abstractmethod
    def _survival(self, rows: Rows) -> np.ndarray: ...

    def _state(self) -> State:
        return {"numbers": np.array([self.everyone, self.pace]), "item_ids": self.item_ids, "item_gaps": self.item_gaps}

    def _restore(self, state: State) -> None:
        self.everyone, self.pace = state["numbers"].tolist()
        self.item_ids, self.item_gaps = state["item_ids"], state["item_gaps"]


class Hazard(NextOrder):
    """The logistic hazard on recency, own and usual gaps, frequency and amounts."""

    name: ClassVar[str] = "hazard_logistic"

    class Config(NextOrder.Config):
        c: float = 1.0  # inverse of the regularisation

    config: Config
    coefficients: np.ndarray  # of the standardised columns, then the intercepts by interval
    scale: np.ndarray  # mean and standard deviation by column
    reach: int  # intervals that were learned

    def _fit(self, today: Rows, past: Sequence[Past]) -> None:  # noqa: ARG002 - what followed is enough
        designs: list[np.ndarray] = []
        events: list[np.ndarray] = []
        intervals: list[np.ndarray] = []
        for one in past:
            still = self._still(one.rows)
            for j in range(len(EDGES) - 1):
                if EDGES[j + 1] > one.over:
                    break
                waiting = one.wait > EDGES[j]
                designs.append(np.c_[self._moving(one.rows, float(EDGES[j])), still][waiting])
                events.append(one.wait[waiting] <= EDGES[j + 1])
                intervals.append(np.full(int(waiting.sum()), j))
        if not designs:
            raise ValueError("no interval of a past date is over")
        x, y, which = np.concatenate(designs), np.concatenate(events), np.concatenate(intervals)
        enough = np.bincount(which[y], minlength=len(EDGES) - 1) >= FEWEST_EVENTS
        self.reach = int(np.argmin(np.r_[enough, False]))
        if self.reach < SOON:
            raise ValueError("too few purchases in the next weeks of past dates")
        told = which < self.reach
        x, y, which = x[told], y[told], which[told]
        self.scale = np.stack([x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)])
        dummies = (which[:, None] == np.arange(self.reach)).astype(float)
        z = np.c_[(x - self.scale[0]) / self.scale[1], dummies]
        with threadpool_limits(limits=1):  # sums in one order: equal data give equal bytes
            model = LogisticRegression(C=self.config.c, max_iter=500).fit(z, y)
        self.coefficients = np.r_[model.coef_[0, : x.shape[1]], model.coef_[0, x.shape[1] :] + model.intercept_[0]]

    def _survival(self, rows: Rows) -> np.ndarray:
        weights = self.coefficients[: -self.reach] / self.scale[1]
        still = self._still(rows)
        moves = len(weights) - still.shape[1]
        fixed = still @ weights[moves:] - self.scale[0] @ weights
        curve = np.ones((len(fixed), self.reach + 1))
        for j in range(self.reach):
            z = fixed + self._moving(rows, float(EDGES[j])) @ weights[:moves] + self.coefficients[len(weights) + j]
            curve[:, j + 1] = curve[:, j] / (1 + np.exp(np.minimum(z, 700)))
        return curve

    def _moving(self, rows: Rows, ahead: float) -> np.ndarray:
        """The columns that change while one waits, `ahead` days from now."""
        since = np.log1p(rows.own.since + ahead)
        gap = np.log1p(self._gap(rows))
        late = since - gap
        return np.stack([since, since**2, late, late**2, np.abs(late), since * gap], axis=1)

    def _still(self, rows: Rows) -> np.ndarray:
        """The columns that stay as they are known today."""
        own = rows.own
        once = np.isnan(own.gap)
        gap, number = np.log1p(self._gap(rows)), np.log(own.number)
        columns = [
            gap, once, np.log1p(np.where(once, 0.0, own.last_gap)), np.nan_to_num(own.spread), np.isnan(own.spread),
            number, number**2, np.log1p(own.age), number - np.log(own.age + 28),
            *np.log1p(own.counts).T, np.log1p(np.maximum(np.nan_to_num(own.amount, nan=1.0), 0.0)),
        ]  # fmt: skip
        if rows.customer is not None:
            theirs = rows.customer
            recent = np.log1p(theirs.since)
            columns += [
                recent, recent**2, np.log1p(np.nan_to_num(theirs.gap, nan=self.everyone)), np.log(theirs.number),
                recent - np.log1p(np.nan_to_num(theirs.gap, nan=self.everyone)), *np.log1p(theirs.counts).T,
                np.log1p(self.usual(rows)), number - np.log(theirs.number),
            ]  # fmt: skip
        return np.stack(columns, axis=1).astype(float)

    def _gap(self, rows: Rows) -> np.ndarray:
        return np.where(np.isnan(rows.own.gap), self.usual(rows), rows.own.gap)

    def _state(self) -> State:
        learned = {"coefficients": self.coefficients, "scale": self.scale, "reach": np.array(self.reach)}
        return super()._state() | learned

    def _restore(self, state: State) -> None:
        super()._restore(state)
        self.coefficients, self.scale, self.reach = state["coefficients"], state["scale"], int(state["reach"])


class OwnMedianGap(NextOrder):
    """The next purchase comes a median gap after the last: the customer's own, else the usual one."""

    name: ClassVar[str] = "own_median_gap"
    spread: float  # standard deviation of the waits' logarithms

    def _fit(self, today: Rows, past: Sequence[Past]) -> None:  # noqa: ARG002 - gaps are enough
        self.spread = self._spread(today.own)

    def _spread(self, own: States) -> float:
        off = np.log(np.maximum(own.last_gap, 1.0)) - np.log(np.maximum(own.gap, 1.0))
        off = off[own.number > 2]  # of two purchases the last gap is the median
        return float(np.clip(np.sqrt((off**2).mean()), 0.2, 3.0)) if len(off) else 1.0

    def wait(self, rows: Rows) -> np.ndarray:
        """Days from the last purchase to the next."""
        return np.where(np.isnan(rows.own.gap), self.usual(rows), rows.own.gap)

    def _survival(self, rows: Rows) -> np.ndarray:
        middle = np.log(np.maximum(self.wait(rows), 1.0))
        waited = rows.own.since[:, None] + EDGES
        logs = log_ndtr((middle[:, None] - np.log(np.maximum(waited, 0.5))) / self.spread)
        return np.exp(logs - logs[:, :1])

    def _state(self) -> State:
        return super()._state() | {"spread": np.array(self.spread)}

    def _restore(self, state: State) -> None:
        super()._restore(state)
        self.spread = float(state["spread"])


class ConstantWait(OwnMedianGap):
    """Everybody waits as long, with an item as long as is usual for it."""

    name: ClassVar[str] = "constant_wait"

    def _spread(self, own: States) -> float:
        logs = np.log(np.maximum(own.gap[own.number > 1], 1.0))
        return float(np.clip(logs.std(), 0.2, 3.0)) if len(logs) else 1.0

    def wait(self, rows: Rows) -> np.ndarray:
        return self.usual(rows)


KINDS: tuple[type[NextOrder], ...] = (Hazard, OwnMedianGap, ConstantWait)


def describe(some: Series, orders: Series | None, day: int) -> Rows:
    """Series as of `day` days ago: those of customers bought once by then, those with items twice."""
    own = states(some, day, 2 if len(some.item_ids) else 1)
    item = some.item[own.rows]
    if orders is None:
        return Rows(own, None, item, some.item_ids)
    theirs = states(orders, day)
    place = np.full(len(orders) + 1, -1)
    place[theirs.rows] = np.arange(len(theirs.rows))
    # a series of a customer is one row of orders: both are sorted by customer
    at = place[positions(orders.customer_ids, some.customer_ids)[some.customer[own.rows]]]
    if (at < 0).any():
        raise ValueError("orders lack customers of the series")
    return Rows(own, theirs.take(at), item, some.item_ids)


def asked(customers: np.ndarray, found: pd.DataFrame) -> pd.DataFrame:
    """The rows of `predict` of the customers asked for, in their order; those without one have the reason NEVER."""
    rows = found.set_index("customer_id").reindex(customers)
    rows["reason"] = rows["reason"].where(rows["reason"].notna(), NEVER)
    return rows.rename_axis("customer_id").reset_index()


def _quantile(curve: np.ndarray, level: float) -> np.ndarray:
    """Days until the share `level` would have bought; NaN where the curve doesn't come so far down."""
    logs = np.log(np.maximum(curve, 1e-300))
    wanted = np.log1p(-level)
    reached = logs <= wanted
    j = np.maximum(reached.argmax(axis=1), 1)
    row = np.arange(len(curve))
    before, after = logs[row, j - 1], logs[row, j]
    share = np.where(after < before, (wanted - before) / np.where(after < before, after - before, -1.0), 1.0)
    days = EDGES[j - 1] + share * (EDGES[j] - EDGES[j - 1])
    return np.where(reached.any(axis=1), days, np.nan)
