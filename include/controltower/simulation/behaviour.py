"""One day of the shop: whose interest wakes, who visits, who puts what into the cart, who buys, and what they remember.

A day is each person's own calendar day, in their zone.
"""

from __future__ import annotations

import numpy as np

from controltower.simulation import baskets, browsing
from controltower.simulation.people import APP, NEVER, STORE, WEB
from controltower.simulation.world import (
    SECOND,
    Basket,
    Columns,
    Sessions,
    State,
    Views,
    World,
    pick_category,
    pick_products,
)  # fmt: skip

CART_DAYS = 7  # a cart left longer is forgotten


def live(world: World, state: State, day: int) -> tuple[Columns, Columns, Columns]:
    """One day: its events, its orders and their lines, every version of them; `state` moves on."""
    rng = np.random.default_rng([world.seed, 5, day])
    n = int(world.people.sizes[day])
    weekday = world.parameters.weekdays[world.day(day).weekday()]
    pace = np.full(n, weekday)
    if world.day(day).weekday() >= 5:
        pace = pace * world.people.weekend[:n]
    interest = 0.5 ** (np.maximum(0, day - world.people.fades[:n]) / world.parameters.people.fading_half_life)
    _wake(world, state, day, rng, pace, interest)
    sessions = _visits(world, state, day, rng, pace, interest)
    views = browsing.views(world, rng, sessions, day)
    _decide(world, state, day, rng, sessions, views)
    basket = baskets.fill(world, rng, sessions, day)
    events = browsing.events(world, rng, sessions, views, basket, day)
    moments = browsing.purchase_moments(events)
    orders, lines = baskets.settle(world, rng, sessions, basket, moments, day)
    _remember(world, state, day, rng, sessions, basket)
    joined = events["name"] == browsing.SIGN_UP
    state.signed_up_at[events["who"][joined]] = events["time"][joined]
    in_app = sessions.channel == APP
    state.app_seen[sessions.who[in_app]] = sessions.start[in_app]
    return events, orders, lines


def _wake(world: World, state: State, day: int, rng: np.random.Generator, pace: np.ndarray,
          interest: np.ndarray) -> None:  # fmt: skip
    """Episodes end and begin; what has run out is wanted again."""
    p, people, n = world.parameters, world.people, len(pace)
    tired, starts, keeps, takes = rng.random((4, n))
    everyone = np.arange(n)
    wants = state.wants[:n]

    gives_up = (wants >= 0) & (tired < 1 / p.visits.episode_days)
    waits = np.flatnonzero(gives_up & state.replenishing[:n])
    state.due[waits, wants[waits]] = day + 10.0  # bought elsewhere this time
    left = np.flatnonzero(gives_up)
    state.wants[left], state.target[left], state.carted_on[left], state.replenishing[left] = -1, -1, -NEVER, False

    here = people.arrives[:n] <= day
    newcomer = (people.signs_up[:n] == day) & (starts < p.visits.newcomer_episode)
    begins = here & (state.wants[:n] < 0) & (newcomer | (starts < people.episodes[:n] * interest * pace))
    who = np.flatnonzero(begins)
    state.wants[who] = pick_category(world, rng, who)

    out = here & (people.signs_up[:n] <= day) & (state.due[:n].min(axis=1) <= day) & ~state.replenishing[:n]
    stops = out & (keeps > interest**0.5)
    state.due[:n][stops[:, None] & (state.due[:n] <= day)] = np.inf
    needs = everyone[out & ~stops]
    category = state.due[needs].argmin(axis=1)
    state.wants[needs], state.replenishing[needs] = category, True
    same = takes[needs] < p.buying.same_again
    state.target[needs] = np.where(same, state.usual[needs, category], -1)
    state.carted_on[needs] = -NEVER


def _visits(world: World, state: State, day: int, rng: np.random.Generator, pace: np.ndarray,
            interest: np.ndarray) -> Sessions:  # fmt: skip
    """Who comes today, when and through which channel."""
    p, people, n = world.parameters, world.people, len(pace)
    chance = np.where(state.wants[:n] >= 0, p.visits.in_episode, people.casual[:n] * interest) * pace
    looks_first = (people.arrives[:n] <= day) & (people.signs_up[:n] > day)
    chance = np.where(looks_first, 0.35, chance)
    joins = people.signs_up[:n] == day
    comes = (people.arrives[:n] <= day) & ((rng.random(n) < chance) | joins)
    comes[0] = False
    anonymous = rng.poisson(p.visits.anonymous_per_day * p.weekdays[0])
    who = np.concatenate([np.flatnonzero(comes), np.zeros(anonymous, np.int64)])
    m = len(who)

    channel = (np.cumsum(people.channels[who], axis=1)[:, :2] < rng.random(m)[:, None]).sum(axis=1)
    channel = np.where((channel == STORE) & (people.signs_up[who] >= day), WEB, channel)
    start = world.midnight(day)[people.origin[who]] + _hours(world, rng, who, channel)
    fresh = (rng.random(m) < p.visits.cookie_loss) & (channel == WEB) & (who > 0)
    state.cookie[who[fresh]] = (state.cookie[who[fresh]] + 1) % 500
    visitor = np.where(who > 0, who * 1000 + state.cookie[who] * 2 * (channel == WEB) + (channel == APP), 0)
    visitor[m - anonymous :] = -(day * 1_000_000 + np.arange(anonymous) + 1)

    category = np.where(who > 0, state.wants[who], -1)
    idle = category < 0
    category[idle] = pick_category(world, rng, who[idle])
    known = np.where(channel == APP, p.visits.logged_in_app, p.visits.logged_in_web)
    logged = (channel == STORE) | ((rng.random(m) < known) & (people.signs_up[who] < day))
    return Sessions(
        who=who, channel=channel, start=start, visitor=visitor, category=category, idle=idle,
        target=np.where(idle, -1, state.target[who]),
        open_cart=(who > 0) & (day - state.carted_on[who] <= CART_DAYS),
        joins=people.signs_up[who] == day, logged=logged,
        may_buy=(people.signs_up[who] <= day) | (who == 0),
        late=rng.random(m) < p.visits.late_events,
        carted=np.full(m, -1), main=np.full(m, -1), first_order=state.orders[who] == 0,
    )  # fmt: skip


