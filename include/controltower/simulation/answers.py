"""What a customer does with a message: decided once, from who they are and what it shows.

Nothing here depends on ids that a run draws afresh. The draws of a message are seeded by (seed, customer, campaign,
day, channel), so that the same day gives the same answers however often, and in however many steps, they are asked for.
They are the same whatever the effect is: in the null shop the same people open and click, and nobody buys for it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal

import numpy as np

from controltower.simulation.parameters import Answers
from controltower.simulation.truth import Customer, Product, Truth

DELIVERY, MAILBOX, MESSAGE = 21, 22, 23  # what a generator is for
_NIGHT_BEGINS, _NIGHT_ENDS = 22, 7  # local hours: who would look after midnight looks at their own hour instead
_LAST_LOOK = timedelta(days=7)
_NAME = 12  # so many characters of a product's title tell it: subjects are cut short
_UNIFORM = "open machine click second link link_2 leaves how complains buys at_once product more cancelled".split()
_NORMAL = "open_delay tap_delay".split()
_WAITS = "machine click second leave buy cancel".split()


@dataclass(frozen=True)
class Message:
    """As it arrived: `words` is the subject or title, `products` those with a link to click, in its order."""

    campaign: str
    words: str
    channel: Literal["email", "push"]
    received_at: datetime
    products: tuple[str, ...]


@dataclass(frozen=True)
class Delivery:
    """How the mailbox took it; `deferred` are the failed attempts before."""

    state: Literal["delivered", "bounced", "blocked"]
    at: datetime
    deferred: tuple[datetime, ...] = ()


@dataclass(frozen=True)
class Click:
    at: datetime
    product_id: str | None  # None: the message's one link


@dataclass(frozen=True)
class Purchase:
    """An order that the message caused; `after_click` where it was made in the same visit."""

    at: datetime
    products: tuple[Product, ...]
    after_click: bool
    cancelled_at: datetime | None

    @property
    def amount(self) -> Decimal:
        return sum((p.price for p in self.products), Decimal())


@dataclass(frozen=True)
class Reaction:
    """All that came of a message. `seen_at`: a person looked at it, which `open_hidden` tells nobody.

    `open_chance`, `click_chance` (of who sees it) and `buy_chance` (what it adds, given what they did) are the truth.
    """

    fit: float
    open_chance: float
    click_chance: float
    buy_chance: float = 0.0
    machine_open_at: datetime | None = None
    seen_at: datetime | None = None
    open_hidden: bool = False
    clicks: tuple[Click, ...] = ()
    left_at: datetime | None = None
    leaves_by: Literal["one_click", "page", "complaint"] | None = None
    purchase: Purchase | None = None


@dataclass(frozen=True)
class _Draws:
    """The message's luck, drawn at once, so that one decision doesn't move the next."""

    uniform: dict[str, float]
    normal: dict[str, float]
    wait: dict[str, float]  # exponential, mean 1

    @classmethod
    def of(cls, rng: np.random.Generator) -> _Draws:
        return cls(
            dict(zip(_UNIFORM, rng.random(len(_UNIFORM)).tolist(), strict=True)),
            dict(zip(_NORMAL, rng.normal(size=len(_NORMAL)).tolist(), strict=True)),
            dict(zip(_WAITS, rng.exponential(size=len(_WAITS)).tolist(), strict=True)),
        )


def deliver(truth: Truth, recipient: str, message: Message) -> Delivery:
    """How a mailbox takes a mail: a bad address bounces each time."""
    parameters = truth.parameters.answers
    bad = _rng(truth.seed, MAILBOX, recipient).random() < parameters.bad_addresses
    rng = _rng(truth.seed, DELIVERY, f"{recipient}/{message.campaign}/{_day(truth, message)}")
    blocked, deferred = rng.random(2)
    first = message.received_at + timedelta(seconds=round(0.5 + rng.exponential(parameters.delivery_seconds), 3))
    again = rng.exponential(600, 2)
    if bad:
        return Delivery("bounced", first)
    if blocked < parameters.blocked:
        return Delivery("blocked", first)
    if deferred >= parameters.deferred:
        return Delivery("delivered", first)
    attempts = [first, first + timedelta(seconds=60 + round(again[0]))][: 1 + int(again[1] > 600)]
    return Delivery("delivered", attempts[-1] + timedelta(seconds=120 + round(again[1])), tuple(attempts))


def key(customer: Customer, message: Message, truth: Truth) -> str:
    """What a message is to its customer, whichever run sent it; the day is the shop's."""
    return f"{customer.customer_id}/{message.campaign}/{_day(truth, message)}/{message.channel}"


