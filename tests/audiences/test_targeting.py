"""Goals: who comes first, how much is expected, and whether the interval keeps its promise."""

from __future__ import annotations

import numpy as np
import pytest
from controltower.audiences.targeting import (
    ACQUIRE,
    CLICKS,
    CONVERSIONS,
    GOALS,
    INCREMENTAL,
    LEVEL,
    MARGIN,
    NEEDS,
    NO_GAIN,
    RETENTION,
    REVENUE,
    UNKNOWN,
    Customers,
    calibration_error,
    target,
    within,
)
from controltower.errors import BadSpec


def people(count: int, **columns: object) -> Customers:
    ids = np.array([f"c{n:05}" for n in range(count)])
    return Customers(ids, **{name: np.array(values, dtype=float) for name, values in columns.items()})


def test_criteos_revenue_example() -> None:
    """80 % at ₩100,000 ranks before 80 % at ₩60,000."""
    made = target(REVENUE, people(2, p=[0.8, 0.8], basket=[60_000, 100_000]))
    assert made.customer_ids.tolist() == ["c00001", "c00000"]
    assert made.expected == pytest.approx([80_000, 48_000]) and made.result.expected == pytest.approx(128_000)


def test_criteos_margin_example() -> None:
    """Margins of ₩60,000 / ₩30,000 / ₩25,000 rank in that order although prices rank otherwise."""
    prices, margins = np.array([150_000.0, 300_000.0, 500_000.0]), np.array([60_000.0, 30_000.0, 25_000.0])
    some = people(3, p=[0.5] * 3, basket=prices, margin_rate=margins / prices)
    by_margin, by_price = target(MARGIN, some), target(REVENUE, some)
    assert by_margin.positions.tolist() == [0, 1, 2] and by_price.positions.tolist() == [2, 1, 0]
    assert by_margin.expected == pytest.approx(margins / 2)


@pytest.mark.parametrize("goal", [CLICKS, CONVERSIONS, ACQUIRE, RETENTION])
def test_the_likeliest_come_first_and_equal_ones_by_id(goal: str) -> None:
    made = target(goal, people(4, p=[0.2, 0.5, 0.2, np.nan]), size=2)
    assert made.customer_ids.tolist() == ["c00001", "c00000"]
    assert made.result.expected == pytest.approx(0.7) and made.left_out == {UNKNOWN: 1}


def test_what_is_at_stake_counts_for_retention() -> None:
    made = target(RETENTION, people(2, p=[0.9, 0.5], value=[10, 100]))
    assert made.positions.tolist() == [1, 0] and made.result.expected == pytest.approx(59)


def test_who_isnt_changed_for_the_better_isnt_written_to() -> None:
    made = target(INCREMENTAL, people(4, uplift=[0.01, -0.02, 0.05, 0.0], p=[0.9, 0.9, 0.1, 0.1]))
    assert made.positions.tolist() == [2, 0] and made.left_out == {NO_GAIN: 2}
    assert made.result.low < 0 < made.result.high, "an effect may turn out below 0"


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_says_what_it_needs(goal: str) -> None:
    whole = {"p": [0.1], "basket": [5.0], "margin_rate": [0.4], "uplift": [0.02]}
    assert target(goal, people(1, **{name: whole[name] for name in NEEDS[goal]})).result.size == 1
    with pytest.raises(BadSpec, match="needs"):
        target(goal, people(1))
    nobody = target(goal, people(0, **{name: [] for name in whole}), size=5)
    assert (nobody.result.size, nobody.result.expected, nobody.curve) == (0, 0.0, [])


def test_unknown_goals_and_numbers_below_0_are_refused() -> None:
    with pytest.raises(BadSpec, match="no goal"):
        target("fame", people(1, p=[0.5]))
    for more in ({"size": -1}, {"budget": -1.0}, {"cost": -1.0}):
        with pytest.raises(BadSpec, match="below 0"):
            target(CLICKS, people(1, p=[0.5]), **more)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="differ in length"):
        people(2, p=[0.5])


def test_a_budget_pays_for_so_many() -> None:
    some = people(4, p=[0.4, 0.3, 0.2, 0.1])
    assert target(CLICKS, some, budget=0.3, cost=0.1).result.size == 3, "three tenths pay for three"
    assert target(CLICKS, some, budget=0.05, cost=0.1).result.size == 0
    assert target(CLICKS, some, size=1, budget=9, cost=0.1).result.cost == pytest.approx(0.1)
    dear = target(CLICKS, some, budget=3, cost=np.array([10.0, 1, 1, 0]))
    assert dear.positions.tolist() == [3, 1, 2], "what is free, then what brings most by cost"
    assert dear.result.cost == pytest.approx(2)


