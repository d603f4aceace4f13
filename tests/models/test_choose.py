"""Who serves: whoever was best on what customers bought next; nobody unproven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from controltower.models.recommend import choose
from controltower.models.recommend.base import Recommender
from controltower.models.recommend.interactions import ORDER, Interactions, from_arrays
from controltower.models.recommend.popularity import Popularity
from controltower.profiles.portable import DAY
from models.conftest import NOW, planted


def everything(data: Interactions) -> np.ndarray:
    return np.ones(len(data.product_ids), dtype=bool)


def test_taste_beats_popularity_where_there_is_taste() -> None:
    data = planted(customers=200)
    repeat, new = choose.train(data, everything(data))
    assert (repeat.name, new.name) == (choose.REPEAT, choose.NEW)
    assert new.published and new.metrics["ndcg@10"] > new.baseline_metrics["ndcg@10"]
    assert new.model.name != "popularity"
    assert repeat.details["repeat_helps"]


def test_who_judges_has_no_say_in_the_choice() -> None:
    """The judging half buys other things after the split: the same candidates are best, only the judgement differs."""
    data = planted(customers=200)
    found = choose.split(data)
    assert found is not None
    half = choose.judges(data.customer_ids)
    assert 80 < half.sum() < 120
    other = (data.second >= found.start) & half[data.customer]
    moved = replace(data, product=np.where(other, (data.product + 11) % len(data.product_ids), data.product))
    for before, after in zip(choose.train(data, everything(data)), choose.train(moved, everything(data)), strict=True):
        assert after.details["chosen_among"] == before.details["chosen_among"]
        assert after.details["weights"] == before.details["weights"]
        assert after.metrics["ndcg@10"] < before.metrics["ndcg@10"]
        assert after.rows["customers_choosing"] + after.rows["customers_judging"] <= 200


def test_only_who_serves_says_whether_repeats_help(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = choose._repeat_helps

    def listening(found: choose.Split, before: Sequence[Recommender], allowed: np.ndarray) -> bool:
        asked.extend(model.name for model in before)
        return real(found, before, allowed)

    monkeypatch.setattr(choose, "_repeat_helps", listening)
    few = planted(customers=25)  # a best candidate is found, but by too few customers for it to serve
    outcomes = choose.train(few, everything(few))
    assert all(o.details["weights"] and not o.published for o in outcomes)
    assert asked == [o.model.name for o in outcomes] == ["own_count", "popularity"]


def test_noise_is_served_by_the_baseline() -> None:
    """Each customer buys drawn products once: where a candidate is no better than chance, popularity serves."""
    rng = np.random.default_rng(2)
    people, products = np.array([f"c{i:04}" for i in range(40)]), np.array([f"p{i}" for i in range(30)])
    data = from_arrays(
        people, products, rng.choice(people[:4], 40), rng.choice(products, 40), NOW - rng.integers(1, 99, 40) * DAY,
        np.full(40, ORDER), NOW,
    )  # fmt: skip
    _, new = choose.train(data, everything(data))
    assert not new.published
    assert isinstance(new.model, Popularity)
    assert "too few to choose and to judge" in new.why


def test_nothing_to_learn_from_still_serves(interactions: Interactions) -> None:
    empty = interactions.where(np.zeros(len(interactions), dtype=bool))
    for outcome in choose.train(empty, everything(empty)):
        assert not outcome.published
        assert outcome.window is None


def test_validation_sees_nothing_of_the_truth(interactions: Interactions) -> None:
    found = choose.split(interactions)
    assert found is not None
    assert found.history.second.max() < found.start <= interactions.second.max()
    assert found.future.nnz <= (interactions.second >= found.start).sum()


def test_ndcg_of_known_lists() -> None:
    truth = sp.csr_matrix(np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=np.float32))
    picked = np.array([[0, 1, 2], [0, 2, 1], [0, 1, 2]])
    assert choose.ndcg(picked, truth) == pytest.approx([1.0, 1 / np.log2(3), 0.0])
