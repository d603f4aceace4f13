"""Who serves: whoever was best on what customers bought next; nobody unproven."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from controltower.models.recommend import choose
from controltower.models.recommend.interactions import ORDER, Interactions, from_arrays
from controltower.models.recommend.popularity import Popularity
from controltower.profiles.local_time import DAY
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
    assert "too few to judge" in new.why


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
