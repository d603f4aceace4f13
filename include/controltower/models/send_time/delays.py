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
from typing import ClassVar, NamedTuple, Self

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from controltower.models import calibration, publication
from controltower.models.base import Model, ModelConfig, Outcome, State
from controltower.models.publication import Beside
from controltower.models.send_time.training import FEWEST, SPLIT_DAYS, SPLITS, compare, hit_date
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
        return self.chosen(some, behaviour)[0]

    def chosen(self, some: Returns, behaviour: int) -> tuple[np.ndarray, np.ndarray]:
        """(n,) the best delay, and the share of returns that is expected within an hour of it."""
        counts, usual = some.counts(behaviour), self.everyone[behaviour].astype(np.float32)
        best, share = np.empty(counts.shape[0], np.int64), np.empty(counts.shape[0])
        for start in range(0, len(best), BLOCK):
            shares = self._shares(counts[start : start + BLOCK].toarray(), usual)
            some_best = _best(shares, behaviour)
            best[start : start + BLOCK] = some_best
            share[start : start + BLOCK] = _near(shares)[np.arange(len(shares)), some_best]
        return best, share

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


class _Past(NamedTuple):
    """A past date, so many days ago: the returns before it, those of the SPLIT_DAYS since, and the customers (sorted
    positions) who have some of both."""

    days: int
    known: Returns
    later: Returns
    both: np.ndarray

    @classmethod
    def of(cls, some: Returns, days: int) -> Self:
        known = some.where(some.day >= days)
        later = some.where((some.day < days) & (some.day >= days - SPLIT_DAYS))
        return cls(days, known, later, np.intersect1d(known.customer, later.customer))


def train(some: Returns, as_of: datetime, in_service: publication.InService[Delay] = publication.nothing) -> Outcome:
    """The model `send_delay`: OwnDelay where it hits more later returns for sure (95 %), else EveryonesDelay.

    Judged as send hours are (training.py); the strength is chosen on half of the customers, on the newest past date,
    and judged on the others.
    """
    pasts = [_Past.of(some, SPLIT_DAYS * k) for k in range(1, SPLITS + 1)]
    newest, pasts = pasts[0], [past for past in pasts if len(past.both) >= FEWEST]
    strength, metrics, theirs, won = OwnDelay.Config().strength, {}, {}, False
    dates: list[publication.Date[Delay]] = []
    drift: dict[str, float] = {}
    if not pasts or pasts[0] is not newest:
        pasts = []
        why = f"Only {len(newest.both)} customers came back before and after a past date: everyone's best delay serves."
    else:

        def own_of(s: float, past: _Past, half: int) -> Beside:
            model = OwnDelay(OwnDelay.Config(strength=s)).fit(past.known)
            return _hits(model, past, past.both[past.both % 2 == half])

        strength = max(STRENGTHS, key=lambda s: float(own_of(s, newest, 0).came.mean()))
        judging = [past.both[past.both % 2 == 1] for past in pasts]
        found = [
            (own_of(strength, past, 1), _hits(EveryonesDelay().fit(past.known), past, rows))
            for past, rows in zip(pasts, judging, strict=True)
        ]
        verdict = compare(
            np.concatenate([own.came for own, _ in found]), np.concatenate([everyone.came for _, everyone in found]),
            np.concatenate(judging),
        )  # fmt: skip
        won = verdict.low > 0
        dates = [_date(past, rows, *both, won, as_of) for past, rows, both in zip(pasts, judging, found, strict=True)]
        drift = _drift(OwnDelay(OwnDelay.Config(strength=strength)).fit(some), newest.known, some)
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
    outcome = Outcome(
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
        rows={"returns": len(some), "customers": len(np.unique(some.customer)), "tried": len(newest.both)},
        details={"strength": strength, "everyone": model.table().to_dict("records"), "drift": drift},
    )
    return publication.no_loss(outcome, as_of, in_service, dates)


def _date(
    past: _Past, rows: np.ndarray, own: Beside, everyone: Beside, won: bool, as_of: datetime
) -> publication.Date[Delay]:
    return hit_date(
        as_of - timedelta(days=past.days), past.known.customer_ids[rows], own, everyone, won,
        lambda model: _hits(model, past, rows),
    )  # fmt: skip


def _drift(model: Delay, before: Returns, now: Returns) -> dict[str, float]:
    """How what a model expects of those who came back moved, of all behaviours."""

    def expected(some: Returns) -> np.ndarray:
        who = np.unique(some.customer)
        return np.concatenate([model.chosen(some, b)[1][who] for b in range(len(BEHAVIOURS))])

    return calibration.drift(expected(before), expected(now))


def _hits(model: Delay, past: _Past, rows: np.ndarray) -> Beside:
    """(rows,) the share of customers' later returns within an hour of the chosen delay: as the model says, and then."""
    said, came, total = (np.zeros(len(rows)) for _ in range(3))
    for behaviour in range(len(BEHAVIOURS)):
        counts = past.later.counts(behaviour)[rows].toarray()
        delay, share = (found[rows] for found in model.chosen(past.known, behaviour))
        many = counts.sum(axis=1)
        said += share * many
        came += _near(counts)[np.arange(len(rows)), delay]
        total += many
    total = np.maximum(total, 1)
    return Beside(said / total, came / total)


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
