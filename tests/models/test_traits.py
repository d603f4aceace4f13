"""Traits on planted histories, whose truth is known: learned where there is something, never worse than the prior."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from controltower.models.base import Outcome
from controltower.models.publication import Serving
from controltower.models.traits import ages, items, said, training
from controltower.models.traits.items import Histories
from controltower.models.traits.model import KINDS, LENGTHS, ItemsLogistic, Prior, Trait, best, length_of
from models.test_registry import card
from threadpoolctl import threadpool_limits

NOW = datetime(2026, 6, 15, tzinfo=UTC)
GOODS = {f"p:{n:02}": [f"p:{n:02}", f"c:{'hers' if n < 20 else 'his'}", "c:all"] for n in range(40)}


def planted(customers: int, seed: int, own: float) -> tuple[Histories, np.ndarray]:
    """Customers, 0 (70 %) or 1, with up to 30 items, of which the share `own` are of their own kind."""
    rng = np.random.default_rng(seed)
    gender = (rng.random(customers) < 0.3).astype(int)
    number = rng.integers(0, 31, customers)
    who = np.repeat(np.arange(customers), number)
    theirs = np.where(rng.random(len(who)) < own, gender[who], 1 - gender[who])
    products = [f"p:{n:02}" for n in (theirs * 20 + rng.integers(0, 20, len(who))).tolist()]
    once = sorted({(int(w), p): n for n, (w, p) in enumerate(zip(who, products, strict=True))}.items())
    ids = np.array([f"c{n:05}" for n in range(customers)])
    customer, item = (pa.array(column) for column in zip(*((f"c{w:05}", p) for (w, p), _ in once), strict=True))
    ids, order = np.array([f"c{n:05}" for n in range(customers)]), np.array([n for _, n in once])
    return items.from_arrays(ids, customer, item, order, GOODS), gender


def outcome_of(customers: int, seed: int, own: float) -> Outcome:
    """A tenth told in each of the last three times four weeks; everybody's shares served before."""
    histories, gender = planted(customers, seed, own)
    place = np.arange(customers) / customers
    past = [
        training.ToldBy(date, place < 1 - (n + 1) / 10, (place >= 1 - (n + 1) / 10) & (place < 1 - n / 10))
        for n, date in enumerate(training.past_dates(NOW))
    ]
    usual = Prior().fit(histories, gender, said.GENDERS)
    with threadpool_limits(limits=1):
        return training.train("gender", histories, gender, NOW, past, lambda _: Serving(card("gender", -999), usual))


def trained(customers: int, seed: int, own: float) -> Trait:
    model = outcome_of(customers, seed, own).model
    assert isinstance(model, Trait)
    return model


def gains(model: Trait, own: float) -> list[float]:
    """Log loss gained over the prior on customers whom the model doesn't know, by number of items."""
    histories, gender = planted(4000, 99, own)
    found = []
    for most in LENGTHS.tolist():
        some = histories.first(most)
        p = model.predict(some)
        found.append(float(np.mean(np.log(p[np.arange(len(p)), gender]) - np.log(model.prior[gender]))))
    return found


def test_what_items_tell_is_learned_and_more_items_tell_more() -> None:
    outcome = outcome_of(600, 1, own=0.65)
    model, rows, table = outcome.model, outcome.details["backtest"], outcome.details["calibration"]["table"]
    assert [(row["as_of"], row["customers"]) for row in rows] == [(d.isoformat(), 60) for d in training.past_dates(NOW)]
    assert np.mean([row["log_loss"] - row["baseline_log_loss"] for row in rows]) < -0.01
    assert rows[0]["in_service_log_loss"] == pytest.approx(rows[0]["baseline_log_loss"], abs=0.01)
    assert outcome.details["in_service"]["dates"] == 3 and outcome.details["in_service"]["stays"] is False
    assert sum(row["customers"] for row in table) == 600 and table[0]["said"] < table[-1]["said"]
    assert table[0]["high"] < table[-1]["low"] and all(row["said"] <= row["high"] + 0.1 for row in table)
    assert outcome.details["drift"]["score_stability"] < 0.1, "all their items were there before"
    found = gains(model, own=0.65)
    assert isinstance(model, ItemsLogistic) and abs(found[0]) < 1e-9 and model.weights[0] == 0
    assert found == sorted(found) and found[1] > 0.01 and found[-1] > 0.15
    assert "c:hers" in model.vocabulary


@pytest.mark.parametrize("seed", range(6))
def test_items_that_tell_nothing_leave_the_prior(seed: int) -> None:
    assert min(gains(trained(150, seed, own=0.5), own=0.5)) > -0.005


