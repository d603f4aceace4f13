"""What a message on each channel is worth to each customer: how they answer there, and what an order is."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Self

from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import numpy as np

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
