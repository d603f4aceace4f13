"""The hour a message goes at: allowed hours, exploration, its probabilities, and its worth in simulated shops."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from controltower.data.lake import Lake
from controltower.models.base import Outcome
from controltower.models.send_time import evidence, exploring, training
from controltower.models.send_time.evidence import Hours
from controltower.models.send_time.exploring import NONE, Chosen, choose, places, scores
from controltower.models.send_time.model import EveryonesWeek
from controltower.settings import Settings
from controltower.simulation.parameters import Parameters
from controltower.simulation.shop import generate
from hypothesis import given
from hypothesis import strategies as st
from support.shop_tables import SHOP

SHARE = 0.05
DAYTIME = np.isin(np.arange(24), range(8, 21))
NOW = datetime.fromisoformat("2026-06-05T07:00:00+09:00")


def people(n: int) -> list[str]:
    return [f"c{i}" for i in range(n)]


def peaks(n: int) -> np.ndarray:
    """Scores (n, 24), best at an hour that goes round."""
    away = np.abs((np.arange(24)[None] - np.arange(n)[:, None] % 24 + 12) % 24 - 12)
    return 12.0 - away


def test_the_best_allowed_hour_is_chosen() -> None:
    chosen = choose(peaks(48), DAYTIME, 0.0, "a:1", people(48))
    assert DAYTIME[chosen.hour].all() and not chosen.explored.any() and (chosen.probability == 1).all()
    assert chosen.hour[8:21].tolist() == list(range(8, 21))
    assert set(chosen.hour[3:8]) == {8} and set(chosen.hour[21:24]) == {20}  # the nearest around the clock
    assert chosen.hour[2] == 8, "of equal hours the first"


def test_the_same_message_gets_the_same_hour_whoever_goes_along() -> None:
    all_of_them = choose(peaks(500), DAYTIME, 0.3, "a:1", people(500))
    some = choose(peaks(500)[100:], DAYTIME, 0.3, "a:1", people(500)[100:])
    assert np.array_equal(all_of_them.hour[100:], some.hour)
    other = choose(peaks(500), DAYTIME, 0.3, "a:2", people(500))
    assert not np.array_equal(all_of_them.explored, other.explored)
    place = places("k", people(9))
    assert ((place >= 0) & (place < 1)).all()


@given(share=st.floats(0, 1), allowed=st.lists(st.booleans(), min_size=24, max_size=24), key=st.text())
def test_probabilities_are_those_of_the_hours(share: float, allowed: list[bool], key: str) -> None:
    chosen = choose(peaks(40), np.array(allowed), share, key, people(40))
    number = sum(allowed)
    if not number:
        assert (chosen.hour == NONE).all() and (chosen.probability == 0).all() and not chosen.explored.any()
        return
    assert np.array(allowed)[chosen.hour].all()
    best = choose(peaks(40), np.array(allowed), 0.0, key, people(40)).hour
    likely = np.where(chosen.hour == best, 1 - share + share / number, share / number)
    assert chosen.probability == pytest.approx(likely)


def test_random_hours_are_spread_evenly_and_the_share_is_kept() -> None:
    chosen = choose(peaks(60_000), DAYTIME, SHARE, "a:1", people(60_000))
    assert chosen.explored.mean() == pytest.approx(SHARE, abs=0.004)
    counts = np.bincount(chosen.hour[chosen.explored], minlength=24)
    assert not counts[~DAYTIME].any()
    expected = chosen.explored.sum() / DAYTIME.sum()
    assert ((counts[DAYTIME] - expected) ** 2 / expected).sum() < 33  # chi-square, 12 degrees: 0.1 %


def test_over_all_places_each_hour_comes_as_often_as_its_probability_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly, without luck: the places are every one of an even grid, and all messages have the same best hour."""
    n = 13 * 400
    monkeypatch.setattr(exploring, "places", lambda key, customers: (np.arange(n) + 0.5) / n)
    chosen = choose(np.tile(peaks(13)[12], (n, 1)), DAYTIME, 0.25, "a:1", people(n))
    often = np.bincount(chosen.hour, minlength=24) / n
    likely = np.where(DAYTIME, 0.25 / 13, 0.0) + 0.75 * (np.arange(24) == 12)
    assert often == pytest.approx(likely)
    assert dict(zip(chosen.hour.tolist(), chosen.probability.tolist(), strict=True)) == pytest.approx(
        {hour: likely[hour] for hour in np.flatnonzero(DAYTIME).tolist()}
    )
    brought = np.arange(24.0)[chosen.hour]
    assert estimated(np.full(n, 15), chosen, brought)[0] == pytest.approx(15)
    assert brought[chosen.explored].mean() == pytest.approx(14)


