"""Several recommenders as one: each group of customers is ranked by one of them, their fusion or a learned ranker."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from controltower.models.base import ModelConfig, State
from controltower.models.recommend import ranker
from controltower.models.recommend.algorithms import ALL
from controltower.models.recommend.base import Ranking, Recommender, Scorer
from controltower.models.recommend.candidates import PROPOSED, Candidates, propose
from controltower.models.recommend.interactions import Interactions, positions
from controltower.models.recommend.scores import Barred

FUSION = "fusion"
GROUPS = ("cold", "few", "many")  # by entries of their history: none, less than MANY, more
MANY = 5


class Blend(Recommender):
    """Candidates are what the members propose; who ranks them is said for each group of customers.

    A member's name, "fusion" (reciprocal ranks) or "lambdarank" (a ranker learned from what customers took next).
    Members that no group needs are neither trained nor stored.
    """

    name: ClassVar[str] = "blend"

    class Config(ModelConfig):
        members: tuple[str, ...] = ("next_item", "own_history", "popularity")
        cold: str = FUSION
        few: str = FUSION
        many: str = FUSION
        by_site: dict[str, dict[str, str]] = Field(
            default={}
        )  # of sites where another ranks some groups: who, by group

    config: Config
    members: dict[str, Scorer]
    booster: State

    def _fit(self, interactions: Interactions) -> None:
        self.members = {name: ALL[name]().fit(interactions) for name in self.config.members}
        self.booster = {}

    @classmethod
    def of(cls, config: Config, members: dict[str, Scorer], booster: State) -> Self:
        """A blend of members that were fitted on the same interactions already."""
        model = cls(config)
        any_member = next(iter(members.values()))
        model.product_ids, model.popularity = any_member.product_ids, any_member.popularity
        model.members, model.booster = {name: members[name] for name in config.members}, booster
        return model

    def refit(self, interactions: Interactions) -> Self:
        members = {name: member.refit(interactions) for name, member in self.members.items()}
        return type(self).of(self.config, members, self.booster)

    def leads(self) -> np.ndarray:
        return np.logical_or.reduce([member.leads() for member in self.members.values()])

    def rank(self, history: Interactions, rows: np.ndarray, k: int, barred: Barred) -> Ranking:
        candidates = propose(self.members, history, rows, barred, max(PROPOSED, k))
        by = self.who_ranks(history, rows)
        score = np.zeros(len(candidates.row))
        for algorithm in np.unique(by):
            mine = by[candidates.row] == algorithm
            score[mine] = self._scored(algorithm, candidates, history, rows)[mine]
        pair, rank = candidates.top(score, k)
        row = candidates.row[pair]
        return Ranking(
            row, rank + 1, candidates.product[pair], score[pair].astype(float), by[row], candidates.spoke()[pair]
        )

    def who_ranks(self, history: Interactions, rows: np.ndarray) -> np.ndarray:
        """The name of who ranks for each row of the history (-1: unknown)."""
        by_site = sorted(self.config.by_site.items())
        names = [[own.get(g, getattr(self.config, g)) for g in GROUPS] for own in (*(o for _, o in by_site), {})]
        site = positions(np.array([s for s, _ in by_site], dtype=np.str_), history.sites_of(rows))
        return np.array(names)[site, groups(history, rows)]  # the last row is of all sites that aren't named

    def _scored(self, algorithm: str, candidates: Candidates, history: Interactions, rows: np.ndarray) -> np.ndarray:
        if algorithm == FUSION:
            return candidates.fused()
        if algorithm == ranker.NAME:
            x = ranker.features(candidates, self._facts(history), rows)
            return np.asarray(self._predictor().predict(x, num_threads=1))
        return candidates.by(algorithm, self.popularity)

    def _facts(self, history: Interactions) -> ranker.Facts:
        kept: ranker.Facts | None = getattr(self, "_kept", None)
        if kept is None or kept.history is not history:
            kept = self._kept = ranker.Facts.of(history, self.popularity)
        return kept

    def _predictor(self) -> Any:
        if not hasattr(self, "_loaded"):
            self._loaded = ranker.predictor(self.booster)
        return self._loaded

    def save(self, folder: Path) -> None:
        super().save(folder)
        for name, member in self.members.items():
            (folder / name).mkdir()
            member.save(folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        model = super().load(folder)
        model.members = {name: ALL[name].load(folder / name) for name in model.config.members}
        return model

    def _learned(self) -> State:
        return self.booster

    def _relearn(self, state: State) -> None:
        self.booster = {"booster": state["booster"]} if "booster" in state else {}


def groups(history: Interactions, rows: np.ndarray) -> np.ndarray:
    """Of each row (-1: unknown), the position in GROUPS."""
    entries = np.zeros(len(rows), dtype=np.int64)
    known = rows >= 0
    entries[known] = history.entries[rows[known]]
    return np.where(entries == 0, 0, np.where(entries < MANY, 1, 2))
