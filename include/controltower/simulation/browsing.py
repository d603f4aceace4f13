"""What visitors look at, and the events that tell of a day."""

from __future__ import annotations

import numpy as np

from controltower.simulation.people import APP, STORE
from controltower.simulation.world import Basket, Columns, Sessions, Views, World, pick_products

NAMES = ("view_item_list", "search", "view_item", "add_to_cart", "remove_from_cart", "sign_up", "login",
         "begin_checkout", "purchase")  # fmt: skip
LIST, SEARCH, VIEW, CART, REMOVE, SIGN_UP, LOGIN, CHECKOUT, PURCHASE = range(len(NAMES))

# Order of the steps within a session; views are at 100, 110, ..., the basket's further products at 5000, 5010, ...
AT_ENTRY, AT_LOGIN, AT_SIGN_UP, AT_VIEW, AT_MORE, AT_CHECKOUT = 0, -1, 50, 100, 5000, 9000
NOT_LOGGED_IN = 10**6


def views(world: World, rng: np.random.Generator, s: Sessions, day: int) -> Views:
    """What each session looks at: mostly its own category, first of all the product in mind."""
    p, last = world.parameters, len(world.parameters.keys) - 1
    mean = np.where(s.idle, p.visits.views, p.visits.views_in_episode)
    number = np.where(s.channel == STORE, 0, rng.geometric(1 / (1 + mean)).clip(max=40))
    session = np.repeat(np.arange(len(number)), number)
    position = np.arange(len(session)) - np.repeat(np.cumsum(number) - number, number)
    who = s.who[session]
    other = (world.appetite[who] < rng.random(len(session))[:, None]).sum(axis=1).clip(max=last)
    category = np.where(rng.random(len(session)) < p.visits.focus, s.category[session], other)
    product = pick_products(world, rng, who, category, world.catalogue.first_day <= day)
    in_mind = (position == 0) & (s.target[session] >= 0)
    return Views(session, position, np.where(in_mind, s.target[session], product))


