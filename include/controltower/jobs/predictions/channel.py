"""How likely customers answer a message on each channel, and on which of those open to them the likeliest."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower.jobs.predictions.evaluated import Evaluated, compared
from controltower.jobs.predictions.now import Now
from controltower.jobs.predictions.past import Past

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from controltower.models.base import Outcome
    from controltower.models.channel.sends import Sends
    from controltower.shop import Shop

log = logging.getLogger("controltower")

NAMES: tuple[str, ...] = ("channel",)
CHANNELS = ("email", "push")


def train(past: Past) -> Iterator[Outcome]:
    from controltower.models.channel import training
    from controltower.models.channel.response import KINDS

    sent = _sends(past, past.as_of)
    log.info("training channels on %d messages sent", len(sent))
    yield training.train(sent, past.as_of, in_service=past.in_service(NAMES[0], KINDS))


def score(now: Now) -> dict[str, pa.Array]:
    """channel_email and channel_push: the chance of a click on the next message; null where nothing was sent there.
    channel: where it is the greatest, of those that the customer has agreed to and has an address for; null: none."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from controltower.models.channel.choice import NONE, choose
    from controltower.models.channel.response import KINDS

    names = [f"channel_{channel}" for channel in CHANNELS]
    if (model := now.load(NAMES[0], KINDS)) is None:
        return now.numbers(None, names) | {"channel": pa.nulls(len(now.customers), pa.string())}
    own = answers(now.reading, now.as_of, now.shop, now.customers, model.channels)
    chances = model.on(CHANNELS, own, *lately(now.reading, now.as_of, now.customers))
    best = choose(chances, np.zeros(len(CHANNELS)), 1.0, _open(now)).option
    named = pa.DictionaryArray.from_arrays(pa.array(best, mask=best == NONE), pa.array(CHANNELS)).cast(pa.string())
    return now.numbers(pd.DataFrame(dict(zip(names, chances.T, strict=True))), names) | {"channel": named}


def evaluate(past: Past, until: datetime) -> Evaluated:
    """What would have served, by the clicks on what was sent since, beside everybody's rates."""
    import numpy as np

    from controltower.errors import NoData
    from controltower.models.channel import training
    from controltower.models.channel.response import BestChannel

    known, later = _sends(past, past.as_of), _sends(past, until)
    channel = later.channels[later.channel]
    later = later.take((later.second > past.as_of.timestamp()) & np.isin(channel, known.channels))
    if not len(known) or not len(later):
        raise NoData(
            f"No message whose answers are over was sent {'before' if not len(known) else 'since'}"
            f" {past.as_of.isoformat()}.",
            "Choose another date with --as-of, or more --days: answers are counted for 7 days.",
        )
    outcome = training.train(known, past.as_of)
    asked: dict[str, Any] = {outcome.model.name: outcome.model}
    asked.setdefault(BestChannel.name, BestChannel().fit(known))
    everybody = np.full(len(later), "")
    p = {name: training.clicked(model, known, later, everybody) for name, model in asked.items()}
    rows = []
    for name, chance in p.items():
        for n, where in enumerate(later.channels):
            if (some := later.channel == n).any():
                rows.append(
                    {"model": name, "channel": str(where), "messages": int(some.sum()),
                     "clicked": float(later.hits[some, 0].mean()), "expected": float(chance[some].mean()),
                     "log_loss": float(training.log_losses(chance, later)[some].mean())}
                )  # fmt: skip
    said = [f"{outcome.model.name} would have served. {outcome.why}"]
    if len(p) > 1:
        ours, theirs = p.values()
        found = compared(
            later.customer_ids[later.customer],
            lambda chance, some: float(training.log_losses(chance, later)[some].mean()),
            ours, theirs, lower_is_better=True,
        )  # fmt: skip
        said.append(f"Log loss of clicks since: {found}.")
    return Evaluated(rows, said)


def lately(reading: Any, as_of: datetime, customers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Messages (n,) that customers got in the last 7 days, and in the 21 before."""
    from controltower.models.channel.sends import read_recent

    recent = reading.frame(read_recent(reading.table, as_of)).set_index("customer_id")
    there = recent.reindex(customers, fill_value=0)
    return there["week"].to_numpy(int), there["month"].to_numpy(int)


def answers(reading: Any, as_of: datetime, shop: Shop, customers: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Counts (n, channels, 1 + RESPONSES) of what customers were sent and how they answered, as of a moment."""
    from controltower.models.channel.sends import RESPONSES, read_answers

    counted = reading.frame(read_answers(reading.table, as_of, shop, channels.tolist())).set_index("customer_id")
    own = counted.reindex(customers, fill_value=0).to_numpy(float)
    return own.reshape(len(customers), len(channels), 1 + len(RESPONSES))


def _sends(past: Past, until: datetime) -> Sends:
    from controltower.models.channel.sends import read_sends, sends

    with past.lake.read(until) as reading:
        return sends(reading.frame(read_sends(reading.table, until, past.shop)))


def _open(now: Now) -> np.ndarray:
    """Flags (customers, CHANNELS): who has agreed, by the ledger, and has an address or a device."""
    import numpy as np

    from controltower.ledger import consents
    from controltower.ledger.database import reading

    customers, devices = now.reading.table("customers"), now.reading.table("devices")
    means = {
        "email": customers.filter(customers.email.notnull(), customers.email != ""),
        "push": devices.filter(devices.push_token.notnull(), devices.push_token != ""),
    }
    flags = []
    with reading(now.config) as ledger:
        for channel in CHANNELS:
            agreed = consents.granted(ledger, channel, "marketing", now.as_of)
            reached = now.reading.arrow(means[channel].select("customer_id").distinct())["customer_id"].to_pylist()
            flags.append(np.isin(now.customers, list(agreed & set(reached))))
    return np.stack(flags, axis=1)
