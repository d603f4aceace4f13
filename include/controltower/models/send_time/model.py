"""Which hours of the week a customer is reached in: own hours, shrunk to those of people alike, and so to everyone's.

Counts are of active hours (evidence.py), each by its weight and age. What was done with our messages comes in hours
that we chose: who is written to at 20 o'clock clicks at 20 o'clock. So such an hour is divided by how exposed it was:
the share of the customer's messages whose answers would come in that hour, if all took the usual time. An hour that was
exposed less than the average counts more, MOST_TIMES at most.

A customer's share of an hour is (own count + strength x prior) / (own total + strength): empirical Bayes (Efron and
Morris 1975) with a prior of the kinds of rhythm the customer may be of (circadian.py). Days share their hours as
`days` says; how much falls on each day is shrunk in the same way. A channel's table is shrunk to the customer's.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from controltower.models.base import Model, ModelConfig, State
from controltower.models.send_time.circadian import DAYS, Rhythms, circle, learn, pooled, window_sums
from controltower.models.send_time.evidence import (
    CLICKED,
    FOLLOWED,
    HOURS,
    IN_STORE,
    OPENED,
    ORDERED,
    OWN,
    VISITED,
)
from controltower.models.send_time.evidence import Hours as ActiveHours
from controltower.models.send_time.tables import Tables, quantised

BLOCK = 20_000  # customers whose tables are made at a time: 13 MB an array
TAUGHT_BY = 6_000  # customers, at most, whom the kinds of rhythm are learned from
FEWEST_HOURS = 2.0  # of weight, of each of them
DAYTIME_HOUR = 10  # where nothing at all is known
MOST_TIMES = 3.0  # as the average hour's: how much an answer in a seldom exposed hour may count
SHRUNK_SENDS = 2.0  # everyone's sending hours count as so many messages to a customer


class Counts(NamedTuple):
    """Weighted active hours of n customers, sparse: `own` (n, 168), `caused` by channel (n, 168) before they are
    divided by exposure, `sends` (n, 24) messages sent by hour of the day."""

    own: sp.csr_matrix
    caused: dict[str, sp.csr_matrix]
    sends: sp.csr_matrix


class SendTime(Model):
    """Learns from active hours, says tables of hours."""

    class Config(ModelConfig):
        half_life_days: float = Field(default=0.0, ge=0)  # 0: old hours count as much as new ones
        days: str = Field(default="weekend", pattern="^(" + "|".join(DAYS) + ")$")
        width: float = Field(default=1.0, ge=0)  # hours that own counts are smoothed by
        strength: float = Field(default=50.0, gt=0)  # the prior counts as much as so many own hours
        ordered: float = Field(default=2.0, gt=0)
        visited: float = Field(default=1.0, gt=0)
        clicked: float = Field(default=1.0, gt=0)  # and the next two: divided by exposure
        followed: float = Field(default=0.3, gt=0)
        opened: float = Field(default=0.25, gt=0)
        in_store: float = Field(default=0.3, gt=0)

    config: Config
    everyone: np.ndarray  # 168: everyone's shares
    rhythms: Rhythms
    lags: np.ndarray  # 24: the share of answers that come so many whole hours after a message

    def fit(self, hours: ActiveHours) -> Self:
        """Learn everyone's hours and the kinds of rhythm. Without any hours everyone's are all alike."""
        self.lags = _lags(hours)
        total, taught, chosen = np.zeros(HOURS), [], self._teachers(hours)
        counts = self.counts(hours)
        for start in range(0, len(hours.customer_ids), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(hours.customer_ids)))
            block = self._block(counts, rows)[0]
            total += block.sum(axis=0, dtype=float)
            taught.append(block[np.isin(rows, chosen)])
        smooth = total.reshape(7, 24) @ circle(1.0)
        self.everyone = (smooth / smooth.sum()).ravel() if total.sum() else np.full(HOURS, 1 / HOURS)
        self._fit(np.concatenate(taught) if taught else np.zeros((0, HOURS)))
        return self

    def predict(self, hours: ActiveHours) -> Tables:
        """The tables of hours.customer_ids. Who has no hours gets everyone's, exactly."""
        n = len(hours.customer_ids)
        counts = self.counts(hours)
        week, best, weight = np.empty((n, HOURS), np.uint8), np.empty(n, np.int8), np.empty(n)
        found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {channel: [] for channel in counts.caused}
        for start in range(0, n, BLOCK):
            rows = np.arange(start, min(start + BLOCK, n))
            own, caused = self._block(counts, rows)
            shares, by_channel = self._shares(own, caused)
            week[rows] = quantised(shares)
            best[rows] = best_hour(shares)
            total = own.sum(axis=1)
            weight[rows] = self._weight(total)
            for channel, (at, theirs) in by_channel.items():
                found[channel].append((rows[at].astype(np.int32), quantised(theirs)))
        channels = {
            channel: (np.concatenate([r for r, _ in parts]), np.concatenate([t for _, t in parts]))
            for channel, parts in found.items()
            if parts
        }
        if np.ptp(self.everyone) == 0:  # nobody's hours were known when this was learned
            best[weight == 0] = DAYTIME_HOUR
        return Tables(hours.customer_ids, week, channels, best.astype(np.int64), weight)

    def counts(self, hours: ActiveHours) -> Counts:
        """Each hour by its weight and age."""
        c = self.config
        of_kind = np.zeros(ORDERED + 1, np.float32)
        of_kind[[OPENED, FOLLOWED, IN_STORE, CLICKED, VISITED, ORDERED]] = (
            c.opened, c.followed, c.in_store, c.clicked, c.visited, c.ordered
        )  # fmt: skip
        weight = of_kind[hours.kind]
        if c.half_life_days:
            weight = weight * np.exp2(hours.day.astype(np.float32) / np.float32(-c.half_life_days))
        n = len(hours.customer_ids)
        own = (hours.channel == hours.channels.index(OWN)) & (hours.kind != FOLLOWED)
        caused = {}
        for number, channel in enumerate(hours.channels):
            mask = (hours.channel == number) & (weight > 0) & ~own
            if mask.any():
                caused[channel] = _sparse(weight, hours.customer, hours.slot, mask, (n, HOURS))
        sends = _sparse(hours.sent.astype(np.float32), hours.customer, hours.slot % 24, hours.sent > 0, (n, 24))
        return Counts(_sparse(weight, hours.customer, hours.slot, own, (n, HOURS)), caused, sends)

    def dense(self, counts: Counts) -> np.ndarray:
        """(n, 168) float32: all evidence of few customers, what messages caused divided by exposure."""
        return self._block(counts, np.arange(counts.own.shape[0]))[0]

    def shares(self, own: np.ndarray) -> np.ndarray:
        """(n, 168): tables of counts as `dense` gives them."""
        return self._shares(own, {})[0]

    def _block(self, counts: Counts, rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """All evidence of rows that follow each other, and what of it was done with each channel's messages."""
        part = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
        own, caused = counts.own[part].toarray(), {}
        if counts.caused:
            times = np.tile(self._by_exposure(counts, part), (1, 7))
            for channel, theirs in counts.caused.items():
                divided = theirs[part].toarray() * times
                own += divided
                if channel != OWN:
                    caused[channel] = divided
        return own, caused

    def _by_exposure(self, counts: Counts, part: slice) -> np.ndarray:
        """(rows, 24): the average hour's exposure by each hour's, MOST_TIMES at most; 1 where nothing was sent."""
        usual = np.asarray(counts.sends.sum(axis=0), float).ravel()
        if not usual.any():
            return np.ones((part.stop - part.start, 24), np.float32)
        sends = counts.sends[part].toarray() + SHRUNK_SENDS * usual / usual.sum()
        later = self.lags[(np.arange(24)[None, :] - np.arange(24)[:, None]) % 24]  # [sent, answered]
        exposed = sends / sends.sum(axis=1, keepdims=True) @ later
        return np.asarray(np.minimum(1 / 24 / np.maximum(exposed, 1e-6), MOST_TIMES), np.float32)

    def _teachers(self, hours: ActiveHours) -> np.ndarray:
        n = len(hours.customer_ids)
        if n <= TAUGHT_BY:
            return np.arange(n)
        told = np.flatnonzero(np.bincount(hours.customer, minlength=n) >= FEWEST_HOURS)
        rng = np.random.default_rng(self.config.seed)
        return np.sort(rng.choice(told, min(TAUGHT_BY, len(told)), replace=False))

    @abstractmethod
    def _fit(self, counts: np.ndarray) -> None:
        """Learn from the counts (m, 168) of some customers."""

    @abstractmethod
    def _shares(
        self, own: np.ndarray, caused: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
        """The table (n, 168) of all evidence, and by channel which rows (m,) have another one (m, 168)."""

    @abstractmethod
    def _weight(self, total: np.ndarray) -> np.ndarray:
        """The weight of own evidence by how much there is."""

    def _state(self) -> State:
        return {"everyone": self.everyone, "lags": self.lags}

    def _restore(self, state: State) -> None:
        self.everyone, self.lags = state["everyone"], state["lags"]


class OwnWeek(SendTime):
    """The customer's own week, as far as it is known."""

    name: ClassVar[str] = "own_week"

    def _fit(self, counts: np.ndarray) -> None:
        counts = counts[counts.sum(axis=1) >= FEWEST_HOURS].astype(float)
        plain, smooth = (pooled(counts, self.config.days, width) for width in (0.0, 1.0))
        self.rhythms = learn(plain, smooth, self.config.seed)

    def _shares(
        self, own: np.ndarray, caused: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
        days = self.config.days
        usual_cells = pooled(self.everyone[None], days, 0.0).astype(np.float32)
        usual_days = self.everyone.reshape(1, 7, 24).sum(axis=2, dtype=np.float32)
        # The mixture's mean isn't quite everyone's hours; corrected, few own hours change little.
        mean = self.rhythms.usual @ self.rhythms.shares
        prior = self.rhythms.member(pooled(own, days, 1.0)) @ self.rhythms.shares.astype(np.float32)
        prior = (prior * (usual_cells / mean)).astype(np.float32)
        prior /= prior.sum(axis=1, keepdims=True)
        cells, of_days = self._posterior(own, prior, usual_days)
        shares = _week(cells, of_days, days)
        shares[own.sum(axis=1) == 0] = self.everyone
        by_channel = {}
        for channel, counts in caused.items():
            at = np.flatnonzero(counts.any(axis=1))
            if len(at):
                by_channel[channel] = at, _week(*self._posterior(counts[at], cells[at], of_days[at]), days)
        return shares, by_channel

    def _posterior(self, counts: np.ndarray, cells: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares of the cells that days share, and of the days, given their priors."""
        strength = np.float32(self.config.strength)
        total = counts.sum(axis=1, keepdims=True) + strength
        by_day = counts.reshape(len(counts), 7, 24).sum(axis=2)
        own = pooled(counts, self.config.days, self.config.width)
        return (own + strength * cells) / total, (by_day + strength * days) / total

    def _weight(self, total: np.ndarray) -> np.ndarray:
        return np.asarray(total / (total + self.config.strength), float)

    def _state(self) -> State:
        return super()._state() | {"shares": self.rhythms.shares, "usual": self.rhythms.usual}

    def _restore(self, state: State) -> None:
        super()._restore(state)
        self.rhythms = Rhythms(state["shares"], state["usual"])


class EveryonesWeek(SendTime):
    """Everyone's week for everybody: the baseline."""

    name: ClassVar[str] = "everyones_week"

    def _fit(self, counts: np.ndarray) -> None: ...

    def _shares(
        self,
        own: np.ndarray,
        caused: dict[str, np.ndarray],  # noqa: ARG002
    ) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
        return np.tile(self.everyone.astype(np.float32), (len(own), 1)), {}

    def _weight(self, total: np.ndarray) -> np.ndarray:
        return np.zeros(len(total))


KINDS: tuple[type[SendTime], ...] = (OwnWeek, EveryonesWeek)


def best_hour(shares: np.ndarray) -> np.ndarray:
    """(n,) the hour of the day around which most lies of tables (n, 168): three hours of every day."""
    return np.asarray(window_sums(shares.reshape(len(shares), 7, 24).sum(axis=1)).argmax(axis=1))


def _week(cells: np.ndarray, days: np.ndarray, sharing: str) -> np.ndarray:
    """(n, 168) of shares of cells (n, groups x 24): what a group of days has is split as the days' shares are."""
    groups = DAYS[sharing]
    by_group = cells.reshape(len(cells), -1, 24)
    week = np.empty((len(cells), 7, 24), np.float32)
    together = np.stack([days[:, groups == g].sum(axis=1) for g in range(by_group.shape[1])], axis=1)
    for day, group in enumerate(groups):
        part = days[:, day] / np.maximum(together[:, group], 1e-9)
        week[:, day] = by_group[:, group] * part[:, None]
    return week.reshape(len(cells), HOURS)


def _sparse(
    values: np.ndarray, row: np.ndarray, column: np.ndarray, mask: np.ndarray, shape: tuple[int, int]
) -> sp.csr_matrix:
    where = mask if not mask.all() else slice(None)
    return sp.csr_matrix((values[where], (row[where], column[where].astype(np.int32))), shape=shape)


def _lags(hours: ActiveHours) -> np.ndarray:
    """How soon messages are answered; a few made up answers that get fewer by the hour make sure of all of them."""
    told = hours.lag[(hours.lag >= 0) & (hours.lag < 24)]
    counts = np.bincount(told, minlength=24) + 10 * np.exp2(-np.arange(24) / 6.0)
    return np.asarray(counts / counts.sum())
