"""Which channel and message a customer gets next, if any: the one whose response is worth most beyond its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from controltower.models.channel.response import ChannelResponse

CHOSEN, NO_OPEN_CHANNEL, NOT_WORTH_IT = "chosen", "no_open_channel", "not_worth_it"
NONE = -1


class Option(NamedTuple):
    """A message (campaign/variant) on a channel."""

    channel: str
    message: str


@dataclass(frozen=True)
class Choice:
    """By customer: the option's position or NONE, what is expected of it (value of responses less cost; 0 for none),
    CHOSEN, NO_OPEN_CHANNEL or NOT_WORTH_IT, and the expected of every option (customers, options; NaN where it isn't
    allowed)."""

    option: np.ndarray
    expected: np.ndarray
    reason: np.ndarray
    of_options: np.ndarray


def choose(
    response: np.ndarray, cost: np.ndarray, value: np.ndarray | float, allowed: np.ndarray | None = None
) -> Choice:
    """The best option by customer.

    response: (customers, options) probabilities, NaN where there is none; cost: (options,) or (customers, options) of a
    message; value: of a response, one, (customers,) or (customers, options), in the cost's currency. allowed:
    (customers, options), flags.
    Of equal options the first is chosen; where the best is below 0 nothing is sent.
    """
    n, options = response.shape
    there = ~np.isnan(response) if allowed is None else allowed & ~np.isnan(response)
    worth = value if np.ndim(value) == 2 else np.reshape(np.broadcast_to(value, n), (n, 1))
    expected = np.where(there, np.where(there, response, 0.0) * worth - cost, np.nan)
    # sums of floats that ought to be equal differ in the last digits: equal to nine of them is equal
    scale = max(float(np.nanmax(np.abs(expected), initial=0.0)), 1e-300)
    compared = np.where(there, np.round(expected / scale, 9), -np.inf)
    best = compared.argmax(axis=1) if options else np.zeros(n, dtype=int)
    top = compared[np.arange(n), best] if options else np.full(n, -np.inf)
    sends, any_allowed = top >= 0, there.any(axis=1)
    reason = np.where(sends, CHOSEN, np.where(any_allowed, NOT_WORTH_IT, NO_OPEN_CHANNEL))
    picked = np.where(sends, expected[np.arange(n), best], 0.0) if options else np.zeros(n)
    return Choice(np.where(sends, best, NONE), picked, reason, expected)


def chances(
    model: ChannelResponse,
    own: np.ndarray,
    options: Sequence[Option],
    week: np.ndarray,
    month: np.ndarray,
    segments: np.ndarray | None = None,
    response: str = "clicked",
) -> np.ndarray:
    """(customers, options) probabilities of a response; own, week, month: see `ChannelResponse.predict`. A channel that
    nothing was ever sent on gets the lowest rate of all: what isn't known isn't promised."""
    known = {str(channel): n for n, channel in enumerate(model.channels)}
    p = model.predict(own, segments, week, month, response)
    lowest = p.min(axis=1) if p.shape[1] else np.zeros(len(own))
    columns = []
    for option in options:
        at = known.get(option.channel)
        columns.append(lowest if at is None else np.minimum(p[:, at] * model.lift(option.message, response)[at], 1.0))
    return np.stack(columns, axis=1) if options else np.zeros((len(own), 0))