def _day(truth: Truth, message: Message) -> date:
    return message.received_at.astimezone(truth.zone).date()


def react(truth: Truth, customer: Customer, message: Message, arrived: datetime) -> Reaction:
    """What the customer does with a message that arrived; a pure function of the truth and the message."""
    p = truth.parameters.answers
    draws = _Draws.of(_rng(truth.seed, MESSAGE, key(customer, message, truth)))
    mailbox = _rng(truth.seed, MAILBOX, f"{customer.customer_id}/mailbox")
    person, hides = mailbox.normal(), bool(mailbox.random() < p.machine_opens)
    shown = [truth.products[i] for i in message.products if i in truth.products]
    likes = [appeal(truth, customer, product) for product in shown]
    links = np.array([p.link_fade**i for i in range(len(shown))])
    fit = float(np.average(likes, weights=links)) if likes else 0.0
    mail = message.channel == "email"
    see, click = _chances(truth, customer, message, shown, arrived, person, fit)
    machine = arrived + _seconds(1 + draws.wait["machine"] * p.machine_open_seconds) if mail and hides else None
    seen = _looks(p, customer, mail, arrived, draws) if draws.uniform["open"] < see else None
    reaction = Reaction(fit, see, click, machine_open_at=machine, seen_at=seen, open_hidden=mail and hides)
    if seen and mail and (gone := _leaves(p, seen, draws)):
        return replace(reaction, left_at=gone[0], leaves_by=gone[1])
    clicks: tuple[Click, ...] = ()
    if seen and (not mail or draws.uniform["click"] < click):
        clicks = _clicks(p, mail, seen, shown, likes, links, draws)
    interest = _interest(p, customer, arrived)
    chance = p.lift_clicked if clicks else p.lift_seen if seen else p.lift_unseen
    chance = min(truth.effect * chance * interest * math.exp(p.lift_fit * max(-2.0, min(fit, 2.0))), 0.9)
    buys = draws.uniform["buys"] < chance
    purchase = _buys(truth, customer, shown, likes, seen or arrived, clicks, draws) if buys else None
    return replace(reaction, buy_chance=chance, clicks=clicks, purchase=purchase)


def appeal(truth: Truth, customer: Customer, product: Product) -> float:
    """How much a product suits a customer: taste of its category (0: average), style, and its price against theirs."""
    taste = math.log(max(float(customer.taste[product.category]) * len(customer.taste), 1e-9))
    style = truth.parameters.style_strength * float(customer.style @ product.style)
    price = truth.parameters.answers.fit_price * customer.price_sense * product.dear
    return max(-2.0, min(taste, 2.0)) + 0.5 * max(-2.0, min(style, 2.0)) - price


def _chances(truth: Truth, customer: Customer, message: Message, shown: list[Product], arrived: datetime, person: float,
             fit: float) -> tuple[float, float]:  # fmt: skip
    """The chance of being seen, and of a click by who saw it. Who taps a push has clicked."""
    p = truth.parameters.answers
    # The whole hour: the same campaign leaves some minutes earlier or later from run to run.
    turn = (arrived.astimezone(customer.zone).hour + 0.5 - customer.hour) / 12 * math.pi
    ready = p.open_person * person + p.open_hour * math.cos(turn)
    ready += p.open_product * any(product.title[:_NAME] in message.words for product in shown)
    interest = _interest(p, customer, arrived)
    if message.channel == "push":
        tap = p.tap + p.tap_app * (customer.app - 0.5) + p.click_fit * fit + ready
        return _share(tap, interest), 1.0
    return _share(p.open + ready, interest), _share(p.click + p.click_fit * fit, 1.0)


def _share(log_odds: float, interest: float) -> float:
    odds = math.exp(log_odds) * interest
    return odds / (1 + odds)


def _interest(p: Answers, customer: Customer, now: datetime) -> float:
    """1 while they like the shop, then falling to `faded`."""
    days = max((now.date() - customer.fades_at.date()).days, 0)
    return p.faded + (1 - p.faded) * 0.5 ** (days / p.fading_half_life)


