"""By which channel, and with which message, a campaign goes to customers: what is expected of each, less its cost."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from controltower import clock, settings
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import sqlalchemy as sa

    from controltower.campaigns.specs import Spec
    from controltower.data.lake import Reading
    from controltower.models.channel.response import ChannelResponse

log = logging.getLogger("controltower")


@dataclass(frozen=True)
class Weighing:
    """What is known of some customers (n,): how they answer on channels, what they got lately, what an order is."""

    shop: Shop
    model: ChannelResponse
    own: np.ndarray  # counts (n, the model's channels, 3) of messages, clicks and orders
    week: np.ndarray
    month: np.ndarray
    basket: np.ndarray  # of an order, in the shop's currency

    @classmethod
    def of(cls, conf: Settings, shop: Shop, lake: Reading, customers: np.ndarray, as_of: datetime) -> Self | None:
        """None, which is logged, where no model of channels was trained yet."""
        from controltower.errors import NoData
        from controltower.jobs.predictions.channel import NAMES, answers, lately
        from controltower.models.channel.response import KINDS
        from controltower.models.registry import Registry

        try:
            model, _ = Registry(conf.home / "models").load(NAMES[0], as_of, KINDS)
        except NoData:
            log.info("channels aren't weighed, and are taken in the campaign's order: train first")
            return None
        features = lake.derived("features")
        orders = lake.frame(features.select("customer_id", "average_order_value")).set_index("customer_id")
        amounts = orders["average_order_value"].astype(float)
        usual = amounts.mean() if amounts.notna().any() else 0.0
        basket = amounts.reindex(customers).fillna(usual).to_numpy(float)
        own = answers(lake, as_of, shop, customers, model.channels)
        return cls(shop, model, own, *lately(lake, as_of, customers), basket)

    def value(self, channels: list[str]) -> np.ndarray:
        """(n, channels) of a click: how many orders follow one there, by what an order is."""
        return self.basket[:, None] * self.model.orders_a_click(channels)

    def by_channel(self, spec: Spec) -> np.ndarray:
        """(n, channels of the spec): of a message of the variants as they are drawn, value less cost."""
        import numpy as np

        from controltower.models.channel.choice import Option, chances

        total = sum(v.weight for v in spec.variants)
        chance = np.zeros((len(self.own), len(spec.channels)))
        for v in spec.variants:
            options = [Option(channel, f"{spec.name}/{v.name}") for channel in spec.channels]
            chance += chances(self.model, self.own, options, self.week, self.month) * (v.weight / total)
        costs = np.array([self.shop.message_costs.get(channel, 0.0) for channel in spec.channels])
        return np.asarray(chance * self.value(list(spec.channels)) - costs)


def following_channels(after: str, name: str, as_of: str | None = None) -> tuple[dict[str, Any], pa.Table]:
    """Campaign `after` is done: by which channel, and with which variant, campaign `name` would best go to each of
    those whom the newest run of `after` wrote to, as of a moment (now). Stores and sends nothing.

    Returns a report (counts) and the rows: customer_id, reason, channel, variant, chance (of a click), expected (its
    worth less the message's cost). Consents, suppressions, addresses and frequency caps count as they stand then: of
    whom no channel is open to, the reason is that of planning. Who was erased since is left out.
    """
    import numpy as np
    import pyarrow as pa

    from controltower.campaigns.specs import find_spec
    from controltower.data.lake import Lake
    from controltower.errors import NoData
    from controltower.jobs.ingest import erased_people
    from controltower.ledger import runs
    from controltower.ledger.database import reading
    from controltower.ledger.sends import sends
    from controltower.models.channel.choice import CHOSEN, NO_OPEN_CHANNEL, Option, chances, choose

    conf = settings.load()
    shop, spec = settings.load_shop(conf), find_spec(conf.campaigns, name)
    at = clock.parse(as_of, shop) if as_of else clock.now(conf)
    with reading(conf) as ledger:
        versions = reversed(runs.planned(ledger, campaign=after, until=at))
        found = ((run.run_id, sends(ledger, run_id=run.run_id, until=at)) for run in versions)
        written = ((run, {s.customer_id for s in sent}) for run, sent in found)
        run_id, whom = next(((run, whom) for run, whom in written if whom), (None, set()))
        if run_id is None:
            raise NoData(f"{after} had sent nothing by then.", "Name a campaign that has run with --after.")
        gone = erased_people(conf)
        ids = sorted(whom - gone.pseudonyms - set(gone.among(whom)))
        customers = np.array(ids, dtype=np.str_)
        with Lake(conf).read(at) as lake:
            weighing = Weighing.of(conf, shop, lake, customers, at)
            if weighing is None:
                raise NoData("Nothing is known of channels yet.", "Run `controltower train` first.")
            allowed, refused = _allowed(conf, shop, lake, ledger, spec, customers, at)
    options = [Option(channel, f"{spec.name}/{v.name}") for channel in spec.channels for v in spec.variants]
    of_options = [n for n in range(len(spec.channels)) for _ in spec.variants]
    chance = chances(weighing.model, weighing.own, options, weighing.week, weighing.month)
    costs = np.array([shop.message_costs.get(option.channel, 0.0) for option in options])
    made = choose(chance, costs, weighing.value(list(spec.channels))[:, of_options], allowed[:, of_options])
    reasons = np.where(made.reason == NO_OPEN_CHANNEL, refused, made.reason).tolist()
    sent, rows = made.reason == CHOSEN, np.arange(len(customers))
    picked = np.where(sent, chance[rows, made.option], np.nan)
    table = pa.table(
        {
            "customer_id": pa.array(ids, pa.string()),
            "reason": reasons,
            "channel": [options[n].channel if n >= 0 else None for n in made.option],
            "variant": [options[n].message.partition("/")[2] if n >= 0 else None for n in made.option],
            "chance": pa.array(picked, from_pandas=True),
            "expected": pa.array(np.where(sent, made.expected, np.nan), from_pandas=True),
        }
    )
    by = [
        {
            "channel": option.channel,
            "variant": option.message.partition("/")[2],
            "customers": int(mine.sum()),
            "chance": round(float(picked[mine].mean()), 5),
            "expected": round(float(made.expected[mine].mean()), 5),
        }
        for n, option in enumerate(options)
        if (mine := made.option == n).any()
    ]
    not_sent = Counter(reason for reason in reasons if reason != CHOSEN)
    report = {
        "campaign": name, "after": after, "run_id": run_id, "as_of": at.isoformat(), "customers": len(ids),
        "currency": shop.currency, "by": by, "not_sent": dict(sorted(not_sent.items())),
    }  # fmt: skip
    return report, table


def _allowed(
    conf: Settings, shop: Shop, lake: Reading, ledger: sa.Connection, spec: Spec, customers: np.ndarray, at: datetime
) -> tuple[np.ndarray, np.ndarray]:
    """Flags (n, channels of the spec): who could be written to there; and of whom on none, why (n,)."""
    import pyarrow as pa

    from controltower.campaigns.planning import open_channels
    from controltower.jobs.gathering import Gathered, members_of
    from controltower.jobs.planning import permissions
    from controltower.profiles import contacts

    n, ids = len(customers), pa.chunked_array([pa.array(customers.tolist(), pa.string())])
    nothing = {name: pa.nulls(n) for name in ("hours", "products", "algorithm", "expected", "inferred")}
    members = pa.table({"customer_id": ids, **contacts.places(lake, shop, ids), **nothing})
    gathered = Gathered(members, contacts.devices(lake, ids), {})
    asked = members_of(ledger, conf.signing_key(), spec, gathered, [0] * n, at)
    return open_channels(asked, spec.channels, permissions(ledger, shop, spec, at, None))
