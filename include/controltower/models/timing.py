"""The hour at which a customer is most likely active: own counts, shrunk to everyone's (empirical Bayes).

An active hour is a local clock hour of a day with an event or a purchase; bursts within it count once. A customer's
share of each hour is (own hours + strength x everyone's share) / (number of own hours + strength), so with few own
hours everyone's habit decides. The hour whose three-hour window around it holds most wins; the clock is a circle.
Night hours and quiet times are the campaigns' business.

A click in a message of ours is evidence too, but it comes at an hour that we chose: whoever is written to at 20:55
clicks at 21:00, and a model that believed this would go on sending at 20:55. So an hour in which a customer did nothing
but click, or follow a click (events with a click_id), counts `click_weight` hours; a purchase, and an event that
doesn't say where it came from, count whole, though a message may be behind them as well. What is left of the bias only
hours drawn at random could measure. Openings count nothing: a pixel tells when a mailbox loaded it, not when someone
read.
"""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Self

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from pydantic import Field

from controltower.models.base import Model, ModelConfig, Outcome, State
from controltower.profiles.facts import gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.local_time import epoch, local_hour, with_local_seconds
from controltower.profiles.portable import seconds
from controltower.shop import Shop

NAME = "send_hour"
LOOK_BACK_DAYS = 180
SPLIT_DAYS = 28
STRENGTHS = (2.0, 5.0, 10.0, 20.0, 50.0)
FEWEST_CUSTOMERS = 50  # active on both sides of the split, in each half
DAYTIME_HOUR = 10  # where nothing at all is known


