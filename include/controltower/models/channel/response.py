"""How likely a customer answers a message on each channel: own answers, shrunk to those of the segment, and these to
the channel's (empirical Bayes with beta-binomials), and lowered by what was sent lately.

A rate is (hits + strength x prior) / (sends + strength). A model holds rates and strengths only: own sends and hits are
counted when it is asked, and handed over. The strengths are the likeliest ones (Skellam 1948), by channel. Fatigue is a
slope in log-odds a message of the last 7 and of the 21 days before, learned from the newer half of the sends beside
rates of the older half, so that a customer's liking isn't taken for an effect of being written to. It never raises a
rate. A message's own lift is what came of it by what was expected of those who got it (gamma-Poisson, shrunk to 1).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, expit, logit

from controltower.models.base import Model, ModelConfig, State
from controltower.models.channel.sends import RESPONSES, Sends, cells, positions

STRENGTHS = np.array([2, 5, 10, 20, 50, 100, 200, 500, 1000, 1e6])
EVERYBODY = ""  # the segment of customers of whom none is told
MOST_COUNTED = 15.0  # messages of a window; more tire no further, as far as can be learned
FEWEST_CLICKS = 50  # in the newer half, for a slope
SURELY = 3.0  # log-likelihood that slopes must gain
SLOPE_SPREAD = 0.3  # of slopes that are likely at all
LIFT_STRENGTH = 10.0  # hits: a message with so many expected is believed half
EDGE = 1e-6
LEARNED = ("segments", "of_segments", "strengths", "slopes", "usual", "messages", "lifts")  # by OwnChannel


class ChannelResponse(Model):
    """Learns from sends, says the probability of each of RESPONSES by customer and channel."""

    channels: np.ndarray
    rates: np.ndarray  # (channels, RESPONSES)

    def fit(self, sends: Sends, segments: np.ndarray | None = None) -> Self:
        """segments: of each of sends.customer_ids, any text (lifecycle, tier, ...); without, one for all."""
        if segments is not None and len(segments) != len(sends.customer_ids):
            raise ValueError("segments and customer_ids differ in length")
        named = np.full(len(sends.customer_ids), EVERYBODY) if segments is None else np.asarray(segments, dtype=np.str_)
        self.channels = sends.channels
        sent = np.bincount(sends.channel, minlength=len(self.channels))[:, None]
        self.rates = (cells(sends.channel, sends.hits, len(self.channels)) + 0.5) / (sent + 1.0)
        self._fit(sends, named)
        return self

    def predict(
        self,
        own: np.ndarray,
        segments: np.ndarray | None = None,
        week: np.ndarray | None = None,
        month: np.ndarray | None = None,
        response: str = "clicked",
    ) -> np.ndarray:
        """(customers, self.channels) probabilities of a response to the next message.

        own: counts (customers, self.channels, 1 + RESPONSES) of messages sent whose answers are over, then of answers
        (`Sends.counts`, `sends.read_answers`); all 0 of a stranger. week, month: messages on all channels in the last
        7 days, and in the 21 before those (see `sends.recent`); where not given, as many as usual.
        """
        named = np.full(len(own), EVERYBODY) if segments is None else np.asarray(segments, dtype=np.str_)
        base = self._base(own, named)[:, :, RESPONSES.index(response)]
        return self._tired(base, week, month)

    def on(self, channels: Sequence[str], own: np.ndarray, week: np.ndarray, month: np.ndarray) -> np.ndarray:
        """(customers, channels) chances of a click, see `predict`; NaN on a channel that nothing was sent on."""
        p = self.predict(own, None, week, month)
        at = {str(channel): n for n, channel in enumerate(self.channels)}
        nothing = np.full(len(own), np.nan)
        return np.stack([p[:, at[c]] if c in at else nothing for c in channels], axis=1)

    def orders_a_click(self, channels: Sequence[str]) -> np.ndarray:
        """By channel, how many orders followed a click; the fewest of all where nothing was sent."""
        told = dict(zip(map(str, self.channels), self.rates[:, 1] / self.rates[:, 0], strict=True))
        return np.array([told.get(channel, min(told.values(), default=0.0)) for channel in channels])

    def lift(self, message: str, response: str = "clicked") -> np.ndarray:  # noqa: ARG002 - the baseline knows none
        """By channel, by what a message (campaign/variant) multiplies the probability; 1 where it wasn't sent."""
        return np.ones(len(self.channels))

    @abstractmethod
    def _fit(self, sends: Sends, segments: np.ndarray) -> None: ...

    @abstractmethod
    def _base(self, own: np.ndarray, segments: np.ndarray) -> np.ndarray:
        """(customers, channels, RESPONSES)."""

    def _tired(self, base: np.ndarray, week: np.ndarray | None, month: np.ndarray | None) -> np.ndarray:  # noqa: ARG002
        return base

    def _state(self) -> State:
        return {"channels": self.channels, "rates": self.rates}

    def _restore(self, state: State) -> None:
        self.channels, self.rates = state["channels"], state["rates"]