def test_an_unknown_spread_leaves_nobody_out() -> None:
    some = people(2, p=[0.5, 0.5], basket=[10, 10], basket_sd=[1, np.nan])
    made = target(REVENUE, some)
    assert made.result.size == 2 and made.result.low < 10 < made.result.high
    alone = target(INCREMENTAL, people(1, uplift=[0.1], uplift_error=[np.nan], p=[np.nan]))
    assert alone.result.low < 0 < alone.result.high
    with pytest.raises(ValueError, match="probability"):
        people(1, p=[1.2])


def test_the_curve_rises_and_ends_with_all() -> None:
    p = np.random.default_rng(1).beta(1, 20, 1000)
    made = target(CONVERSIONS, people(1000, p=p), size=10, cost=2.0, calibration=0.1)
    assert [point.size for point in made.curve][:4] == [10, 20, 50, 100] and made.curve[-1].size == 1000
    totals = [point.expected for point in made.curve]
    assert totals == sorted(totals) and totals[-1] == pytest.approx(p.sum())
    assert made.curve[0] == made.result and made.result.cost == 20
    each = np.divide(totals, [point.size for point in made.curve])
    assert (np.diff(each) < 0).all(), "the best come first"


def test_the_interval_covers_what_comes() -> None:
    """By chance alone, and with a model whose totals are off by 15 % or so."""
    rng = np.random.default_rng(2)
    p, basket = rng.beta(1, 15, 2000), rng.lognormal(3, 0.4, 2000)
    spread = 0.5 * basket
    for off in (0.0, 0.15):
        made = target(REVENUE, people(2000, p=p, basket=basket, basket_sd=spread), size=500, calibration=off)
        who = made.positions
        came = []
        for _ in range(600):
            real = np.clip(p[who] * (1 + rng.normal(0, off)), 0, 1) if off else p[who]
            amount = rng.gamma(4, basket[who] / 4)  # whose spread is half its mean
            came.append(float(((rng.random(500) < real) * amount).sum()))
        inside = (np.array(came) > made.result.low) & (np.array(came) < made.result.high)
        assert inside.mean() == pytest.approx(LEVEL, abs=0.03)


def test_the_interval_of_an_effect_covers_the_difference() -> None:
    rng = np.random.default_rng(3)
    p, uplift = np.full(3000, 0.1), np.full(3000, 0.03)
    made = target(INCREMENTAL, people(3000, p=p, uplift=uplift))
    came = [float((rng.random(3000) < 0.13).sum() - (rng.random(3000) < 0.1).sum()) for _ in range(600)]
    inside = (np.array(came) > made.result.low) & (np.array(came) < made.result.high)
    assert inside.mean() == pytest.approx(LEVEL, abs=0.03)


def test_calibration_error_is_what_chance_doesnt_explain() -> None:
    rng = np.random.default_rng(4)
    predicted = np.full(400, 1000.0)
    by_chance = rng.poisson(1000, 400)
    off = rng.poisson(1000 * (1 + rng.normal(0, 0.2, 400)))
    assert calibration_error(predicted, by_chance, predicted) < 0.02
    assert calibration_error(predicted, off, predicted) == pytest.approx(0.2, abs=0.02)
    assert np.isnan(calibration_error([], [], []))


def test_chances_within_other_days() -> None:
    known = {7.0: np.array([0.1, 0.3]), 28.0: np.array([0.3, 0.2])}
    assert within(known, 7) == pytest.approx([0.1, 0.3])
    assert within(known, 28) == pytest.approx([0.3, 0.3]), "it never falls"
    assert within(known, 3.5) == pytest.approx(1 - np.sqrt([0.9, 0.7]))
    assert within(known, 14)[0] == pytest.approx(1 - 0.9 * (0.7 / 0.9) ** (1 / 3))
    assert within(known, 49)[0] == pytest.approx(1 - 0.7 * (0.7 / 0.9))
    assert (np.diff([within(known, d)[0] for d in range(1, 60)]) > 0).all()
    with pytest.raises(ValueError, match="days above 0"):
        within(known, 0)


def test_the_uplifts_error_is_everybodys_together() -> None:
    """If a message does less than was learned it does so for all: the interval doesn't shrink with their number."""
    made = target(INCREMENTAL, people(10_000, p=[0.1] * 10_000, uplift=[0.02] * 10_000, uplift_error=[0.01] * 10_000))
    assert made.result.expected == pytest.approx(200)
    assert (made.result.high - made.result.low) / 2 == pytest.approx(
        1.96 * np.hypot(100, np.sqrt(10_000 * 0.1956)), rel=0.01
    )


def test_what_is_expected_until_each_rank() -> None:
    made = target(CONVERSIONS, people(50, p=np.linspace(0.01, 0.5, 50)), size=20, calibration=0.1)
    assert made.so_far.shape == (20, 3) and made.so_far[-1].tolist() == [
        made.result.expected, made.result.low, made.result.high
    ]  # fmt: skip
    assert (
        made.so_far[:, 0] == pytest.approx(np.cumsum(made.expected)) and (np.diff(made.so_far, axis=0)[:, 2] > 0).all()
    )
