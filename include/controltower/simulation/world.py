"""What a day works on: the world that stays, the state that each person carries, and the day's visits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from controltower.simulation.catalogue import Catalogue
from controltower.simulation.parameters import Parameters
from controltower.simulation.people import NEVER, People

SECOND = 1_000_000  # microseconds, the unit of every moment here
NOT_YET = 2**61  # microseconds: a moment that doesn't come
Columns = dict[str, np.ndarray]  # columns of numbers by name, all of one length


@dataclass(frozen=True)
class World:
    """What doesn't change: `liking` (N, P) and `appetite` (N, C), the running sum of taste."""

    parameters: Parameters
    seed: int
    opened: date
    people: People
    catalogue: Catalogue
    liking: np.ndarray
    appetite: np.ndarray

    def day(self, day: int) -> date:
        """The calendar date of a day."""
        return self.opened + timedelta(days=int(day))

    def midnight(self, day: int) -> np.ndarray:
        """The start of a day for each origin (O,), in microseconds UTC."""
        local = datetime.combine(self.day(day), datetime.min.time())
        noon = local + timedelta(hours=12)  # the offset of noon serves the whole day
        offsets = [noon.replace(tzinfo=ZoneInfo(o.timezone)).utcoffset() for o in self.parameters.origins]
        start = local.replace(tzinfo=UTC)
        return np.array([round((start - (o or timedelta())).timestamp()) * SECOND for o in offsets], dtype=np.int64)


@dataclass
class State:
    """What each person (N,) carries from day to day; `due` and `usual` are (N, C)."""

    wants: np.ndarray  # category of the episode, -1: none
    target: np.ndarray  # product they have in mind, -1: none
    replenishing: np.ndarray
    carted_on: np.ndarray  # day
    due: np.ndarray  # day on which a consumable runs out, inf: not used
    usual: np.ndarray  # the product they take again, -1: none
    cookie: np.ndarray
    bought_on: np.ndarray  # day
    orders: np.ndarray
    spent: np.ndarray  # KRW
    signed_up_at: np.ndarray  # microseconds; NOT_YET where they have not
    app_seen: np.ndarray  # microseconds

    @classmethod
    def first(cls, world: World) -> State:
        people, n = world.people, world.people.size
        midnight = world.midnight(0)[people.origin]
        joined = midnight + (people.signs_up * 24 + people.hour) * 3600 * SECOND
        return cls(
            wants=np.full(n, -1), target=np.full(n, -1), replenishing=np.zeros(n, bool), carted_on=np.full(n, -NEVER),
            due=np.where(people.habits, np.maximum(people.signs_up, 0)[:, None] + people.first_due, np.inf),
            usual=np.full(people.taste.shape, -1), cookie=np.zeros(n, np.int64), bought_on=np.full(n, -NEVER),
            orders=np.zeros(n, np.int64), spent=np.zeros(n, np.int64),
            signed_up_at=np.where(people.signs_up < 0, joined.astype(np.int64), NOT_YET),
            app_seen=np.zeros(n, np.int64),
        )  # fmt: skip


@dataclass
class Sessions:
    """The M visits of a day, each array (M,). `who` 0 is somebody who never signs up; `category` is what it is about,
    `idle` that there is no episode behind it; `start` in microseconds. `carted` and `main` are products, -1: none."""

    who: np.ndarray
    channel: np.ndarray
    start: np.ndarray
    visitor: np.ndarray
    category: np.ndarray
    idle: np.ndarray
    target: np.ndarray
    open_cart: np.ndarray
    joins: np.ndarray
    logged: np.ndarray
    may_buy: np.ndarray
    late: np.ndarray
    carted: np.ndarray
    main: np.ndarray
    first_order: np.ndarray


@dataclass(frozen=True)
class Views:
    """The V product views of a day, sorted by session: `session`, `position` within it (0..), `product`, each (V,)."""

    session: np.ndarray
    position: np.ndarray
    product: np.ndarray

    def one_of_each(self, rng: np.random.Generator, sessions: int, category: np.ndarray, c: Catalogue) -> np.ndarray:
        """For each session (M,) a product it looked at, rather one of its own category; -1 where it saw none."""
        found = np.full(sessions, -1)
        score = rng.random(len(self.session)) + (c.category[self.product] == category[self.session])
        order = np.lexsort((score, self.session))  # the best comes last, and the last assignment stays
        found[self.session[order]] = self.product[order]
        return found


@dataclass(frozen=True)
class Basket:
    """The lines of a day's orders, sorted by session, each array (L,); money in whole KRW and of the whole line."""

    session: np.ndarray
    product: np.ndarray
    line_no: np.ndarray
    quantity: np.ndarray
    price: np.ndarray  # of one
    discount: np.ndarray
    coupon: np.ndarray  # 0 none, 1 welcome, 2 payday

    @property
    def net(self) -> np.ndarray:
        return self.price * self.quantity - self.discount

    def totals(self, sessions: int) -> tuple[np.ndarray, np.ndarray]:
        """Net amount and number of units for each session (M,)."""
        net = np.bincount(self.session, weights=self.net, minlength=sessions).astype(np.int64)
        return net, np.bincount(self.session, weights=self.quantity, minlength=sessions).astype(np.int64)


def pick_category(world: World, rng: np.random.Generator, who: np.ndarray) -> np.ndarray:
    """One category for each of `who`, by taste."""
    return (world.appetite[who] < rng.random(len(who))[:, None]).sum(axis=1).clip(max=world.appetite.shape[1] - 1)


def pick_products(world: World, rng: np.random.Generator, who: np.ndarray, category: np.ndarray,
                  sold: np.ndarray) -> np.ndarray:  # fmt: skip
    """One product (m,) of the given category for each of `who`, by liking, among those `sold` (P,) now."""
    c = world.catalogue
    slots = np.arange(c.count.max())
    product = np.minimum(c.first[category][:, None] + slots, c.size - 1)
    weight = world.liking[who[:, None], product] * sold[product] * (slots < c.count[category][:, None])
    total = np.cumsum(weight, axis=1)
    chosen = (total <= (rng.random(len(who)) * total[:, -1])[:, None]).sum(axis=1)
    return c.first[category] + np.minimum(chosen, c.count[category] - 1)