def test_a_weight_that_does_not_gain_for_sure_is_none() -> None:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 40)
    prior = np.full((40, 2), 0.5)
    right = np.where(np.arange(2) == label[:, None], np.log(0.7), np.log(0.3))
    assert best(prior, right, label) > 1
    assert best(prior, np.where(rng.random(40)[:, None] < 0.55, right, right[:, ::-1]), label) == 0, "22 of 40 right"
    assert best(prior[:1], right[:1], label[:1]) == best(prior[:0], right[:0], label[:0]) == 0


def test_too_few_to_learn_from() -> None:
    histories, gender = planted(training.FEWEST - 1, 1, own=1.0)
    outcome = training.train("gender", histories, gender, NOW)
    assert isinstance(outcome.model, Prior) and not outcome.published and "too few" in outcome.why
    assert not outcome.model.tells(histories).any()
    columns = said.gender(outcome.model, histories)
    nobody = training.train("age_band", histories.of(np.arange(0)), np.arange(0), NOW)
    for told in (columns, said.age(nobody.model, histories), said.age(training.untaught("age_band"), histories)):  # type: ignore[arg-type]
        assert {column.null_count for column in told.values()} == {len(gender)}, "a prior tells nothing of anybody"


def test_a_model_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    histories, gender = planted(120, 1, own=0.8)
    model = ItemsLogistic().fit(histories, gender, said.GENDERS)
    model.weights = np.linspace(0, 1, len(LENGTHS))
    model.save(tmp_path)
    kept = next(kind for kind in KINDS if kind.name == model.name).load(tmp_path)
    assert np.array_equal(kept.predict(histories), model.predict(histories))
    some = pa.array(["p:00", "q:mine alone", "p:new"])
    rare, known = (
        items.from_arrays(np.array(["x"]), pa.array(["x"] * n), some[:n], np.arange(n), GOODS) for n in (3, 1)
    )
    assert np.array_equal(kept.raw(rare), kept.raw(known)), "what nobody else had tells nothing"


def test_words_that_few_have_are_not_kept() -> None:
    histories, gender = planted(60, 1, own=0.5)
    ids = histories.customer_ids
    own = [f"q:secret {'abcdefgh'[n // 8]}{'ijklmnop'[n % 8]}" for n in range(60)]  # everybody's, and their own
    keys = pa.array([*own, *["q:four"] * 4, *["q:five"] * 5])
    shared = items.from_arrays(ids, pa.array(np.r_[ids, ids[:4], ids[:5]]), keys, np.arange(69), {})
    assert len(shared.vocabulary) == 63
    assert ItemsLogistic().fit(shared, gender, said.GENDERS).vocabulary.tolist() == ["w:five", "w:secret"]


def test_histories_are_cut_where_they_were_then() -> None:
    found = items.from_arrays(
        np.array(["a", "b"]), pa.array(["a", "a", "b", "a"]), pa.array(["p:01", "p:02", "p:01", "q:tea"]),
        np.array([5, 3, 4, 9]), GOODS,
    )  # fmt: skip
    words = {w: n for n, w in enumerate(found.vocabulary.tolist())}
    assert found.lengths.tolist() == [3, 1] and length_of(np.array([0, 4, 20, 99])).tolist() == [0, 3, 6, 6]
    assert found.counts[0, words["c:all"]] == 2 and found.counts[0, words["w:tea"]] == 1
    first = found.first(1)
    assert first.lengths.tolist() == [1, 1] and first.counts[0, words["p:02"]] == 1
    assert found.until(datetime.fromtimestamp(5, UTC)).lengths.tolist() == [2, 1]
    assert found.of(np.array([1])).counts.toarray().tolist() == found.counts[1].toarray().tolist()


def test_ages() -> None:
    assert [ages.BANDS[n] for n in ages.band_of(np.array([14, 19, 20, 34, 35, 64, 65, 89]))] == [
        "under_20", "under_20", "20_24", "30_34", "35_39", "60_64", "65_up", "65_up"
    ]  # fmt: skip
    shares = ages.within(np.array([33] * 50 + [24] * 10))
    assert np.bincount(ages.band_of(ages.YEARS), shares) == pytest.approx(np.ones(len(ages.BANDS)))
    bands = np.full((1, len(ages.BANDS)), 0.01)
    bands[0, ages.band_of(np.array([33]))] = 0.9
    years = ages.by_year(bands, shares)
    assert years.sum() == pytest.approx(1) and ages.YEARS[years.argmax()] == 33
    middle, low, high = (int(found[0]) for found in ages.summary(years))
    assert low <= 32 <= middle <= 33 <= high <= 36


def test_an_age_that_nobody_told_keeps_the_little_of_the_prior() -> None:
    histories, gender = planted(200, 1, own=0.9)
    model = ItemsLogistic().fit(histories, ages.band_of(np.where(gender, 33, 47)), ages.BANDS)
    model.weights[1:] = 1.0
    p = model.predict(histories)
    assert p.sum(axis=1) == pytest.approx(1) and (p > 0).all()
    assert p[:, ages.band_of(np.array([70]))].max() < 0.02