def test_each_customer_may_have_hours_of_their_own() -> None:
    allowed = np.zeros((3, 24), bool)
    allowed[0, 9], allowed[1, 9:12] = True, True
    chosen = choose(peaks(3), allowed, 1.0, "a:1", people(3))
    assert chosen.hour[0] == 9 and chosen.hour[1] in (9, 10, 11) and chosen.hour[2] == NONE
    assert chosen.probability == pytest.approx([1, 1 / 3, 0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        choose(peaks(3), allowed, 1.5, "a:1", people(3))


def test_scores_are_those_of_hours_of_the_week_which_is_a_circle() -> None:
    week = np.zeros((2, 168), np.uint8)
    week[:, 0], week[1, 24 + 9] = 100, 255
    hours = np.array([167, 0, 1, 2, 24 + 8, 24 + 9])
    assert scores(week, hours).tolist() == [[100, 100, 100, 0, 0, 0], [100, 100, 100, 0, 255, 255]]
    full = np.full((1, 168), 255, np.uint8)
    assert scores(full, hours).tolist() == [[765] * 6]


def test_hours_may_follow_each_other_over_days() -> None:
    chosen = choose(peaks(72)[:, np.r_[8:21, 8:21]], np.ones(26, bool), 0.5, "a:1", people(72))
    assert (chosen.best < 13).all(), "of equal hours the first"
    assert chosen.hour.max() > 13 and chosen.probability.min() == pytest.approx(0.5 / 26)


def mean(values: np.ndarray) -> tuple[float, float]:
    """With its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def estimated(hours: np.ndarray, chosen: Chosen, outcome: np.ndarray) -> tuple[float, float]:
    """What a rule that says `hours` would have brought a message, by the probabilities that were logged."""
    return mean(outcome * (hours == chosen.hour) / chosen.probability)


def test_what_other_rules_would_have_brought_is_estimated_without_bias() -> None:
    """Over many campaigns, estimates by inverse propensity lie round the truth, and their intervals hold it."""
    rng = np.random.default_rng(1)
    n, rounds = 3000, 300
    chance = 0.1 + 0.2 * np.exp(-0.5 * ((np.arange(24)[None] - rng.normal(14, 4, n)[:, None]) / 3) ** 2)
    table = chance + rng.normal(0, 0.05, chance.shape)  # what the model thinks
    best = np.where(DAYTIME, table, -1).argmax(axis=1)
    rules = {"served": best, "noon": np.full(n, 12)}
    true = {name: chance[np.arange(n), hour].mean() for name, hour in rules.items()}
    true["random"] = chance[:, DAYTIME].mean()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in true}
    for number in range(rounds):
        chosen = choose(table, DAYTIME, 0.2, f"campaign:{number}", people(n))
        came = (rng.random(n) < chance[np.arange(n), chosen.hour]).astype(float)
        found["random"].append(mean(came[chosen.explored]))
        for name, hour in rules.items():
            found[name].append(estimated(hour, chosen, came))
    for name, estimates in found.items():
        value, error = np.array(estimates).T
        assert abs(value.mean() - true[name]) < 3 * value.std() / np.sqrt(rounds), name
        assert (np.abs(value - true[name]) < 1.96 * error).mean() > 0.9, name


class Simulated(NamedTuple):
    """`chance` (n, 24) of a mail being opened by when it comes; whose own hour isn't known is left out."""

    hours: Hours
    outcome: Outcome
    chance: np.ndarray
    known: np.ndarray


def simulated(folder: Path, own_hour_share: float, days: int = 90) -> Simulated:
    """A simulated shop of so many days, what is learned of its hours, and the truth."""
    opened = (NOW - timedelta(days=days)).date()
    parameters = Parameters.load(
        customers=1200, days=days, opened=opened, broken_share=0.0, own_hour_share=own_hour_share
    )
    generate(folder / "made", until=NOW, parameters=parameters, seed=3)
    (folder / "home").mkdir()
    (folder / "home" / "shop.yaml").write_text(SHOP.model_dump_json(), encoding="utf-8")
    lake = Lake(Settings(home=folder / "home", threads=1))
    for table in ("customers", "events", "orders", "order_lines"):
        lake.commit("all", {table: lake.write(table, pq.read_table(folder / "made" / f"{table}.parquet"))})
    truth = pd.read_parquet(folder / "made" / "truth" / "truth.parquet").set_index("customer_id")["hour"]
    ids = np.array(sorted(pq.read_table(folder / "made" / "customers.parquet")["customer_id"].unique().to_pylist()))
    with lake.read(NOW) as reading:
        rows = reading.arrow(evidence.active_hours(reading.table, NOW, SHOP))
    hours = Hours.of(rows.to_batches(), NOW, ids)
    hour = truth.reindex(ids).to_numpy()
    answers = parameters.answers
    person = answers.open_person * np.random.default_rng(3).normal(size=len(ids))
    turn = (np.arange(24)[None] + 0.5 - hour[:, None]) / 12 * np.pi
    odds = answers.open + person[:, None] + answers.open_hour * np.cos(turn)
    return Simulated(hours, training.train(hours, NOW), 1 / (1 + np.exp(-odds)), np.flatnonzero(~np.isnan(hour)))


def test_after_ninety_days_the_hours_are_worth_nearly_the_best(tmp_path: Path) -> None:
    shop = simulated(tmp_path, own_hour_share=Parameters.load().own_hour_share)
    assert shop.outcome.published
    chance, rows = shop.chance[shop.known], np.arange(len(shop.known))
    ours = chance[rows, shop.outcome.model.predict(shop.hours).hour[shop.known]].mean()
    everyone = chance[rows, EveryonesWeek().fit(shop.hours).predict(shop.hours).hour[shop.known]].mean()
    assert ours > 0.9 * chance.max(axis=1).mean()
    assert ours > max(everyone, chance.mean(axis=0).max()) * 1.08


def test_where_nobody_has_an_hour_none_is_claimed(tmp_path: Path) -> None:
    outcome = simulated(tmp_path, own_hour_share=0.0).outcome
    assert not outcome.published and isinstance(outcome.model, EveryonesWeek)
