"""Who the shop's customers are: what no real shop can know of them, and what it is told.

Person 0 stands for everybody who never signs up. Persons 1..B signed up before the opening, the others on their day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controltower.simulation.catalogue import STYLES, Catalogue
from controltower.simulation.parameters import Parameters

BLOCK = 512  # persons drawn together; a person's draws depend on the seed and the block only
LOOK_AHEAD = 7  # days before signing up on which somebody may already look around
APP, WEB, STORE = 0, 1, 2
NEVER = 10**6  # a day that doesn't come

# One column of uniform draws each; registers.py turns them into what the shop is told.
DRAWS = {
    name: i
    for i, name in enumerate(
        "first last email phone domain told consent_email consent_push consent_night profiling refused withdrawn"
        " again device_2 device_3 token_1 token_2 token_3 platform installed install_2 install_3 renewal mail_number"
        " night_withdrawn push_withdrawn login withdrawn_when".split()
    )
}


@dataclass(frozen=True)
class People:
    """N persons (person 0 included), K categories. Days count from the opening; before it they are negative.

    `taste` (N, K) sums to 1; `style` (N, STYLES); `casual` and `episodes` (N,) a day; `hour` in hours, `hour_k` the von
    Mises concentration; `channels` (N, 3) chances of app, web, store; `fades` (N,) the day interest starts to fade;
    `draws` (N, len(DRAWS)) uniform; `sizes` (days,) how many persons take part on a day (a prefix).
    """

    persona: np.ndarray
    female: np.ndarray
    age: np.ndarray
    baby: np.ndarray
    origin: np.ndarray
    taste: np.ndarray
    style: np.ndarray
    casual: np.ndarray
    episodes: np.ndarray
    hour: np.ndarray
    hour_k: np.ndarray
    price_sense: np.ndarray
    weekend: np.ndarray
    channels: np.ndarray
    app: np.ndarray
    cycle: np.ndarray
    habits: np.ndarray
    first_due: np.ndarray
    arrives: np.ndarray
    signs_up: np.ndarray
    fades: np.ndarray
    draws: np.ndarray
    sizes: np.ndarray

    @property
    def size(self) -> int:
        return len(self.persona)

    def draw(self, name: str) -> np.ndarray:
        """One column (N,) of the uniform draws."""
        return self.draws[:, DRAWS[name]]


def make(parameters: Parameters, seed: int, last_day: int) -> People:
    """Everybody who may visit until `last_day`."""
    p = parameters
    before = round(p.customers * (1 - p.new_share))
    a_day = p.customers * p.new_share / p.days
    joined = np.array(
        [np.random.default_rng([seed, 3, d]).poisson(a_day) for d in range(last_day + LOOK_AHEAD + 1)], dtype=np.int64
    )
    n = 1 + before + int(joined.sum())
    blocks = [_block(p, np.random.default_rng([seed, 4, b])) for b in range(-(-n // BLOCK))]
    parts = {name: np.concatenate([b[name] for b in blocks])[:n] for name in blocks[0]}

    new = np.arange(n) > before
    signs_up = np.where(new, 0, -parts.pop("joined_before"))
    signs_up[new] = np.repeat(np.arange(len(joined)), joined)
    arrives = np.where(new, signs_up - parts.pop("hesitates"), -NEVER)
    fades = np.maximum(signs_up, 0) + parts.pop("lifetime")
    signs_up[0], arrives[0], fades[0] = NEVER, NEVER, NEVER  # person 0 is not one person
    parts["taste"][0] = parts["taste"][1 : before + 1].mean(axis=0)
    parts["style"][0] = 0
    parts["price_sense"][0] = 0
    parts["channels"][0] = (0.15, 0.85, 0.0)
    sizes = 1 + before + np.cumsum(joined)[LOOK_AHEAD:]
    return People(**parts, signs_up=signs_up, arrives=arrives, fades=fades, sizes=sizes)


def _block(p: Parameters, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One block of persons: arrays (BLOCK, ...)."""
    n, who = BLOCK, p.people
    keys = p.keys
    liked = np.array([[0.25 + persona.likes.get(k, 0) for k in keys] for persona in p.personas])
    liked /= liked.sum(axis=1, keepdims=True)

    def pick(shares: list[float]) -> np.ndarray:
        return np.searchsorted(np.cumsum(shares)[:-1], rng.random(n), side="right")

    persona = pick([x.share for x in p.personas])
    ages = np.array([x.age for x in p.personas])[persona]
    taste = rng.standard_gamma(who.taste_concentration * liked[persona]) + 1e-6
    taste /= taste.sum(axis=1, keepdims=True)
    mode = pick([m.share for m in p.hours])
    centre = np.array([m.hour for m in p.hours])[mode]
    spread = 1 / np.sqrt([m.concentration for m in p.hours])[mode] * 12 / np.pi
    low, high = who.hour_concentration
    app = rng.random(n) < who.app_share
    buys_in_store = rng.random(n) < who.store_share
    store = np.where(buys_in_store, rng.uniform(0.1, 0.6, n), 0.0)
    in_app = np.where(app, rng.beta(4, 1.6, n), 0.0) * (1 - store)
    consumable = np.array([c.cycle_days is not None for c in p.categories.values()])
    cycles = np.array([c.cycle_days or 1.0 for c in p.categories.values()])
    habits = consumable & (taste > 1.5 / len(keys)) & (rng.random(taste.shape) < p.buying.starts_with_habit)
    return {
        "persona": persona,
        "female": rng.random(n) < np.array([x.female for x in p.personas])[persona],
        "age": rng.uniform(ages[:, 0], ages[:, 1] + 1),
        "baby": rng.random(n) < np.array([x.baby for x in p.personas])[persona],
        "origin": pick([o.share for o in p.origins]),
        "taste": taste,
        "style": rng.normal(size=(n, STYLES)),
        "casual": p.visits.casual_per_day * np.exp(p.visits.casual_sigma * rng.normal(size=n)),
        "episodes": p.visits.episodes_per_day * np.exp(p.visits.episode_sigma * rng.normal(size=n)),
        "hour": (centre + spread * rng.normal(size=n)) % 24,
        "hour_k": np.exp(rng.uniform(np.log(low), np.log(high), n)),
        "price_sense": who.price_sense_sigma * rng.normal(size=n),
        "weekend": np.exp(who.weekend_sigma * rng.normal(size=n)),
        "channels": np.stack([in_app, 1 - in_app - store, store], axis=1),
        "app": app,
        "cycle": np.exp(0.2 * rng.normal(size=n)),
        "habits": habits,
        "first_due": rng.random(taste.shape) * cycles,
        "joined_before": 1 + np.floor(rng.exponential(240, n)).astype(np.int64),
        "hesitates": rng.integers(0, LOOK_AHEAD + 1, n),
        "lifetime": np.ceil(rng.exponential(who.lifetime_days, n)).astype(np.int64),
        "draws": rng.random((n, len(DRAWS))),
    }


def liking(people: People, catalogue: Catalogue, parameters: Parameters) -> np.ndarray:
    """How much each person likes each product within its category: positive weights (N, P), float32."""
    typical = np.array([c.price for c in parameters.categories.values()])[catalogue.category]
    dear = np.log(catalogue.base_price / typical)
    score = parameters.style_strength * people.style @ catalogue.style.T
    score += catalogue.popularity - 0.8 * people.price_sense[:, None] * dear
    return np.exp(np.clip(score, -20, 20)).astype(np.float32)
