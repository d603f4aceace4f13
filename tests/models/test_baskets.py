"""What the next order comes to: shrunk as far as the orders themselves say, and right as a whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from controltower.models.value.baskets import expect


def frame(customers: np.ndarray, amounts: np.ndarray, rate: float | None = None) -> pd.DataFrame:
    told = amounts if rate is not None else 0 * amounts
    return pd.DataFrame({"customer_id": customers, "amount": amounts, "told": told, "margin": told * (rate or 0)})


def drawn(within: float, between: float, seed: int = 1) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    """Ids, past orders (one to six each) and what one more order came to on average, of 2,000 lognormal customers."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"c{i:04}" for i in range(2000)])
    own = rng.normal(3, between, 2000)
    who = np.repeat(np.arange(2000), rng.integers(1, 7, 2000))
    amounts = np.exp(own[who] + rng.normal(0, within, len(who)))
    return ids, frame(ids[who], amounts), np.exp(own + within**2 / 2)


@pytest.mark.parametrize(("within", "between"), [(0.1, 0.6), (0.6, 0.1), (0.5, 0.5)])
def test_it_beats_own_mean_and_everybodys_mean(within: float, between: float) -> None:
    ids, orders, truth = drawn(within, between)
    found = expect(orders, ids)
    own = orders.groupby("customer_id")["amount"].mean().reindex(ids).to_numpy()

    def off(said: np.ndarray | float) -> float:
        return float(np.abs(np.log(said / truth)).mean())

    assert off(found.amount) <= 1.02 * min(off(own), off(orders["amount"].mean()))
    assert found.amount.mean() == pytest.approx(truth.mean(), rel=0.03)


def test_the_spread_is_that_of_one_more_order() -> None:
    ids, orders, _ = drawn(0.5, 0.5)
    found = expect(orders, ids)
    _, _, truth = drawn(0.5, 0.5)
    more = truth * np.exp(np.random.default_rng(3).normal(-0.125, 0.5, len(ids)))
    assert np.mean(((more - found.amount) / found.spread) ** 2) == pytest.approx(1, abs=0.25)


def test_orders_that_are_alike_tell_at_once() -> None:
    orders = frame(np.array(["a", "a", "b", "b"]), np.array([60_000.0, 60_000.0, 100_000.0, 100_000.0]))
    found = expect(orders, np.array(["a", "b", "nobody"]))
    assert found.amount[:2] == pytest.approx([60_000, 100_000]) and 60_000 < found.amount[2] < 100_000
    assert found.spread[:2] == pytest.approx([0, 0], abs=1) and found.spread[2] > 1000
    assert np.isnan(found.margin_rate).all()


def test_who_never_bought_and_shops_without_repeats() -> None:
    ids = np.array(["a", "b", "new"])
    once = expect(frame(ids[:2], np.array([10.0, 30.0]), rate=0.2), ids)
    assert once.amount == pytest.approx([20, 20, 20]), "nobody ordered twice: everybody's mean"
    assert once.margin_rate == pytest.approx([0.2] * 3)
    assert expect(frame(ids[:1], np.array([10.0])), ids).amount == pytest.approx([10] * 3)
    nothing = expect(frame(ids[:0], np.zeros(0)), ids)
    assert all(np.isnan(column).all() for column in nothing)


def test_margins_are_shrunk_as_far_as_orders_say() -> None:
    rng = np.random.default_rng(2)
    who = np.repeat([f"c{i:03}" for i in range(300)], 4)
    own = np.repeat(rng.normal(0.4, 0.1, 300), 4)
    orders = frame(who, np.full(1200, 10.0)).assign(told=10.0, margin=10 * rng.normal(own, 0.2))
    ids = np.array([*dict.fromkeys(who), "new"])
    rates = expect(orders, ids).margin_rate
    plain = orders.groupby("customer_id")["margin"].mean().to_numpy() / 10
    off = np.abs(rates[:-1] - own[::4]).mean()
    assert off < 0.9 * np.abs(plain - own[::4]).mean() and off < 0.9 * np.abs(0.4 - own[::4]).mean()
    assert rates[-1] == pytest.approx(0.4, abs=0.02)
    alike = pd.concat(
        [frame(np.array(["a"] * 3), np.full(3, 10.0), 0.5), frame(np.array(["b"] * 3), np.full(3, 10.0), 0.1)]
    )
    assert expect(alike, np.array(["a", "b"])).margin_rate == pytest.approx([0.5, 0.1])