def active_hours(tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, hour (0-23, local), second (epoch), by_click: a row per customer, day and hour of the last 180 days.

    `by_click`: nothing but clicks in our messages, and what followed them, shows that the customer was active then.
    """
    since = as_of - timedelta(days=LOOK_BACK_DAYS)
    events = tables("events")
    events = events.filter(events.customer_id.notnull(), events.occurred_at <= as_of, events.occurred_at > since)
    facts = gather(tables, as_of, shop)
    orders, clicks = facts.orders, facts.reactions.filter(facts.reactions.event == "clicked")
    acts = ibis.union(
        events.select(
            "customer_id", second=seconds(events.occurred_at), by_click=events.click_id.notnull().cast("int64")
        ),
        orders.filter(orders.second > epoch(since)).select("customer_id", "second", by_click=ibis.literal(0, "int64")),
        clicks.filter(clicks.second > epoch(since)).select("customer_id", "second", by_click=ibis.literal(1, "int64")),
    )
    local = with_local_seconds(acts, facts.zones, as_of, shop)
    hourly = local.mutate(
        hour=local_hour(local.local_second), clock_hour=(local.local_second - local.local_second % 3600)
    )
    return (
        hourly.group_by("customer_id", "hour", "clock_hour")
        .aggregate(second=hourly.second.min(), by_click=hourly.by_click.min() == 1)
        .select("customer_id", "hour", "second", "by_click")
        .order_by("customer_id", "second")
    )


class SendHour(Model):
    """Learns from active hours (customer_id, hour, by_click), says the best local hour of customers."""

    class Config(ModelConfig):
        click_weight: float = Field(default=0.3, gt=0, le=1)  # of an hour that only our own message may have caused

    config: Config
    share: np.ndarray  # 24: everyone's share of active hours

    def fit(self, hours: pd.DataFrame) -> Self:
        counts = np.bincount(hours["hour"].to_numpy(int), weights=self.weights(hours), minlength=24)[:24]
        smooth = (np.roll(counts, 1) + 2 * counts + np.roll(counts, -1)) / 4
        self.share = smooth / smooth.sum() if smooth.sum() else np.zeros(24)
        return self

    def predict(self, customers: np.ndarray, hours: pd.DataFrame) -> pd.DataFrame:
        """customer_id, send_hour (0-23), send_hour_weight (0-1: share of own evidence) of the customers asked for."""
        counts = count_hours(customers, hours, self.weights(hours))
        total = counts.sum(axis=1, keepdims=True)
        own = self._weight(total[:, 0])
        shares = counts / np.where(total > 0, total, 1)
        mixed = own[:, None] * shares + (1 - own[:, None]) * self.share
        best = window_sums(mixed).argmax(axis=1) if self.share.any() else np.full(len(customers), DAYTIME_HOUR)
        return pd.DataFrame({"customer_id": customers, "send_hour": best, "send_hour_weight": own})

    def weights(self, hours: pd.DataFrame) -> np.ndarray:
        """How much each active hour counts."""
        return np.where(hours["by_click"].to_numpy(bool), self.config.click_weight, 1.0)

    @abstractmethod
    def _weight(self, counts: np.ndarray) -> np.ndarray:
        """The weight of own evidence by the number of own active hours."""

    def _state(self) -> State:
        return {"share": self.share}

    def _restore(self, state: State) -> None:
        self.share = state["share"]


class OwnHour(SendHour):
    """The customer's own hours, as far as there are enough of them."""

    name: ClassVar[str] = "own_hour"

    class Config(SendHour.Config):
        strength: float = 10.0  # everyone's habit weighs as much as this many own hours

    config: Config

    def _weight(self, counts: np.ndarray) -> np.ndarray:
        return counts / (counts + self.config.strength)


class BestHour(SendHour):
    """Everyone's best hour: the baseline."""

    name: ClassVar[str] = "best_hour"

    def _weight(self, counts: np.ndarray) -> np.ndarray:
        return np.zeros(len(counts))


KINDS: tuple[type[SendHour], ...] = (OwnHour, BestHour)


def count_hours(customers: np.ndarray, hours: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """customers x 24 active hours, each row by its weight; rows of other customers are left out."""
    row = pd.Index(customers).get_indexer(hours["customer_id"])
    known = row >= 0
    counts = np.zeros((len(customers), 24))
    np.add.at(counts, (row[known], hours["hour"].to_numpy(int)[known]), weights[known])
    return counts


def window_sums(shares: np.ndarray) -> np.ndarray:
    """Each hour's share together with those of the hours before and after, around the clock."""
    return np.roll(shares, 1, axis=1) + shares + np.roll(shares, -1, axis=1)


def hits(model: SendHour, past: pd.DataFrame, later: pd.DataFrame, customers: np.ndarray) -> float:
    """The mean share of customers' later active hours that lie within an hour of the model's."""
    chosen = model.predict(customers, past)["send_hour"].to_numpy(int)
    counts = count_hours(customers, later, model.weights(later))
    shares = window_sums(counts / counts.sum(axis=1, keepdims=True))
    return float(shares[np.arange(len(customers)), chosen].mean())


def train(hours: pd.DataFrame, as_of: datetime) -> Outcome:
    """The send-hour model. The strength is chosen on one half of the customers, and judged on the other half."""
    start = epoch(as_of) - SPLIT_DAYS * 86_400
    past, later = hours[hours["second"] < start], hours[hours["second"] >= start]
    both = np.intersect1d(past["customer_id"].unique(), later["customer_id"].unique())
    choosing, judging = both[::2], both[1::2]
    strength, metrics, baseline_metrics, won = STRENGTHS[2], {}, {}, False
    if len(judging) < FEWEST_CUSTOMERS:
        why = f"Only {len(both)} customers were active before and after the time split: everyone's best hour serves."
    else:
        tried = {s: hits(OwnHour(OwnHour.Config(strength=s)).fit(past), past, later, choosing) for s in STRENGTHS}
        strength = max(tried, key=lambda s: tried[s])
        own = hits(OwnHour(OwnHour.Config(strength=strength)).fit(past), past, later, judging)
        best = hits(BestHour().fit(past), past, later, judging)
        metrics, baseline_metrics = {"hits_3h": round(own, 5)}, {"hits_3h": round(best, 5)}
        won = own > best
        compared = f"{own:.1%} of active hours within an hour of the chosen one, against {best:.1%}"
        why = f"It beat everyone's best hour: {compared}." if won else f"It lost to everyone's best hour: {compared}."
    model: SendHour = OwnHour(OwnHour.Config(strength=strength)) if won else BestHour()
    first = hours["second"].min() if len(hours) else None
    return Outcome(
        name=NAME,
        model=model.fit(hours),
        challenger=OwnHour.name,
        published=won,
        why=why,
        metric="hits_3h",
        metrics=metrics,
        baseline=BestHour.name,
        baseline_metrics=baseline_metrics,
        window=(datetime.fromtimestamp(int(first), UTC), as_of) if first is not None else None,
        rows={"active_hours": len(hours), "customers": int(hours["customer_id"].nunique()), "tried": len(judging)},
        details={"strength": strength},
    )