class BestChannel(ChannelResponse):
    """Everybody answers as is usual on the channel, so the same one is best for all: the baseline."""

    name: ClassVar[str] = "best_channel"

    def _fit(self, sends: Sends, segments: np.ndarray) -> None: ...

    def _base(self, own: np.ndarray, segments: np.ndarray) -> np.ndarray:  # noqa: ARG002
        return np.tile(self.rates, (len(own), 1, 1))


class OwnChannel(ChannelResponse):
    """The customer's own answers, as far as there are enough of them."""

    name: ClassVar[str] = "own_channel"

    class Config(ModelConfig):
        fatigue: bool = True  # whether slopes are learned

    config: Config
    segments: np.ndarray  # names, sorted
    of_segments: np.ndarray  # (segments, channels, RESPONSES)
    strengths: np.ndarray  # (channels, RESPONSES) of a segment's rate beside a customer's sends
    slopes: np.ndarray  # log-odds a message: of the week, of the month
    usual: np.ndarray  # messages of the week and of the month before an average send
    messages: np.ndarray
    lifts: np.ndarray  # (messages, channels, RESPONSES)

    def _fit(self, sends: Sends, segments: np.ndarray) -> None:
        self._learn_rates(sends, segments)
        counted = self._counted(sends.week, sends.month)
        self.usual = counted.mean(axis=0) if len(sends) else np.zeros(2)
        self.slopes = _slopes(sends, segments, self.usual) if self.config.fatigue and len(sends) else np.zeros(2)
        self._learn_lifts(sends, segments)

    def _learn_rates(self, sends: Sends, segments: np.ndarray) -> None:
        n_channels = len(self.channels)
        self.segments, segment = np.unique(segments, return_inverse=True)
        own = sends.counts()
        summed = np.zeros((len(self.segments), *own.shape[1:]))
        np.add.at(summed, segment, own)
        self.of_segments = np.empty((len(self.segments), n_channels, len(RESPONSES)))
        self.strengths = np.empty((n_channels, len(RESPONSES)))
        for c in range(n_channels):
            for r in range(len(RESPONSES)):
                n, hits, prior = summed[:, c, 0], summed[:, c, 1 + r], np.full(len(summed), self.rates[c, r])
                s = strength(hits, n, prior)
                self.of_segments[:, c, r] = (hits + s * prior) / (n + s)
                self.strengths[c, r] = strength(own[:, c, 1 + r], own[:, c, 0], self.of_segments[segment, c, r])

    def _learn_lifts(self, sends: Sends, segments: np.ndarray) -> None:
        n_channels = len(self.channels)
        self.messages = sends.messages
        cell, size = sends.message * n_channels + sends.channel, len(self.messages) * n_channels
        self.lifts = np.empty((len(self.messages), n_channels, len(RESPONSES)))
        for r in range(len(RESPONSES)):
            # by segment: a customer's own rate would hold this message's hits already
            at = np.searchsorted(self.segments, segments[sends.customer])
            p = self._tired(self.of_segments[at, :, r], sends.week, sends.month)[np.arange(len(sends)), sends.channel]
            hits = np.bincount(cell, weights=sends.hits[:, r], minlength=size)
            expected = np.bincount(cell, weights=p, minlength=size)
            self.lifts[:, :, r] = ((hits + LIFT_STRENGTH) / (expected + LIFT_STRENGTH)).reshape(-1, n_channels)

    def lift(self, message: str, response: str = "clicked") -> np.ndarray:
        at = np.flatnonzero(self.messages == message)
        return self.lifts[at[0], :, RESPONSES.index(response)] if len(at) else np.ones(len(self.channels))

    def _base(self, own: np.ndarray, segments: np.ndarray) -> np.ndarray:
        at = positions(self.segments, segments)
        prior = np.where((at >= 0)[:, None, None], self.of_segments[at], self.rates)
        return np.asarray((own[:, :, 1:] + self.strengths * prior) / (own[:, :, :1] + self.strengths))

    def _tired(self, base: np.ndarray, week: np.ndarray | None, month: np.ndarray | None) -> np.ndarray:
        if week is None or month is None or not self.slopes.any():
            return base
        shift = (self._counted(week, month) - self.usual) @ self.slopes
        return np.asarray(expit(logit(np.clip(base, EDGE, 1 - EDGE)) + shift[:, None]))

    @staticmethod
    def _counted(week: np.ndarray, month: np.ndarray) -> np.ndarray:
        return np.minimum(np.c_[week, month].astype(float), MOST_COUNTED)

    def _state(self) -> State:
        return super()._state() | {name: getattr(self, name) for name in LEARNED}

    def _restore(self, state: State) -> None:
        if more := state.keys() - {"channels", "rates", *LEARNED}:
            raise KeyError(*more)  # an earlier shape, with customers in it
        super()._restore(state)
        for name in LEARNED:
            setattr(self, name, state[name])


