"""A goal in, an audience out: who brings most of what is wanted, how much is expected of them, and how sure that is.

Each customer has a chance p of the goal's event and a value of it; what is expected is p x value, and whoever is
expected to bring most comes first. The goals:

* `clicks`, `conversions`: p (CPC, CO).
* `revenue`: p x expected basket (RO). `margin`: p x basket x margin rate (VO).
* `retention`: chance of no purchase x what the customer would be worth: the value at stake, not what a message saves.
* `incremental`: what a message changes (uplift) x value; who isn't changed for the better isn't written to.
* `acquire`: the chance that a visitor or prospect, who never bought, becomes a customer.

The interval says where the audience's total will lie in 95 of 100 cases, and holds two errors: chance, as customers
decide independently of each other (sum of the variances of p x value), and the model's calibration, by which all are
off together (a share of the total, learned from past dates: `calibration_error`; of `incremental` the uplift's own
standard error).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from controltower.errors import BadSpec

CLICKS, CONVERSIONS, REVENUE, MARGIN, RETENTION, INCREMENTAL, ACQUIRE = GOALS = (
    "clicks", "conversions", "revenue", "margin", "retention", "incremental", "acquire",
)  # fmt: skip
POINTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LEVEL = 0.95
NEEDS: Mapping[str, tuple[str, ...]] = {
    CLICKS: ("p",), CONVERSIONS: ("p",), REVENUE: ("p", "basket"), MARGIN: ("p", "basket", "margin_rate"),
    RETENTION: ("p",), INCREMENTAL: ("uplift", "p"), ACQUIRE: ("p",),
}  # fmt: skip
UNKNOWN, NO_GAIN = "unknown", "no_gain"


@dataclass(frozen=True)
class Customers:
    """What is expected of customers, each (n,); NaN is unknown.

    p: the chance of the goal's event within the days (a click, an order, of `retention` no order, of `acquire` the
    first order, of `incremental` the event without a message), see `within`. basket: the amount of an order, basket_sd:
    its spread. margin_rate: a share. uplift: the change of p by a message. value: of the event, for `retention` and
    `incremental` (1 where it isn't given). uplift_error: the standard error of uplift, by which all are off together. A
    spread, an error or a p without a message that isn't known is taken for a large one: it leaves nobody out.
    """

    customer_ids: np.ndarray
    p: np.ndarray | None = None
    basket: np.ndarray | None = None
    basket_sd: np.ndarray | None = None
    margin_rate: np.ndarray | None = None
    uplift: np.ndarray | None = None
    uplift_error: np.ndarray | None = None
    value: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("p", "basket", "basket_sd", "margin_rate", "uplift", "uplift_error", "value"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.customer_ids):
                raise ValueError(f"{name} and customer_ids differ in length")
        if self.p is not None and ((self.p < 0) | (self.p > 1)).any():
            raise ValueError("p is a probability")


@dataclass(frozen=True)
class Result:
    """What is expected of the first `size`: the total with its interval, in the goal's unit; the contacts' cost."""

    size: int
    expected: float
    low: float
    high: float
    cost: float


@dataclass(frozen=True)
class Audience:
    """Ranked customers, the best first, what is expected of each, and of all.

    `positions` are into the input. `so_far` has a row for each: what is expected of all until then, with the interval's
    two ends. `curve` has a Result for each of POINTS of all who could be chosen. `left_out`: how many weren't ranked,
    by reason: `unknown` (a number that the goal needs isn't known) and `no_gain`.
    """

    goal: str
    customer_ids: np.ndarray
    positions: np.ndarray
    expected: np.ndarray
    so_far: np.ndarray
    result: Result
    curve: Sequence[Result]
    left_out: Mapping[str, int] = field(default_factory=dict)


def target(
    goal: str,
    customers: Customers,
    size: int | None = None,
    budget: float | None = None,
    cost: np.ndarray | float = 0.0,
    calibration: float = 0.0,
) -> Audience:
    """The audience of a goal: all who can bring something, or at most `size`, or as many as the budget pays for.

    cost: of a contact, one or (n,). With a budget and costs that differ, whoever brings most by cost comes first; else
    whoever brings most. Equal ones are ranked by customer id. calibration: the model's relative error of totals. Raises
    BadSpec for an unknown goal, a number that the goal needs and wasn't given, and a size, budget or cost below 0.
    """
    each, variance, together = expected(goal, customers)
    n = len(each)
    costs = np.broadcast_to(np.asarray(cost, dtype=float), n)
    if (size is not None and size < 0) or (budget is not None and budget < 0) or (costs < 0).any():
        raise BadSpec("A size, a budget or a cost is below 0.", "Give numbers of 0 or more.")
    known, gains = ~np.isnan(each), each > 0
    there = np.flatnonzero(known & gains)
    by = each[there]
    if budget is not None and n and costs.min() < costs.max():
        free = costs[there] == 0  # first of all, the best of them first
        by = np.where(free, by, np.divide(by, costs[there], where=~free, out=np.zeros(len(by))))
        order = there[np.lexsort((customers.customer_ids[there], -by, ~free))]
    else:
        order = there[np.lexsort((customers.customer_ids[there], -by))]
    spent = np.cumsum(costs[order])
    reach = len(order) if budget is None else int((spent <= budget * (1 + 1e-12)).sum())
    reach = reach if size is None else min(reach, size)
    totals = np.cumsum(each[order])
    off = np.hypot(calibration * totals, np.cumsum(together[order]))
    spread = _quantile() * np.hypot(np.sqrt(np.cumsum(variance[order])), off)
    at_least = -np.inf if goal == INCREMENTAL else 0.0
    so_far = np.stack([totals, np.maximum(at_least, totals - spread), totals + spread], axis=1)

    def result(number: int) -> Result:
        if not number:
            return Result(0, 0.0, 0.0, 0.0, 0.0)
        total, low, high = so_far[number - 1].tolist()
        return Result(number, total, low, high, float(spent[number - 1]))

    sizes = sorted({int(share * len(order) + 0.5) for share in POINTS} - {0})
    chosen = order[:reach]
    left_out = {UNKNOWN: int((~known).sum()), NO_GAIN: int((known & ~gains).sum())}
    return Audience(
        goal, customers.customer_ids[chosen], chosen, each[chosen], so_far[:reach], result(reach),
        [result(s) for s in sizes], {reason: number for reason, number in left_out.items() if number},
    )  # fmt: skip


def expected(goal: str, customers: Customers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By customer (n,), what is expected in the goal's unit, the variance of what will come, and the standard error by
    which all are off together. NaN: unknown."""
    if goal not in GOALS:
        raise BadSpec(f"There is no goal {goal!r}.", f"Choose one of: {', '.join(GOALS)}.")
    lacking = [name for name in NEEDS[goal] if getattr(customers, name) is None]
    if lacking:
        raise BadSpec(f"The goal {goal!r} needs {' and '.join(lacking)}.", "Train the models that give them first.")
    ones = np.ones(len(customers.customer_ids))
    if goal == INCREMENTAL:
        return _changed(customers, ones)
    p, value, spread = _given(customers.p, ones), ones, 0 * ones
    if goal in (REVENUE, MARGIN):
        value = _given(customers.basket, ones)
        spread = _given(customers.basket_sd, 0 * ones)
        spread = np.where(np.isnan(spread), value, spread)
    if goal == MARGIN:
        rate = _given(customers.margin_rate, ones)
        value, spread = value * rate, spread * rate
    if goal == RETENTION:
        value = _given(customers.value, ones)
    return p * value, p * (1 - p) * value**2 + p * spread**2, 0 * ones


def calibration_error(predicted: Sequence[float], happened: Sequence[float], variances: Sequence[float]) -> float:
    """By what share totals are off beyond chance: from past dates' expected totals, what came, and chance's variances.

    The root of the mean squared relative error less the part that chance explains; 0 where it explains all, NaN
    without a date on which something was expected.
    """
    p, h, v = (np.asarray(values, dtype=float) for values in (predicted, happened, variances))
    p, h, v = p[p > 0], h[p > 0], v[p > 0]
    if not len(p):
        return float("nan")
    beyond = np.divide((h - p) ** 2 - v, p**2)
    return float(np.sqrt(max(0.0, float(beyond.mean()))))


def within(chances: Mapping[float, np.ndarray], days: float) -> np.ndarray:
    """The chance (n,) of an event within `days`, from those within other numbers of days (such as 1, 7 and 28).

    Between two known ones, and beyond the last, events come at a constant rate: -log(1 - p) is linear in the days. A
    chance never falls with the days. Raises ValueError without a chance, or for days of 0 or less.
    """
    if not chances or days <= 0:
        raise ValueError("chances within some days are needed, and days above 0")
    known = sorted(chances)
    hazards = np.stack([-np.log1p(-np.clip(chances[d], 0, 1 - 1e-12)) for d in known])
    hazards = np.maximum.accumulate(np.vstack([np.zeros_like(hazards[:1]), hazards]))
    times = np.array([0.0, *known])
    after = min(int(np.searchsorted(times, days)), len(known))
    before = after - 1
    part = np.divide(days - times[before], times[after] - times[before])
    return np.asarray(-np.expm1(-(hazards[before] + part * (hazards[after] - hazards[before]))))


def _changed(customers: Customers, ones: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a message's effect. A customer's outcomes with and without it are taken as independent: they can't be seen
    both, and the variance of their difference is no greater as long as they don't go against each other."""
    uplift, value = _given(customers.uplift, ones), _given(customers.value, ones)
    error = _given(customers.uplift_error, 0 * ones)
    error = np.where(np.isnan(error), np.abs(uplift), error)
    p = np.nan_to_num(_given(customers.p, ones), nan=0.5)
    risen = np.clip(p + uplift, 0, 1)
    chance = p * (1 - p) + risen * (1 - risen)
    return uplift * value, chance * value**2, error * np.abs(value)


def _given(column: np.ndarray | None, otherwise: np.ndarray) -> np.ndarray:
    return otherwise if column is None else np.asarray(column, dtype=float)


def _quantile() -> float:
    return NormalDist().inv_cdf(0.5 + LEVEL * 0.5)
