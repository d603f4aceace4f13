"""Training channel responses: judged on the newest quarter of the sends, beside everybody's rates and the model in
service then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from controltower.models.base import Outcome
from controltower.models.channel.response import BestChannel, ChannelResponse, OwnChannel
from controltower.models.channel.sends import ANSWER_DAYS, Sends
from controltower.models.publication import Date, InService, no_loss, nothing
from controltower.profiles.portable import DAY

NAME = "channel"
TRIED = 0.25  # the newest share of the sends
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
    edge = int(np.quantile(sends.second, 1 - TRIED)) if len(sends) else 0
    # at the edge, the answers to the last days' messages weren't over: no model of then learned from them
    older, newer = sends.take(sends.second <= edge - ANSWER_DAYS * DAY), sends.take(sends.second > edge)
    if min(older.hits[:, 0].sum(), newer.hits[:, 0].sum()) < FEWEST_CLICKS:
        why = f"{rows['clicks']} of {len(sends)} messages were clicked: too few to tell customers apart."
        return Outcome(
            model=BestChannel().fit(sends, named), published=False, why=why, metrics={}, baseline_metrics={},
            rows={**rows, "tried": 0}, **common,
        )  # fmt: skip
    newest = named[newer.customer]
    both: tuple[type[ChannelResponse], ...] = (OwnChannel, BestChannel)
    said = {kind: clicked(kind().fit(older, named), older, newer, newest) for kind in both}
    ours, theirs = (log_losses(said[kind], newer) for kind in both)
    gain = np.bincount(newer.customer, weights=theirs - ours)
    gain = gain[np.bincount(newer.customer) > 0]
    surely = bool(gain.mean() > SURELY * gain.std(ddof=1) / np.sqrt(len(gain)))
    compared = f"log loss of clicks {ours.mean():.4f} against {theirs.mean():.4f} on the newest {len(newer)} sends"
    kind: type[ChannelResponse] = OwnChannel if surely else BestChannel
    model = kind().fit(sends, named)
    details: dict[str, Any] = {
        "rates": {str(c): round(float(r), 6) for c, r in zip(model.channels, model.rates[:, 0], strict=True)}
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
    date = Date[ChannelResponse](
        as_of=datetime.fromtimestamp(edge, UTC),
        customers=sends.customer_ids[newer.customer],
        ours=said[kind],
        ask=lambda then: clicked(then, older, newer, newest),
        measure=lambda p, some: float(log_losses(p, newer)[some].mean()),
    )
    return no_loss(outcome, as_of, in_service, [date], lower_is_better=True)


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
