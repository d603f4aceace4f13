"""How many get which variant: as the spec weighs them, or as clicks have taught.

A variant's click rate is uncertain: Beta(1 + clicked, 1 + not clicked) after a uniform prior. Its share is the
probability that its rate is the highest, by simulation: what Thompson sampling would give each customer one by one
(Thompson 1933; Chapelle and Li 2011), written down before the draw, so that each decision's probability is exact.
Every variant keeps FLOOR, so that one that was unlucky, or is better at another season, can come back.

What the pooled counts don't see: a variant that had more of the messages on days when everybody clicked less looks
worse than it is. The floor and the window of DAYS bound what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

DAYS = 28  # how far back results count
FEWEST = 100  # messages a variant: with fewer of any, the weights hold
FLOOR = 0.1  # of the treated, at least; with more than ten variants an equal share
DRAWS = 20_000
SEED = 7


class Result(NamedTuple):
    """What a variant has come to: messages that a provider accepted, and those of them that a person clicked."""

    messages: int
    clicked: int


@dataclass(frozen=True)
class Learned:
    """The shares of one occurrence's variants, and the results of the last DAYS that they come from.

    Within the occurrence a subject keeps its arm, the next one draws anew.
    """

    occurrence: str
    shares: Mapping[str, float]
    results: Mapping[str, Result]

    def record(self) -> dict[str, Any]:
        """For the policy that is kept with the run."""
        return {
            name: {"share": share, "messages": self.results[name].messages, "clicked": self.results[name].clicked}
            for name, share in self.shares.items()
        }


def shares(results: Mapping[str, tuple[int, int]], weights: Mapping[str, float]) -> dict[str, float]:
    """Each variant's share of the treated; they sum to 1. `results` as (messages, clicked), `weights` by the spec.

    The same counts give the same shares. Variants without a weight are gone and count no more.
    """
    known = {name: Result(*results.get(name, (0, 0))) for name in weights}
    if len(known) > 1 and all(result.messages >= FEWEST for result in known.values()):
        return _with_floor(_best(known))
    total = sum(weights.values())
    return _with_floor({name: weight / total for name, weight in weights.items()})


def _best(results: Mapping[str, Result]) -> dict[str, float]:
    """How probable it is of each variant that its click rate is the highest."""
    rng = np.random.default_rng(SEED)
    rates = np.stack([rng.beta(1 + r.clicked, 1 + r.messages - r.clicked, DRAWS) for r in results.values()])
    wins = np.bincount(rates.argmax(axis=0), minlength=len(results))
    return {name: float(n / DRAWS) for name, n in zip(results, wins, strict=True)}


def _with_floor(given: Mapping[str, float]) -> dict[str, float]:
    """Lift every share to the floor; those above it give way in proportion."""
    floor = min(FLOOR, 1 / len(given))
    low: set[str] = set()
    while True:
        above = sum(share for name, share in given.items() if name not in low)
        left = 1 - floor * len(low)
        lifted = {name: floor if name in low else share * left / above for name, share in given.items()}
        under = {name for name, share in lifted.items() if share < floor} - low
        if not under:
            return lifted
        low |= under
