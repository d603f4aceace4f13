"""Several recommenders as one: a weighted sum of their scores."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from controltower.models.base import ModelConfig, State
from controltower.models.recommend.als import Als, per_row_maximum
from controltower.models.recommend.base import Parts, Recommender
from controltower.models.recommend.interactions import ORDER, Interactions, Weights
from controltower.models.recommend.neighbours import Neighbours
from controltower.models.recommend.own_history import OwnHistory
from controltower.models.recommend.popularity import Popularity

MEMBERS: dict[str, type[Recommender]] = {m.name: m for m in (OwnHistory, Popularity, Als, Neighbours)}


class Blend(Recommender):
    """Own history counts in orders; the other members' scores lie between 0 and 1 before they are weighted.

    `momentum` lets the general members (als, neighbours) prefer what sells more now than over the last months: their
    scores are multiplied by (momentum share + 0.1) to this power. A member of weight 0 is neither trained nor stored.
    """

    name: ClassVar[str] = "blend"

    class Config(ModelConfig):
        own_history: float = 1.0
        popularity: float = 0.3
        als: float = 0.3
        neighbours: float = 0.3
        momentum: float = 0.0

    config: Config
    members: dict[str, Recommender]
    momentum: np.ndarray

    def _fit(self, interactions: Interactions) -> None:
        self.members = {name: MEMBERS[name]().fit(interactions) for name in self._weights()}
        self.momentum = momentum(interactions)

    @classmethod
    def of(cls, config: Config, members: dict[str, Recommender], interactions: Interactions) -> Self:
        """A blend of members that were fitted on these interactions already."""
        model = cls(config)
        model.product_ids = interactions.product_ids
        any_member = next(iter(members.values()))
        model.popularity, model.momentum = any_member.popularity, momentum(interactions)
        model.members = {name: members[name] for name in model._weights()}
        return model

    def _score(self, history: Interactions, rows: np.ndarray) -> Parts:
        raw: Parts = {}
        for member in self.members.values():
            raw.update(member.score(history, rows))
        return combine(raw, self.config, self.momentum)

    def _weights(self) -> list[str]:
        return [name for name in MEMBERS if getattr(self.config, name) > 0]

    def save(self, folder: Path) -> None:
        super().save(folder)
        for name, member in self.members.items():
            (folder / name).mkdir()
            member.save(folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        model = super().load(folder)
        model.members = {name: MEMBERS[name].load(folder / name) for name in model._weights()}
        return model

    def _learned(self) -> State:
        return {"momentum": self.momentum}

    def _relearn(self, state: State) -> None:
        self.momentum = state["momentum"]


def combine(raw: Parts, config: Blend.Config, trend: np.ndarray) -> Parts:
    """The members' scores, weighted."""
    parts: Parts = {}
    for name, scores in raw.items():
        weight = getattr(config, name)
        if not weight:
            continue
        if config.momentum and name in ("als", "neighbours"):
            scores = per_row_maximum(np.maximum(scores, 0) * ((trend + 0.1) ** config.momentum).astype(np.float32))
        parts[name] = np.float32(weight) * scores
    return parts


def momentum(interactions: Interactions, short: float = 14.0, long: float = 120.0) -> np.ndarray:
    """0..1 by product: orders of late over orders of the last months, by decayed counts; 1 is sold mostly now."""
    orders = interactions.kind == ORDER
    count = interactions.shape[1]

    def total(half_life: float) -> np.ndarray:
        weights = interactions.weight(Weights(order_half_life=half_life)) * orders
        return np.bincount(interactions.product, weights=weights, minlength=count)

    return total(short) / (total(long) + 1.0)
