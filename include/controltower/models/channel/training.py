"""Training channel responses: judged on the newest quarter of the sends, each third by what was known before it, beside
everybody's rates and the model in service then."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from controltower.models import calibration
from controltower.models.base import Outcome
from controltower.models.channel.response import BestChannel, ChannelResponse, OwnChannel
from controltower.models.channel.sends import ANSWER_DAYS, Sends
from controltower.models.publication import Beside, Date, InService, no_loss, nothing
from controltower.profiles.portable import DAY

NAME = "channel"
TRIED = 0.25  # the newest share of the sends
DATES = 3  # past dates: each part of them is judged by what was known before it
FEWEST_CLICKS = 50  # on both sides of the split
SURELY = 1.64  # standard errors of the mean gain, customers counting as one each


def train(
    sends: Sends,
    as_of: datetime,
    segments: np.ndarray | None = None,
    in_service: InService[ChannelResponse] = nothing,
) -> Outcome:
    """The channel model. segments: of each of sends.customer_ids, any text."""
    named = np.full(len(sends.customer_ids), "") if segments is None else np.asarray(segments, dtype=np.str_)
    common: dict[str, Any] = {
        "name": NAME, "challenger": OwnChannel.name, "metric": "log_loss", "baseline": BestChannel.name,
        "window": (datetime.fromtimestamp(int(sends.second.min()), UTC), as_of) if len(sends) else None,
    }  # fmt: skip
    rows = {"sends": len(sends), "customers": len(np.unique(sends.customer)), "clicks": int(sends.hits[:, 0].sum())}
    windows = _windows(sends)
    newer = sends.take(sends.second > windows[-1].second) if windows else sends.take(np.zeros(0, dtype=int))
    if not windows or min(one.hits[:, 0].sum() for one in (windows[-1].known, newer)) < FEWEST_CLICKS:
        why = f"{rows['clicks']} of {len(sends)} messages were clicked: too few to tell customers apart."
        return Outcome(
            model=BestChannel().fit(sends, named), published=False, why=why, metrics={}, baseline_metrics={},
            rows={**rows, "tried": 0}, details={"backtest": []}, **common,
        )  # fmt: skip
    both: tuple[type[ChannelResponse], ...] = (OwnChannel, BestChannel)
    learned = [[kind().fit(one.known, named) for kind in both] for one in windows]
    said = [[_clicked(model, one, named) for model in models] for models, one in zip(learned, windows, strict=True)]
    loss = [[log_losses(p, one.later) for p in of] for of, one in zip(said, windows, strict=True)]
    ours, theirs = (np.concatenate([of[n] for of in loss]) for n in (0, 1))
    whose = np.concatenate([one.later.customer for one in windows])
    gain = np.bincount(whose, weights=theirs - ours)
    gain = gain[np.bincount(whose) > 0]
    surely = bool(gain.mean() > SURELY * gain.std(ddof=1) / np.sqrt(len(gain)))
    compared = (
        f"log loss of clicks {ours.mean():.4f} against {theirs.mean():.4f} on the newest {len(newer)} sends, from"
        f" {len(windows)} past dates"
    )
    kind: type[ChannelResponse] = OwnChannel if surely else BestChannel
    model = kind().fit(sends, named)
    details: dict[str, Any] = {
        "rates": {str(c): round(float(r), 6) for c, r in zip(model.channels, model.rates[:, 0], strict=True)},
        "drift": _drift(learned[0][0], windows[0].known, sends, named),
    }
    if isinstance(model, OwnChannel):
        details["fatigue"] = dict(zip(("a message of 7 days", "of 21 days before"), model.slopes.tolist(), strict=True))
        details["strengths"] = dict(zip(model.channels.tolist(), model.strengths[:, 0].tolist(), strict=True))
    outcome = Outcome(
        model=model,
        published=surely,
        why=f"It beat everybody's rates: {compared}." if surely else f"It gained nothing for sure: {compared}.",
        metrics={"log_loss": round(float(ours.mean()), 6)},
        baseline_metrics={"log_loss": round(float(theirs.mean()), 6)},
        rows={**rows, "tried": len(newer)},
        details=details,
        **common,
    )
    dates = [
        _date(one, named, p[0] if surely else p[1], *(float(each.mean()) for each in of))
        for one, p, of in zip(windows, said, loss, strict=True)
    ]
    return no_loss(outcome, as_of, in_service, dates, lower_is_better=True)


class _Window(NamedTuple):
    """A past date (epoch seconds): the sends whose answers were over, and those from then until the next date."""

    second: int
    known: Sends
    later: Sends


def _windows(sends: Sends) -> list[_Window]:
    """The past dates, newest first."""
    if not len(sends):
        return []
    shares = 1 - TRIED * np.arange(DATES, -1, -1) / DATES
    edges = np.unique(np.quantile(sends.second, shares, method="lower"))
    found: list[_Window] = []
    for edge, end in pairwise(edges.tolist()):
        # at the edge, the answers to the last days' messages weren't over: no model of then learned from them
        known = sends.take(sends.second <= edge - ANSWER_DAYS * DAY)
        found.insert(0, _Window(edge, known, sends.take((sends.second > edge) & (sends.second <= end))))
    return found


def _clicked(model: ChannelResponse, one: _Window, named: np.ndarray) -> np.ndarray:
    return clicked(model, one.known, one.later, named[one.later.customer])


def _date(one: _Window, named: np.ndarray, said: np.ndarray, ours: float, theirs: float) -> Date[ChannelResponse]:
    came = one.later.hits[:, 0]
    many = {"customers": len(np.unique(one.later.customer)), "messages": len(came)}
    return Date(
        as_of=datetime.fromtimestamp(one.second, UTC),
        customers=one.later.customer_ids[one.later.customer],
        ours=said,
        ask=lambda then: _clicked(then, one, named),
        measure=lambda p, some: float(log_losses(p, one.later)[some].mean()),
        figures=many | {"log_loss": round(ours, 6), "baseline_log_loss": round(theirs, 6)},
        beside=Beside(said, came),
        expect=lambda then: Beside(_clicked(then, one, named), came),
    )


def _drift(model: ChannelResponse, before: Sends, now: Sends, named: np.ndarray) -> dict[str, float]:
    """How what a model says of the customers who were written to moved, on all channels."""

    def chances(sends: Sends) -> np.ndarray:
        who = np.unique(sends.customer)
        return model.predict(sends.counts()[who], named[who]).ravel()

    return calibration.drift(chances(before), chances(now))


def clicked(model: ChannelResponse, known: Sends, sends: Sends, segments: np.ndarray) -> np.ndarray:
    """By send, the chance (n,) of a click that a model tells by its customers' own answers to those known; segments: of
    each send. ValueError where it knows not all of the channels."""
    at = {str(channel): n for n, channel in enumerate(model.channels)}
    if unknown := set(sends.channels[np.unique(sends.channel)]) - at.keys():
        raise ValueError(f"It doesn't know {', '.join(sorted(unknown))}.")
    place = np.array([at.get(str(channel), 0) for channel in sends.channels])[sends.channel]
    own = known.counts(sends.customer_ids, model.channels)[sends.customer]
    p = model.predict(own, segments, sends.week, sends.month)
    return np.asarray(p[np.arange(len(sends)), place])


def log_losses(p: np.ndarray, sends: Sends) -> np.ndarray:
    """By send, of chances p (n,) of a click."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.where(sends.hits[:, 0] == 1, -np.log(p), -np.log(1 - p))
