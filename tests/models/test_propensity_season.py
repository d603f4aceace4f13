"""The base rate of the coming window: smoothed, with trend and season only where they would have told the past."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from controltower.models.propensity import season
from support.shop_tables import T

WEEK = 7


def purchases(weekly: list[float], customers: int = 2000) -> pd.DataFrame:
    """Everyone buys once long ago; then each week, oldest first, so large a share of them."""
    rng = np.random.default_rng(5)
    weeks = len(weekly)
    who, days = [np.arange(customers)], [np.full(customers, -WEEK * weeks - 1.0)]
    for i, share in enumerate(weekly):
        buyers = rng.choice(customers, round(share * customers), replace=False)
        who.append(buyers)
        days.append(WEEK * (i - weeks) + 7 * (0.01 + 0.98 * rng.random(len(buyers))))
    second = T.timestamp() + np.concatenate(days) * 86_400
    return pd.DataFrame({"customer_id": [f"c{i}" for i in np.concatenate(who)], "second": second.astype(np.int64)})


def test_rates_are_shares_of_those_known_when_the_window_began() -> None:
    found = season.rates(purchases([0.1, 0.2, 0.3]), T, 7)
    assert found.lag == 1 and found.window[:3] == pytest.approx([0.3, 0.2, 0.1])
    day = season.rates(purchases([0.1, 0.2, 0.3]), T, 1)
    assert day.window[0] == pytest.approx(0.3 / 7, rel=0.02), "the mean of seven days"
    month = season.rates(purchases([0.1] * 8), T, 28)
    assert month.lag == 4 and np.isnan(month.window[:3]).all(), "not closed yet"
    assert 0.3 < month.window[3] < 0.4


def test_noise_is_smoothed_and_nothing_else() -> None:
    noisy = (0.1 * np.exp(np.random.default_rng(1).normal(0, 0.2, 45))).tolist()
    coming = season.outlook(season.rates(purchases(noisy), T, 7))
    assert coming.level < 0.5 and coming.ahead == 0.0


def test_a_season_of_last_year_is_expected_again() -> None:
    year = 0.1 + 0.06 * np.sin(2 * np.pi * np.arange(52) / 13)
    rates = np.tile(year, 3)[:130].tolist()
    coming = season.outlook(season.rates(purchases(rates), T, 7))
    assert coming.said["season"] > 0
    assert coming.ahead == pytest.approx(np.log(year[130 % 52] / year[129 % 52]), abs=0.2)


def test_little_history_tells_nothing() -> None:
    for weekly in ([], [0.1], [0.1] * 4):
        coming = season.outlook(season.rates(purchases(weekly), T, 28))
        assert coming.ahead == 0.0 and "error" not in coming.said
    nobody = pd.DataFrame({"customer_id": pd.Series(dtype=str), "second": pd.Series(dtype=np.int64)})
    assert season.outlook(season.rates(nobody, T, 7)).ahead == 0.0
    assert season.weekdays(nobody, T).tolist() == [0.0] * 7


def test_days_of_the_week_are_counted_from_when_it_was_trained() -> None:
    """A shop that sells only on the third day after T, and weeks before and after."""
    third = [int((T + timedelta(days=2.5 - 7 * k)).timestamp()) for k in range(1, 9)]
    bought = pd.DataFrame({"customer_id": [f"c{i}" for i in range(8)] * 8, "second": np.repeat(third, 8)})
    factors = season.weekdays(bought, T)
    assert factors.argmax() == 2 and (np.delete(factors, 2) < -1).all()
    assert season.of_day(factors, T, T + timedelta(days=2)) == factors[2]
    assert season.of_day(factors, T.timestamp(), T - timedelta(days=5)) == factors[2]