KINDS: tuple[type[ChannelResponse], ...] = (OwnChannel, BestChannel)


def strength(hits: np.ndarray, sent: np.ndarray, prior: np.ndarray) -> float:
    """The likeliest of STRENGTHS for groups with hits of sent around prior rates, all (groups,); the greatest without
    sends, or where groups differ no more than by chance."""
    there = sent > 0
    h, n, p = hits[there], sent[there], np.clip(prior[there], EDGE, 1 - EDGE)
    likely = [float((betaln(h + s * p, n - h + s * (1 - p)) - betaln(s * p, s * (1 - p))).sum()) for s in STRENGTHS]
    best = max(likely)
    return float(max(s for s, value in zip(STRENGTHS, likely, strict=True) if value >= best - 1e-9))


def _slopes(sends: Sends, segments: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Log-odds of a click a message of the week and of the month, 0 or less; 0 where nothing is sure."""
    middle = np.median(sends.second)
    older, newer = sends.take(sends.second <= middle), sends.take(sends.second > middle)
    y = newer.hits[:, 0]
    if min(y.sum(), len(y) - y.sum()) < FEWEST_CLICKS or not len(older):
        return np.zeros(2)
    plain = OwnChannel(OwnChannel.Config(fatigue=False)).fit(older, segments)
    base = plain._base(older.counts(), segments)[newer.customer, newer.channel, 0]
    offset, x = logit(np.clip(base, EDGE, 1 - EDGE)), OwnChannel._counted(newer.week, newer.month) - usual

    def loss(b: np.ndarray) -> tuple[float, np.ndarray]:
        z = offset + b[0] + x @ b[1:]
        slack = expit(z) - y
        penalty = (b[1:] ** 2).sum() / (2 * SLOPE_SPREAD**2)
        return float((np.logaddexp(0, z) - y * z).sum() + penalty), np.r_[
            slack.sum(), slack @ x + b[1:] / SLOPE_SPREAD**2
        ]

    def fitted(lowest: float) -> tuple[float, np.ndarray]:
        bounds = [(None, None), (lowest, 0.0), (lowest, 0.0)]
        found = minimize(loss, np.zeros(3), jac=True, method="L-BFGS-B", bounds=bounds)
        return float(found.fun), found.x[1:]

    (without, _), (best, slopes) = fitted(0.0), fitted(-3.0)
    return slopes if without - best >= SURELY else np.zeros(2)