def events(world: World, rng: np.random.Generator, s: Sessions, seen: Views, basket: Basket, day: int) -> Columns:
    """The day's events as columns of numbers, sorted by session and time; -1 means empty.

    Columns: session, name, product, query, results, list, position, value, quantity, order (its number within the
    day), time and received (microseconds), who, logged, visitor, channel.
    """
    p, m = world.parameters, len(s.who)
    online = np.flatnonzero(s.channel != STORE)
    kind = rng.random(m)
    searches = online[kind[online] < p.visits.search]
    lists = online[(kind[online] >= p.visits.search) & (kind[online] < p.visits.search + p.visits.list)]
    week_shown = rng.random(m) < 0.15  # the list is the week's exhibition
    the_list = np.full(m, -1)
    the_list[lists] = np.where(week_shown[lists], len(p.keys) + day // 7, s.category[lists])
    price = world.catalogue.price[day // 7]

    pieces = [_rows(LIST, lists, AT_ENTRY, list=the_list[lists])]
    pieces.append(_searches(world, rng, s, searches, day))
    pieces.append(_rows(VIEW, seen.session, AT_VIEW + 10 * seen.position, product=seen.product, quantity=1,
                        value=price[seen.product], list=the_list[seen.session],
                        position=np.where(the_list[seen.session] >= 0, seen.position + 1, -1)))  # fmt: skip
    carts = np.flatnonzero(s.carted >= 0)
    pieces.append(_rows(CART, carts, AT_MORE - 500, product=s.carted[carts], quantity=1, value=price[s.carted[carts]]))
    removes = carts[(rng.random(len(carts)) < p.buying.remove) & (s.main[carts] < 0)]
    pieces.append(
        _rows(REMOVE, removes, AT_MORE, product=s.carted[removes], quantity=1, value=price[s.carted[removes]])
    )
    more = np.flatnonzero((basket.line_no > 1) & (s.channel[basket.session] != STORE))
    further = {"session": basket.session[more], "product": basket.product[more], "value": price[basket.product[more]]}
    for name, offset in ((VIEW, 0), (CART, 1)):
        pieces.append(_rows(name, step=AT_MORE + 10 * basket.line_no[more] + offset, quantity=1, **further))
    pieces.append(_rows(SIGN_UP, np.flatnonzero(s.joins), AT_SIGN_UP))

    buys = np.flatnonzero(s.main >= 0)
    total, units = basket.totals(m)
    pays = buys[s.channel[buys] != STORE]
    pieces.append(_rows(CHECKOUT, pays, AT_CHECKOUT + 10, value=total[pays], quantity=units[pays]))
    pieces.append(
        _rows(PURCHASE, buys, AT_CHECKOUT + 20, value=total[buys], quantity=units[buys], order=np.arange(len(buys)))
    )
    logs_in = s.logged & (s.channel != STORE) & (rng.random(m) < 0.15)
    at_checkout = (s.main >= 0) & ~s.logged & ~s.joins & (s.who > 0)
    since = np.where(s.logged, AT_LOGIN, NOT_LOGGED_IN)
    since[at_checkout], since[s.joins] = AT_CHECKOUT, AT_SIGN_UP
    pieces.append(_rows(LOGIN, np.flatnonzero(logs_in), AT_LOGIN))
    pieces.append(_rows(LOGIN, np.flatnonzero(at_checkout), AT_CHECKOUT))
    return _in_time(rng, s, pieces, since)


def _searches(world: World, rng: np.random.Generator, s: Sessions, session: np.ndarray, day: int) -> Columns:
    """Searches in the words of the session's category; a few are misspelt and find nothing (query code below -1)."""
    p, catalogue = world.parameters, world.catalogue
    words = np.array([len(c.queries) for c in p.categories.values()])
    first = np.concatenate([[0], np.cumsum(words)[:-1]])
    category = s.category[session]
    query = first[category] + (rng.random(len(session)) * words[category]).astype(np.int64)
    on_offer = np.bincount(catalogue.category[catalogue.first_day <= day], minlength=len(words))
    wrong = rng.random(len(session)) < p.visits.misspelt
    results = np.where(wrong, 0, on_offer[category])
    return _rows(SEARCH, session, AT_ENTRY, query=np.where(wrong, -2 - query, query), results=results)


_COLUMNS = ("session", "step", "name", "product", "query", "results", "list", "position", "value", "quantity", "order")


def _rows(name: int, session: np.ndarray, step: np.ndarray | int, **columns: np.ndarray | int) -> Columns:
    given: dict[str, np.ndarray | int] = {"name": name, "session": session, "step": step, **columns}
    return {c: np.broadcast_to(np.asarray(given.get(c, -1), np.int64), session.shape) for c in _COLUMNS}


def _in_time(rng: np.random.Generator, s: Sessions, pieces: list[Columns], since: np.ndarray) -> Columns:
    e = {c: np.concatenate([piece[c] for piece in pieces]) for c in _COLUMNS}
    order = np.lexsort((e["step"], e["session"]))
    e = {c: values[order] for c, values in e.items()}
    session = e["session"]
    gap = np.maximum(1, rng.exponential(40, len(session)))  # seconds between steps (assumption)
    elapsed = np.cumsum(gap)
    begins = np.concatenate([[True], session[1:] != session[:-1]]) if len(session) else np.zeros(0, bool)
    elapsed -= np.maximum.accumulate(np.where(begins, elapsed, 0))
    e["time"] = s.start[session] + (elapsed * 1000).astype(np.int64) * 1000  # whole milliseconds
    offline = s.late * (s.channel == APP) * rng.uniform(1, 30, len(s.who)) * 3600
    lag = rng.exponential(4, len(session)) + offline[session]
    e["received"] = e["time"] + (lag * 1000).astype(np.int64) * 1000
    e["who"], e["visitor"], e["channel"] = s.who[session], s.visitor[session], s.channel[session]
    e["logged"] = (e.pop("step") >= since[session]).astype(np.int64)
    return e


def purchase_moments(e: Columns) -> np.ndarray:
    """When each order of the day was placed (microseconds), by session."""
    return e["time"][e["name"] == PURCHASE]