def _hours(world: World, rng: np.random.Generator, who: np.ndarray, channel: np.ndarray) -> np.ndarray:
    """Start within the local day, in microseconds."""
    p, people, m = world.parameters, world.people, len(who)
    mode = np.searchsorted(np.cumsum([x.share for x in p.hours])[:-1], rng.random(m), side="right")
    own = (rng.random(m) < p.own_hour_share) & (who > 0)
    centre = np.where(own, people.hour[who], np.array([x.hour for x in p.hours])[mode])
    kappa = np.where(own, people.hour_k[who], np.array([x.concentration for x in p.hours])[mode])
    hour = rng.vonmises(centre * np.pi / 12 - np.pi, kappa) * 12 / np.pi + 12  # vonmises answers within -pi..pi
    hour = np.where(channel == STORE, 10.5 + hour % 9.5, hour % 24)
    return (hour * 3600 * SECOND).astype(np.int64)


def _decide(world: World, state: State, day: int, rng: np.random.Generator, s: Sessions,
            views: Views) -> None:  # fmt: skip
    """Fill `s.carted` (product put into the cart, -1: none) and `s.main` (product bought, -1: none)."""
    b, people, m = world.parameters.buying, world.people, len(s.who)
    episode, needs = ~s.idle, state.replenishing[s.who] & ~s.idle
    sale = world.catalogue.sale[day // 7, s.category] > 0
    payday = world.day(day).day in world.parameters.money.payday_days
    sense = people.price_sense[s.who]
    cart = b.cart + b.cart_in_episode * episode + b.cart_replenishing * needs + b.cart_open * s.open_cart
    cart = cart + b.cart_sale * sense * sale
    buy = b.buy + b.buy_in_episode * episode + b.buy_replenishing * needs + b.buy_open * s.open_cart
    buy = buy + b.buy_payday * sense * payday + b.buy_recent * (day - state.bought_on[s.who] <= 3) * ~needs
    buy = np.where(s.channel == STORE, b.store_buy + b.buy_in_episode * episode + b.buy_replenishing * needs, buy)
    buy = buy + b.anonymous * (s.who == 0)

    in_store = s.channel == STORE
    carts = (rng.random(m) < 1 / (1 + np.exp(-cart))) & ~in_store
    seen = views.one_of_each(rng, m, s.category, world.catalogue)
    open_product = np.where(s.open_cart, s.target, -1)
    wanted = np.where(s.target >= 0, s.target, seen)
    s.carted = np.where(carts, wanted, -1)
    taken = pick_products(world, rng, s.who, s.category, world.catalogue.on_sale_from(day))
    main = np.where(in_store, np.where(s.target >= 0, s.target, taken), np.where(carts, wanted, open_product))
    buys = (rng.random(m) < 1 / (1 + np.exp(-buy))) & (main >= 0) & s.may_buy
    buys &= world.catalogue.on_sale_from(day)[main]
    s.main = np.where(buys, main, -1)


def _remember(world: World, state: State, day: int, rng: np.random.Generator, s: Sessions,
              basket: Basket) -> None:  # fmt: skip
    """What today's sessions leave behind: carts, the end of episodes, the next day on which something runs out."""
    b, known = world.parameters.buying, s.who > 0
    left = np.flatnonzero(known & (s.carted >= 0) & (s.main < 0))
    who = s.who[left]
    state.wants[who], state.target[who] = world.catalogue.category[s.carted[left]], s.carted[left]
    state.carted_on[who] = day
    done = s.who[known & (s.main >= 0)]
    state.wants[done], state.target[done], state.carted_on[done], state.replenishing[done] = -1, -1, -NEVER, False
    state.bought_on[done] = day
    state.orders[done] += 1

    who = s.who[basket.session]
    np.add.at(state.spent, who, basket.net)
    category = world.catalogue.category[basket.product]
    cycles = np.array([c.cycle_days or np.inf for c in world.parameters.categories.values()])[category]
    habit = np.isfinite(state.due[who, category]) | (rng.random(len(who)) < b.becomes_habit)
    lasts = cycles * world.people.cycle[who] * basket.quantity**0.8 * np.exp(b.cycle_sigma * rng.normal(size=len(who)))
    k = np.flatnonzero((who > 0) & np.isfinite(cycles) & habit)
    state.due[who[k], category[k]] = day + lasts[k]
    state.usual[who[k], category[k]] = basket.product[k]