def _looks(p: Answers, customer: Customer, mail: bool, arrived: datetime, draws: _Draws) -> datetime:
    """When a person sees it: never at night."""
    if mail:
        delay = timedelta(hours=p.open_hours * math.exp(p.open_hours_sigma * draws.normal["open_delay"]))
    else:
        delay = timedelta(minutes=p.tap_minutes * math.exp(p.tap_minutes_sigma * draws.normal["tap_delay"]))
    seen = arrived + max(min(delay, _LAST_LOOK), timedelta(seconds=5))
    local = seen.astimezone(customer.zone)
    if local.hour < _NIGHT_ENDS:
        seen = local.replace(hour=int(min(max(customer.hour, _NIGHT_ENDS), _NIGHT_BEGINS))).astimezone(arrived.tzinfo)
    return seen.replace(microsecond=seen.microsecond // 1000 * 1000)


def _leaves(p: Answers, seen: datetime, draws: _Draws
            ) -> tuple[datetime, Literal["one_click", "page", "complaint"]] | None:  # fmt: skip
    at = seen + _seconds(5 + 20 * draws.wait["leave"])
    if draws.uniform["complains"] < p.complains:
        return at, "complaint"
    if draws.uniform["leaves"] < p.unsubscribes:
        return at, "one_click" if draws.uniform["how"] < p.one_click else "page"
    return None


def _clicks(p: Answers, mail: bool, seen: datetime, shown: list[Product], likes: list[float], links: np.ndarray,
            draws: _Draws) -> tuple[Click, ...]:  # fmt: skip
    """One link, sometimes a second: rather what suits, and rather what stands above."""
    at = seen + _seconds(2 + 30 * draws.wait["click"]) if mail else seen
    if not mail or not shown:
        return (Click(at, shown[0].product_id if shown else None),)
    weight = links * np.exp(likes)
    first = _pick(weight, draws.uniform["link"])
    if len(shown) == 1 or draws.uniform["second"] >= p.second_click:
        return (Click(at, shown[first].product_id),)
    weight[first] = 0
    second = _pick(weight, draws.uniform["link_2"])
    later = at + _seconds(20 + 60 * draws.wait["second"])
    return Click(at, shown[first].product_id), Click(later, shown[second].product_id)


def _buys(truth: Truth, customer: Customer, shown: list[Product], likes: list[float], since: datetime,
          clicks: tuple[Click, ...], draws: _Draws) -> Purchase | None:  # fmt: skip
    """Something of what was shown, rather what was clicked; None where none of it is in stock."""
    p, clicked = truth.parameters.answers, {c.product_id for c in clicks}
    weight = np.array([
        math.exp(like) * (5.0 if product.product_id in clicked else 1.0) * product.in_stock
        for product, like in zip(shown, likes, strict=True)
    ])  # fmt: skip
    if not weight.any():
        return None
    first = _pick(weight, draws.uniform["product"])
    bought = [shown[first]]
    weight[first] = 0
    if weight.any() and draws.uniform["more"] < p.more_lines:
        bought.append(shown[_pick(weight, draws.uniform["link_2"])])
    at_once = bool(clicks) and draws.uniform["at_once"] < p.at_once
    if at_once:
        at = clicks[-1].at + _seconds(60 + 240 * draws.wait["buy"])
    else:
        at = since + timedelta(hours=1) + min(draws.wait["buy"] * p.lift_days, 6.0) * timedelta(days=1)
        local = at.astimezone(customer.zone)
        at += timedelta(hours=(customer.hour - local.hour) % 24)  # at their own hour
        at = at.replace(microsecond=0)
    cancelled = None
    if draws.uniform["cancelled"] < truth.parameters.money.cancelled:
        cancelled = at + timedelta(minutes=12) + _seconds(4 * 3600 * min(draws.wait["cancel"], 3))
    return Purchase(at, tuple(bought), at_once, cancelled)


def _pick(weight: np.ndarray, uniform: float) -> int:
    return int(np.searchsorted(np.cumsum(weight), uniform * weight.sum(), side="right").clip(max=len(weight) - 1))


def _seconds(count: float) -> timedelta:
    return timedelta(milliseconds=round(count * 1000))


def _rng(seed: int, what: int, text: str) -> np.random.Generator:
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.default_rng([seed, what, *np.frombuffer(digest, np.uint32).tolist()])
