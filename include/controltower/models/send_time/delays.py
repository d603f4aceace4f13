"""How long after a visit a customer comes back, by what was done in it: viewed, put into the cart, bought.

A visit is what a customer did without a pause of PAUSE seconds; it counts as the most telling thing done in it. Its
return is the customer's next visit, unless a click in a message of ours began that one. The delay is in whole hours
from the end of the visit, up to a week. The best delay is the hour around which, in three hours, most returns lie; the
customer's own returns are shrunk to everyone's as hours of the week are (model.py).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Self

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from controltower.models.base import Model, ModelConfig, Outcome, State
from controltower.models.send_time.training import FEWEST, SPLIT_DAYS, compare
from controltower.profiles.facts import gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.local_time import epoch
from controltower.profiles.portable import DAY, one_if, seconds, whole
from controltower.shop import Shop

NAME = "send_delay"
BEHAVIOURS = ("view_item", "add_to_cart", "purchase")
LOOK_BACK_DAYS = 180
PAUSE = 1800  # seconds
REACH = 168  # hours
STRENGTHS = (5.0, 20.0, 80.0, 320.0)
USUAL_HOURS = {"view_item": 24, "add_to_cart": 1, "purchase": 24}  # where nobody has come back yet: trade custom
BLOCK = 50_000


def returns(tables: Tables, as_of: datetime, shop: Shop, customers: np.ndarray) -> ir.Table:
    """customer_id, behaviour (position in BEHAVIOURS), delay (hours, 0-167), second (when they were back).

    One row a return of these customers (ids) by themselves within a week, known as of as_of, of the last
    LOOK_BACK_DAYS.
    """
    since = as_of - timedelta(days=LOOK_BACK_DAYS)
    asked = ibis.memtable(pa.table({"customer_id": pa.array(customers, pa.string())}))
    events = tables("events").semi_join(asked, "customer_id")
    events = events.filter(events.occurred_at <= as_of, events.occurred_at > since)
    behaviour = ibis.cases(*((events.event_name == name, n) for n, name in enumerate(BEHAVIOURS)), else_=-1)
    orders = gather(tables, as_of, shop).orders.semi_join(asked, "customer_id")
    acts = ibis.union(
        events.select(
            "customer_id",
            second=seconds(events.occurred_at),
            behaviour=behaviour.cast("int64"),
            by_click=one_if(events.click_id.notnull()),
        ),
        orders.filter(orders.second > epoch(since)).select(
            "customer_id",
            "second",
            behaviour=ibis.literal(BEHAVIOURS.index("purchase"), "int64"),
            by_click=ibis.literal(0, "int64"),
        ),
    )
    own = ibis.window(group_by="customer_id", order_by=["second", "by_click", "behaviour"])
    acts = acts.mutate(pause=acts.second - acts.second.lag().over(own))
    acts = acts.mutate(begins=one_if(acts.pause.isnull() | (acts.pause > PAUSE)))
    until_now = ibis.window(
        group_by="customer_id", order_by=["second", "by_click", "behaviour"], preceding=None, following=0
    )
    acts = acts.mutate(visit=acts.begins.sum().over(until_now))
    visits = acts.group_by("customer_id", "visit").aggregate(
        begun=acts.second.min(),
        ended=acts.second.max(),
        behaviour=acts.behaviour.max(),
        by_click=(acts.by_click * acts.begins).max(),
    )
    following = ibis.window(group_by="customer_id", order_by="visit")
    visits = visits.mutate(back=visits.begun.lead().over(following), sent=visits.by_click.lead().over(following))
    visits = visits.mutate(delay=whole(visits.back - visits.ended, ibis.literal(3600)))
    kept = visits.filter(visits.behaviour >= 0, visits.back.notnull(), visits.sent == 0, visits.delay < REACH)
    return kept.select("customer_id", "behaviour", "delay", second=kept.back)


@dataclass(frozen=True)
class Returns:
    """Returns as arrays: `customer` is a position in `customer_ids` (n,), `day` whole days before as_of."""

    customer_ids: np.ndarray
    customer: np.ndarray
    behaviour: np.ndarray
    delay: np.ndarray
    day: np.ndarray

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], as_of: datetime, customer_ids: np.ndarray) -> Self:
        """Rows of `returns`; those of customers who aren't asked for are left out."""
        known, parts = pa.array(customer_ids, pa.string()), [np.zeros((4, 0), np.int64)]
        for batch in batches:
            at = pc.index_in(batch.column("customer_id").cast(pa.string()), known)
            kept = batch.filter(at.is_valid())
            behaviour, delay, second = (kept.column(c).to_numpy() for c in ("behaviour", "delay", "second"))
            parts.append(np.stack([at.drop_null().to_numpy(), behaviour, delay, (epoch(as_of) - second) // DAY]))
        return cls(np.asarray(customer_ids, np.str_), *np.concatenate(parts, axis=1))

    def __len__(self) -> int:
        return len(self.customer)

    def where(self, mask: np.ndarray) -> Returns:
        """The rows of a mask."""
        return Returns(self.customer_ids, self.customer[mask], self.behaviour[mask], self.delay[mask], self.day[mask])

    def counts(self, behaviour: int) -> sp.csr_matrix:
        """(n, 168): returns after a behaviour by hours."""
        mask = self.behaviour == behaviour
        at = self.customer[mask], self.delay[mask]
        return sp.csr_matrix((np.ones(int(mask.sum()), np.float32), at), shape=(len(self.customer_ids), REACH))


class Delay(Model):
    """Learns from returns, says the best delay of customers after each behaviour."""

    name: ClassVar[str] = "delay"
    everyone: np.ndarray  # (behaviours, 168): everyone's shares; 0 where nobody has come back

    def fit(self, some: Returns) -> Self:
        counts = np.stack([np.asarray(some.counts(b).sum(axis=0)).ravel() for b in range(len(BEHAVIOURS))])
        total = counts.sum(axis=1, keepdims=True)
        self.everyone = np.where(total > 0, counts / np.maximum(total, 1), 0.0)
        return self

    def predict(self, some: Returns) -> pd.DataFrame:
        """customer_id, and by behaviour `delay_after_<behaviour>`: whole hours (1-167)."""
        columns = {f"delay_after_{name}": self.delays(some, b) for b, name in enumerate(BEHAVIOURS)}
        return pd.DataFrame({"customer_id": some.customer_ids} | columns)

    def table(self) -> pd.DataFrame:
        """behaviour, delay (hours), share (of returns within an hour of it): what holds for everyone."""
        delay = [int(_best(self.everyone[None, b], b)[0]) for b in range(len(BEHAVIOURS))]
        share = [float(_near(self.everyone[b])[d]) for b, d in enumerate(delay)]
        return pd.DataFrame({"behaviour": BEHAVIOURS, "delay": delay, "share": share})

    def delays(self, some: Returns, behaviour: int) -> np.ndarray:
        """(n,) the best delay of some.customer_ids after a behaviour."""
        counts, usual = some.counts(behaviour), self.everyone[behaviour].astype(np.float32)
        best = np.empty(counts.shape[0], np.int64)
        for start in range(0, len(best), BLOCK):
            own = counts[start : start + BLOCK].toarray()
            best[start : start + BLOCK] = _best(self._shares(own, usual), behaviour)
        return best

    @abstractmethod
    def _shares(self, own: np.ndarray, usual: np.ndarray) -> np.ndarray: ...

    def _state(self) -> State:
        return {"everyone": self.everyone}

    def _restore(self, state: State) -> None:
        self.everyone = state["everyone"]


class OwnDelay(Delay):
    """The customer's own delays, shrunk to everyone's."""

    name: ClassVar[str] = "own_delay"

    class Config(ModelConfig):
        strength: float = 80.0  # everyone's returns weigh as much as so many own

    config: Config

    def _shares(self, own: np.ndarray, usual: np.ndarray) -> np.ndarray:
        strength = np.float32(self.config.strength)
        return np.asarray((own + strength * usual) / (own.sum(axis=1, keepdims=True) + strength))


class EveryonesDelay(Delay):
    """Everyone's best delay: the baseline."""

    name: ClassVar[str] = "everyones_delay"

    def _shares(self, own: np.ndarray, usual: np.ndarray) -> np.ndarray:
        return np.tile(usual, (len(own), 1))


KINDS: tuple[type[Delay], ...] = (OwnDelay, EveryonesDelay)


def train(some: Returns, as_of: datetime) -> Outcome:
    """The model `send_delay`: OwnDelay where it hits more later returns for sure (95 %), else EveryonesDelay.

    Judged as send hours are (training.py), on the last 28 days; the strength is chosen on half of the customers.
    """
    past, later = some.where(some.day >= SPLIT_DAYS), some.where(some.day < SPLIT_DAYS)
    both = np.intersect1d(past.customer, later.customer)
    strength, metrics, theirs, won = OwnDelay.Config().strength, {}, {}, False
    if len(both) < FEWEST:
        why = f"Only {len(both)} customers came back before and after a past date: everyone's best delay serves."
    else:
        tried = {s: _hits(OwnDelay(OwnDelay.Config(strength=s)).fit(past), past, later, both[::2]) for s in STRENGTHS}
        strength = max(tried, key=lambda s: float(tried[s].mean()))
        own = _hits(OwnDelay(OwnDelay.Config(strength=strength)).fit(past), past, later, both[1::2])
        verdict = compare(own, _hits(EveryonesDelay().fit(past), past, later, both[1::2]), both[1::2])
        won = verdict.low > 0
        metrics = {"hits_3h": round(verdict.own, 5), "better_low": round(verdict.low, 5),
                   "better_high": round(verdict.high, 5)}  # fmt: skip
        theirs = {"hits_3h": round(verdict.everyone, 5)}
        compared = (
            f"{verdict.own:.1%} of returns lay within an hour of the chosen delay, against {verdict.everyone:.1%}"
            f" ({verdict.low:+.1%} to {verdict.high:+.1%} of it)"
        )
        why = (
            f"It beat everyone's best delay: {compared}."
            if won
            else f"It isn't better than everyone's best delay for sure, which therefore serves: {compared}."
        )
    model: Delay = OwnDelay(OwnDelay.Config(strength=strength)) if won else EveryonesDelay()
    model.fit(some)
    return Outcome(
        name=NAME,
        model=model,
        challenger=OwnDelay.name,
        published=won,
        why=why,
        metric="hits_3h",
        metrics=metrics,
        baseline=EveryonesDelay.name,
        baseline_metrics=theirs,
        window=(as_of - timedelta(days=int(some.day.max())), as_of) if len(some) else None,
        rows={"returns": len(some), "customers": len(np.unique(some.customer)), "tried": len(both)},
        details={"strength": strength, "everyone": model.table().to_dict("records")},
    )


def _hits(model: Delay, past: Returns, later: Returns, rows: np.ndarray) -> np.ndarray:
    """(rows,) the share of customers' later returns within an hour of the chosen delay."""
    hit, total = np.zeros(len(rows)), np.zeros(len(rows))
    for behaviour in range(len(BEHAVIOURS)):
        delay = model.delays(past, behaviour)[rows]
        counts = later.counts(behaviour)[rows].toarray()
        hit += _near(counts)[np.arange(len(rows)), delay]
        total += counts.sum(axis=1)
    return hit / np.maximum(total, 1)


def _near(counts: np.ndarray) -> np.ndarray:
    """Counts (.., 168) with those an hour less and more; time is no circle here."""
    none = np.zeros((*counts.shape[:-1], 1), counts.dtype)
    wide = np.concatenate([none, counts, none], axis=-1)
    return np.asarray(wide[..., :-2] + wide[..., 1:-1] + wide[..., 2:])


def _best(shares: np.ndarray, behaviour: int) -> np.ndarray:
    """(n,) the delay around which most returns lie, from an hour on: before that the visit is hardly over."""
    known = shares.any(axis=1)
    found = 1 + _near(shares)[:, 1:-1].argmax(axis=1)
    return np.where(known, found, USUAL_HOURS[BEHAVIOURS[behaviour]])
