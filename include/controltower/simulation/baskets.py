"""What is bought together, what it costs, and what becomes of it: cancellations and returns."""

from __future__ import annotations

import numpy as np

from controltower.simulation.people import STORE
from controltower.simulation.world import SECOND, Basket, Columns, Sessions, World, pick_category, pick_products

PLACED, CANCELLED, RETURNED = 0, 1, 2
NO_COUPON, WELCOME, PAYDAY = 0, 1, 2
WELCOME_RATE = 0.1  # WELCOME10 says so
DAY = 86400 * SECOND


def fill(world: World, rng: np.random.Generator, s: Sessions, day: int) -> Basket:
    """The lines of every session that buys: the product it came for, its companions, and what else pleases."""
    p, catalogue, m = world.parameters, world.catalogue, len(s.who)
    sold = catalogue.on_sale_from(day)
    buyers = np.flatnonzero(s.main >= 0)
    more = np.repeat(buyers, rng.poisson(p.buying.extra_lines, len(buyers)).clip(max=5))
    by_taste = pick_products(world, rng, s.who[more], pick_category(world, rng, s.who[more]), sold)
    other = np.where(rng.random(len(more)) < p.buying.companion, catalogue.companion[s.main[more]], by_taste)
    session, product = np.concatenate([buyers, more]), np.concatenate([s.main[buyers], other])
    keep = sold[product]
    session, product = session[keep], product[keep]
    _, once = np.unique(session * catalogue.size + product, return_index=True)  # the first is kept: the main one
    once.sort()
    session, product = session[once], product[once]
    order = np.argsort(session, kind="stable")
    session, product = session[order], product[order]
    line_no = np.arange(len(session)) - np.searchsorted(session, session) + 1

    consumable = np.array([c.cycle_days is not None for c in p.categories.values()])[catalogue.category[product]]
    quantity = 1 + rng.poisson(np.where(consumable, 0.35, 0.04), len(session))
    price = catalogue.price[day // 7, product]
    sale = _round(price * quantity * catalogue.sale[day // 7, catalogue.category[product]])
    coupon = _coupons(world, rng, s, day, m)[session]
    rate = np.array([0.0, WELCOME_RATE, p.money.payday_rate])[coupon]
    discount = sale + _round((price * quantity - sale) * rate)
    return Basket(session, product, line_no, quantity, price, discount, coupon)


def _round(amount: np.ndarray) -> np.ndarray:
    return (np.floor(amount / 10) * 10).astype(np.int64)


def _coupons(world: World, rng: np.random.Generator, s: Sessions, day: int, m: int) -> np.ndarray:
    """Which coupon each session (M,) uses if it buys."""
    money, sense = world.parameters.money, world.people.price_sense[s.who]
    payday = world.day(day).day in money.payday_days
    uses, welcome = rng.random((2, m))
    coupon = np.where(payday & (uses < 1 / (1 + np.exp(-sense))) & (s.who > 0), PAYDAY, NO_COUPON)
    first = s.first_order & (s.who > 0) & (world.people.signs_up[s.who] >= 0)
    return np.where(first & (welcome < money.welcome_share), WELCOME, coupon)


def settle(world: World, rng: np.random.Generator, s: Sessions, basket: Basket, moments: np.ndarray,
           day: int) -> tuple[Columns, Columns]:  # fmt: skip
    """Orders and lines with all their versions, those of later days included.

    `moments` (B,): when each buying session placed its order. Orders: number (0.. within the day), who, channel,
    placed, updated, status, shipping, coupon. Lines: number, line_no, product, quantity, price, discount, updated.
    Times are microseconds.
    """
    p, buyers = world.parameters, np.flatnonzero(s.main >= 0)
    n, number = len(buyers), np.searchsorted(buyers, basket.session)  # the line's order, 0..n-1
    total, _ = basket.totals(len(s.who))
    free = (total[buyers] >= p.money.free_shipping_from) | (s.channel[buyers] == STORE)
    coupon = np.zeros(n, np.int64)
    coupon[number] = basket.coupon
    orders = {"number": np.arange(n), "who": s.who[buyers], "channel": s.channel[buyers], "placed": moments,
              "updated": moments, "status": np.full(n, PLACED), "shipping": np.where(free, 0, p.money.shipping),
              "coupon": coupon}  # fmt: skip
    lines = {"number": number, "line_no": basket.line_no, "product": basket.product, "quantity": basket.quantity,
             "price": basket.price, "discount": basket.discount, "updated": moments[number]}  # fmt: skip

    cancelled = (rng.random(n) < p.money.cancelled) & (orders["channel"] != STORE)
    cancelled_at = moments + (rng.uniform(0.2, 10, n) * 3600).astype(np.int64) * SECOND
    returns = np.array([c.returns for c in p.categories.values()])[world.catalogue.category[basket.product]]
    back = (rng.random(len(number)) < returns) & ~cancelled[number]
    takes = 3 + rng.gamma(2, max(p.money.return_days - 3, 0.1) / 2, n)  # what is sent back goes in one parcel
    returned_at = moments + (takes * DAY / SECOND).astype(np.int64) * SECOND
    kept = np.bincount(number[~back], minlength=n)
    all_back = (kept == 0) & ~cancelled

    ends = [(cancelled, cancelled_at, CANCELLED), (all_back, returned_at, RETURNED)]
    later = [
        {**_take(orders, which), "updated": at[which], "status": np.full(which.sum(), to)} for which, at, to in ends
    ]
    in_order = np.bincount(number, minlength=n)[number]
    sent = _take(lines, back)
    sent |= {"line_no": sent["line_no"] + in_order[back], "quantity": -sent["quantity"], "discount": -sent["discount"],
             "updated": returned_at[number[back]]}  # fmt: skip
    return _join([orders, *later], day), _join([lines, sent], day)


def _take(columns: Columns, which: np.ndarray) -> Columns:
    return {name: values[which] for name, values in columns.items()}


def _join(parts: list[Columns], day: int) -> Columns:
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return {**joined, "day": np.full(len(joined["number"]), day)}
