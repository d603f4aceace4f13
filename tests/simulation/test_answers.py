"""Customers answer by who they are and what they are shown, the same way each time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from controltower.simulation import answers
from controltower.simulation.answers import Message, Reaction
from controltower.simulation.parameters import Parameters
from controltower.simulation.truth import Customer, Truth
from hypothesis import given
from hypothesis import strategies as st

from .conftest import SEED

NOON = datetime.fromisoformat("2026-06-05T12:00:00+09:00")


@pytest.fixture(scope="module")
def truth(small_shop: Path) -> Truth:
    return Truth(small_shop, SEED, 1.0, Parameters.load())


@pytest.fixture(scope="module")
def null(truth: Truth) -> Truth:
    return replace(truth, effect=0.0)


def favourites(truth: Truth, customer: Customer, best: bool = True) -> tuple[str, ...]:
    by_appeal = sorted(truth.products.values(), key=lambda p: -answers.appeal(truth, customer, p))
    chosen = by_appeal[2:8] if best else by_appeal[-6:]
    return tuple(p.product_id for p in chosen)


def message(products: tuple[str, ...], channel: str = "email", at: datetime = NOON, **more: str) -> Message:
    return Message(more.get("campaign", "c"), more.get("words", "Hello"), channel, at, products)  # type: ignore[arg-type]


def answered(truth: Truth, channel: str = "email", best: bool = True, days: int = 12) -> list[Reaction]:
    """What everybody does with a message a day."""
    found = []
    for customer in truth.customers.values():
        shown = favourites(truth, customer, best)
        for day in range(days):
            at = NOON + timedelta(days=day)
            found.append(answers.react(truth, customer, message(shown, channel, at), at))
    return found


def share(reactions: list[Reaction], what: str) -> float:
    return sum(bool(getattr(r, what)) for r in reactions) / len(reactions)


def test_the_same_message_gets_the_same_answer(truth: Truth) -> None:
    customer = truth.customers["C000007"]
    shown = favourites(truth, customer)
    first, again = (answers.react(truth, customer, message(shown), NOON) for _ in range(2))
    assert first == again
    later = NOON + timedelta(minutes=12)  # another run of the day dispatches a little later
    moved = answers.react(truth, customer, message(shown, at=later), later)
    assert (moved.open_chance, moved.click_chance, moved.buy_chance) == (
        first.open_chance, first.click_chance, first.buy_chance
    )  # fmt: skip
    everybody = list(truth.customers.values())
    one, other = ([answers.react(truth, w, message(shown, campaign=c), NOON) for w in everybody] for c in "cd")
    assert one != other


def test_rates_lie_in_the_published_ranges(truth: Truth) -> None:
    mails = answered(truth)
    assert 0.15 < share(mails, "seen_at") < 0.4
    assert 0.02 < share(mails, "clicks") < 0.13
    assert 0.001 < share(mails, "left_at") < 0.006
    assert 0.2 < share(mails, "machine_open_at") < 0.4
    pushes = answered(truth, "push")
    assert 0.02 < share(pushes, "clicks") < 0.12
    assert not share(pushes, "machine_open_at")
    assert not share(pushes, "left_at")
    how = Counter(r.leaves_by for r in mails)
    assert how["one_click"] > 0
    assert how["page"] > 0
    assert how["complaint"] <= how["one_click"] + how["page"]


def test_what_suits_is_clicked_and_bought_more(truth: Truth) -> None:
    suits, wrong = answered(truth), answered(truth, best=False)
    assert np.mean([r.fit for r in suits]) > 1 > -1 > np.mean([r.fit for r in wrong])
    assert share(suits, "clicks") > 1.5 * share(wrong, "clicks")
    assert share(suits, "purchase") > 2 * share(wrong, "purchase")
    clicked = [r.buy_chance for r in suits if r.clicks]
    seen = [r.buy_chance for r in suits if r.seen_at and not r.clicks and not r.left_at]
    unseen = [r.buy_chance for r in suits if not r.seen_at]
    assert np.mean(clicked) > 2 * np.mean(seen) > 4 * np.mean(unseen)
    assert not any(r.purchase for r in suits if r.left_at)


def test_purchases_come_as_often_as_their_chance_says(truth: Truth) -> None:
    found = answered(truth)
    expected = sum(r.buy_chance for r in found)
    assert abs(share(found, "purchase") * len(found) - expected) < 4 * expected**0.5


def test_in_the_null_shop_the_same_people_click_and_nobody_buys(truth: Truth, null: Truth) -> None:
    real, nothing = answered(truth, days=3), answered(null, days=3)
    assert any(r.purchase for r in real)
    for one, other in zip(real, nothing, strict=True):
        assert replace(one, buy_chance=0.0, purchase=None) == other


def test_interest_that_faded_answers_less(truth: Truth) -> None:
    customer = truth.customers["C000007"]
    shown = favourites(truth, customer)
    fresh = replace(customer, fades_at=NOON + timedelta(days=100))
    faded = replace(customer, fades_at=NOON - timedelta(days=300))
    strong, weak = (answers.react(truth, c, message(shown), NOON) for c in (fresh, faded))
    assert weak.open_chance < 0.6 * strong.open_chance
    assert weak.buy_chance < strong.buy_chance


def test_the_own_hour_and_a_product_in_the_subject_open_more(truth: Truth) -> None:
    customer = truth.customers["C000007"]
    shown = favourites(truth, customer)
    own = NOON.replace(hour=int(customer.hour))
    far = own + timedelta(hours=12)
    at_own, at_far = (answers.react(truth, customer, message(shown, at=t), t).open_chance for t in (own, far))
    assert at_far < at_own < 3 * at_far
    title = truth.products[shown[2]].title
    named = answers.react(truth, customer, message(shown, words=f"{title[:20]}…, now"), NOON)
    plain = answers.react(truth, customer, message(shown), NOON)
    assert named.open_chance > plain.open_chance


@given(st.integers(1, 150), st.integers(0, 23), st.sampled_from(["email", "push"]), st.integers(0, 400))
def test_things_happen_in_order(truth: Truth, who: int, hour: int, channel: str, day: int) -> None:
    customer = truth.customers[f"C{who:06d}"]
    at = NOON.replace(hour=hour) + timedelta(days=day)
    found = answers.react(truth, customer, message(favourites(truth, customer), channel, at), at)
    assert 0 <= found.buy_chance <= 0.9
    if found.machine_open_at:
        assert at < found.machine_open_at
    if not found.seen_at:
        assert not found.clicks
        assert not found.left_at
    else:
        assert at < found.seen_at < at + timedelta(days=9)
        assert found.seen_at.astimezone(customer.zone).hour >= 7
        assert all(found.seen_at <= click.at for click in found.clicks)
    if found.purchase:
        assert at < found.purchase.at
        assert found.purchase.amount > 0
        assert not found.clicks or found.clicks[-1].at < found.purchase.at
        assert found.purchase.cancelled_at is None or found.purchase.cancelled_at > found.purchase.at


def test_a_bad_address_bounces_each_time(truth: Truth) -> None:
    found: Counter[str] = Counter()
    per_address: dict[str, set[bool]] = {}
    for n in range(4000):
        for campaign in ("a", "b"):
            state = answers.deliver(truth, f"{n}@post.example", message((), campaign=campaign)).state
            found[state] += 1
            per_address.setdefault(f"{n}", set()).add(state == "bounced")
    assert all(len(states) == 1 for states in per_address.values())
    assert 0.002 < found["bounced"] / 8000 < 0.012
    assert 0.001 < found["blocked"] / 8000 < 0.006


def test_a_deferred_mail_comes_after_its_attempts(truth: Truth) -> None:
    deliveries = [answers.deliver(truth, f"{n}@post.example", message(())) for n in range(1500)]
    deferred = [d for d in deliveries if d.deferred]
    assert 0.01 < len(deferred) / len(deliveries) < 0.04
    for delivery in deferred:
        assert NOON < delivery.deferred[0] <= delivery.deferred[-1] < delivery.at


def test_a_message_without_products_is_answered_too(truth: Truth) -> None:
    found = [answers.react(truth, c, message((), "push"), NOON) for c in truth.customers.values()]
    clicks = [c for r in found for c in r.clicks]
    assert clicks
    assert {c.product_id for c in clicks} == {None}
    assert not any(r.purchase for r in found)
