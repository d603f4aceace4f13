"""One suite that every recommender passes; a new subclass is found by itself."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from controltower.models.recommend import algorithms, choose, kernels
from controltower.models.recommend.algorithms.next_item import NextItem
from controltower.models.recommend.base import Recommender, Scorer, first_distinct
from controltower.models.recommend.blend import Blend
from controltower.models.recommend.interactions import ORDER, VIEW, Interactions, Weights, from_arrays
from controltower.models.recommend.pairs import days_of_activity
from controltower.models.recommend.reasons import explain
from controltower.profiles.portable import DAY
from implicit.nearest_neighbours import BM25Recommender, TFIDFRecommender
from models.conftest import GROUPS, NOW, PER_GROUP, planted


def every(kind: type[Recommender]) -> Iterator[type[Recommender]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from every(sub)


for module in pkgutil.iter_modules(algorithms.__path__):
    importlib.import_module(f"{algorithms.__name__}.{module.name}")
OURS = (k for k in set(every(Recommender)) if k.__module__.startswith("controltower") and not inspect.isabstract(k))
EVERY = sorted(OURS, key=lambda kind: kind.name)


def fitted_here(kind: type[Recommender]) -> object:
    """The kind as a parameter of a test; skipped where what teaches it isn't installed."""
    why = kind.missing() if issubclass(kind, Scorer) else None
    return pytest.param(kind, id=kind.name, marks=pytest.mark.skip(reason=why) if why else ())


each = pytest.mark.parametrize("kind", [fitted_here(kind) for kind in EVERY])
K = 6


def test_all_can_be_loaded_by_name() -> None:
    assert set(choose.KINDS) == set(EVERY)
    assert len({kind.name for kind in EVERY}) == len(EVERY)


@each
@pytest.mark.parametrize("repeat", [True, False])
def test_k_distinct_products_in_order(kind: type[Recommender], repeat: bool, interactions: Interactions) -> None:
    people = interactions.customer_ids
    ranking = kind().fit(interactions).recommend(interactions, people, K, repeat=repeat)
    assert len(ranking.rank) == K * len(people)
    assert ranking.rank.reshape(-1, K).tolist() == [list(range(1, K + 1))] * len(people)
    assert (ranking.customer.reshape(-1, K) == np.arange(len(people))[:, None]).all()
    assert all(len(set(row)) == K for row in ranking.product.reshape(-1, K).tolist())
    assert (np.diff(ranking.score.reshape(-1, K), axis=1) <= 0).all()
    if not repeat:
        bought = np.asarray(interactions.ordered[ranking.customer, ranking.product]).ravel()
        assert not bought.any()


@each
def test_filters_are_kept_even_if_fewer_remain(kind: type[Recommender], interactions: Interactions) -> None:
    model = kind().fit(interactions)
    allowed = np.zeros(len(interactions.product_ids), dtype=bool)
    allowed[[2, 3, 11]] = True
    ranking = model.recommend(interactions, interactions.customer_ids[:4], K, repeat=True, allowed=allowed)
    assert ranking.rank.tolist() == [1, 2, 3] * 4
    assert set(ranking.product.tolist()) == {2, 3, 11}
    nothing = model.recommend(interactions, interactions.customer_ids[:4], K, repeat=True, allowed=allowed & False)
    assert not len(nothing.rank)


@each
def test_the_unknown_get_popular_products(kind: type[Recommender], interactions: Interactions) -> None:
    model = kind().fit(interactions)
    ranking = model.recommend(interactions, np.array(["zz", "c001", "new"]), K, repeat=True)
    lists = ranking.product.reshape(-1, K)
    popular = np.argsort(-model.popularity, kind="stable")[:K]
    assert (lists[0] == popular).all() and (lists[2] == popular).all()
    assert set(ranking.part.reshape(-1, K)[0]) <= {"popularity", "segment_popularity"}
    assert len(model.recommend(interactions, np.array([], dtype=np.str_), K, repeat=True).rank) == 0


@each
def test_saved_and_loaded_it_says_the_same(kind: type[Recommender], interactions: Interactions, tmp_path: Path) -> None:
    model = kind(kind.Config(seed=3)).fit(interactions)
    model.save(tmp_path)
    again = kind.load(tmp_path)
    assert again.config == model.config
    one, two = (m.recommend(interactions, interactions.customer_ids, K, repeat=True) for m in (model, again))
    assert (one.product == two.product).all() and (one.score == two.score).all()


@each
def test_the_same_training_gives_the_same_bytes(
    kind: type[Recommender], interactions: Interactions, tmp_path: Path
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        kind().fit(interactions).save(tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert files
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


@each
def test_ids_mean_nothing(kind: type[Recommender]) -> None:
    """Other names for customers and products give the same figure, but for the draw of first factors and of ties."""

    def figure(data: Interactions) -> float:
        found = choose.split(data)
        assert found is not None
        ranking = kind().fit(found.history).recommend(found.history, data.customer_ids, K, repeat=True)
        hits = np.asarray(found.future[ranking.customer, ranking.product]).ravel()
        return float(hits.sum() / found.future.nnz)

    plain = figure(planted(customers=300))
    renamed = figure(planted(customers=300, rename=np.random.default_rng(4)))
    assert renamed == pytest.approx(plain, abs=0.08)


@each
def test_a_history_over_other_products_is_refused(kind: type[Recommender], interactions: Interactions) -> None:
    other = from_arrays(
        interactions.customer_ids,
        interactions.product_ids[1:],
        *(np.zeros(0, dtype=t) for t in (str, str, int, int)),
        0,
    )
    with pytest.raises(ValueError, match="product_ids"):
        kind().fit(interactions).recommend(other, interactions.customer_ids, K, repeat=True)


@each
def test_no_interactions_at_all(kind: type[Recommender], interactions: Interactions) -> None:
    empty = interactions.where(np.zeros(len(interactions), dtype=bool))
    ranking = kind().fit(empty).recommend(empty, empty.customer_ids[:2], K, repeat=True)
    assert ranking.product.tolist() == [0, 1, 2, 3, 4, 5] * 2


TASTE = (
    "als", "bpr", "blend", "own_history", "next_item", "item_knn", "bm25", "ease", "session_knn", "user_knn", "sasrec",
)  # fmt: skip


@pytest.mark.parametrize("kind", [fitted_here(k) for k in EVERY if k.name in TASTE])
def test_taste_is_found(kind: type[Recommender], interactions: Interactions) -> None:
    repeat = kind.name == "own_history"
    ranking = kind().fit(interactions).recommend(interactions, interactions.customer_ids, 1, repeat=repeat)
    assert (ranking.product // PER_GROUP == ranking.customer % GROUPS).mean() > 0.9


def test_neighbours_know_what_comes_next() -> None:
    """Everyone buys a, then b, then c: after b comes c rather than a, and it is b that says so."""
    people = np.array([f"c{i:02}" for i in range(40)])
    who = np.repeat(people, 3)
    when = NOW - np.tile([30, 20, 10], 40) * DAY
    data = from_arrays(
        people, np.array(["a", "b", "c"]), who, np.tile(["a", "b", "c"], 40), when, np.zeros(120, int), NOW
    )
    fresh = np.array(["new"])
    history = from_arrays(
        fresh, data.product_ids, fresh, np.array(["b"]), np.array([NOW - DAY]), np.array([ORDER]), NOW
    )
    model = NextItem().fit(data)
    ranking = model.recommend(history, fresh, 2, repeat=False)
    assert model.product_ids[ranking.product].tolist() == ["c", "a"]
    reasons = explain(model, history, history.rows_of(fresh), ranking)
    assert reasons.code.tolist() == ["because_you_bought"] * 2
    assert model.product_ids[reasons.product].tolist() == ["b", "b"]


def test_reasons_name_what_the_customer_did(interactions: Interactions) -> None:
    person = interactions.customer_ids[:1]
    history = from_arrays(
        person, interactions.product_ids, np.repeat(person, 2), np.array(["p00", "p01"]),
        np.array([NOW - DAY, NOW - DAY]), np.array([ORDER, VIEW]), NOW,
    )  # fmt: skip
    model = Blend().fit(interactions)
    ranking = model.recommend(history, person, 12, repeat=True)
    code = dict(
        zip(
            model.product_ids[ranking.product].tolist(),
            explain(model, history, history.rows_of(person), ranking).code,
            strict=True,
        )
    )
    assert code["p00"] == "buy_again"
    assert code["p01"] == "viewed_before"
    known = {"buy_again", "viewed_before", "because_you_viewed", "because_you_bought", "similar_taste", "popular"}
    assert set(code.values()) <= known


def test_days_of_activity_start_at_each_customer() -> None:
    people = np.array(["a", "b"])
    when = np.array([1, 1, 5, 9, 9]) * DAY
    data = from_arrays(people, np.array(["p"]), np.array(list("aaabb")), np.repeat("p", 5), when, np.zeros(5, int), NOW)
    assert days_of_activity(data).tolist() == [0, 0, 1, 0, 0]


def test_the_best_of_sparse_scores() -> None:
    """Equals in the order of products; neither what is barred, nor what isn't allowed, nor what scores nothing."""
    scores = sp.csr_matrix(np.array([[1.0, 3, 3, 3, 2, 0], [0, 0, 0, 0, 0, 0], [5, -1, 4, 0, 0, 6]], np.float32))
    own = sp.csr_matrix(np.array([[0, 0, 1, 0, 0, 0], [0] * 6, [0] * 6], np.float32))
    allowed = np.array([True, True, True, True, True, False])
    products, values = kernels.best(
        scores.indptr, scores.indices, scores.data, own.indptr, own.indices, allowed, 3
    )  # fmt: skip
    assert products.tolist() == [[1, 3, 4], [-1, -1, -1], [0, 2, -1]]
    assert values.tolist() == [[3, 3, 2], [0, 0, 0], [5, 4, 0]]


def test_lists_are_joined_without_doubles() -> None:
    products, columns = first_distinct(np.array([[4, 2, 4, -1, 2, 7, 9], [-1, -1, 3, 3, -1, -1, -1]]), 3)
    assert products.tolist() == [[4, 2, 7], [3, -1, -1]]
    assert columns.tolist() == [[0, 1, 5], [2, 0, 0]]


@pytest.mark.filterwarnings("ignore::implicit.utils.ParameterWarning")
@pytest.mark.parametrize(("name", "library"), [("item_knn", TFIDFRecommender), ("bm25", BM25Recommender)])
def test_products_that_nobody_took_are_left_out_and_change_nothing(name: str, library: type[TFIDFRecommender]) -> None:
    """The same as the library's own recommender finds on the matrix of all products."""
    data = planted(customers=90)
    at = np.sort(np.random.default_rng(3).choice(500, data.shape[1], replace=False))
    ids = np.array([f"q{i:03}" for i in range(500)])
    data = replace(data, product_ids=ids, product=at[data.product], _matrices={})
    matrix = data.matrix(Weights()).astype(float)
    one = library(K=201, num_threads=1, **({"K1": 1.2, "B": 0.5} if name == "bm25" else {}))
    one.fit(matrix, show_progress=False)
    wanted = one.similarity.toarray()
    np.fill_diagonal(wanted, 0)
    wanted /= wanted.max()
    if name == "item_knn":
        seen = np.asarray(matrix.sum(axis=0)).ravel()
        trust = np.sqrt(seen / (seen + 20.0))
        wanted *= trust * trust[:, None]
    found = choose.ALL[name]().fit(data).similarity
    assert found.nnz > 100
    np.testing.assert_allclose(found.toarray(), wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ["item_knn", "bm25", "next_item", "markov"])
def test_of_very_many_products_fewer_pairs_each_are_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted(customers=300)
    many = choose.ALL[name]().fit(data).similarity
    monkeypatch.setattr("controltower.models.recommend.item_to_item.MOST_PAIRS", 2 * data.shape[1])
    few = choose.ALL[name]().fit(data).similarity
    assert np.diff(few.indptr).max() <= 2 < np.diff(many.indptr).max()
    assert (few.max(axis=1) != many.max(axis=1)).nnz == 0


def test_a_bot_counts_with_its_latest_entries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("controltower.models.recommend.interactions.MOST_ENTRIES", 3)
    who = np.array(["bot"] * 10 + ["c"] * 2)
    when = NOW - np.r_[np.arange(10), 5, 6] * DAY
    data = from_arrays(
        np.array(["bot", "c"]), np.array(["p"]), who, np.repeat("p", 12), when, np.full(12, ORDER), NOW
    )  # fmt: skip
    assert np.bincount(data.customer).tolist() == [3, 2]
    assert data.second[:3].tolist() == (NOW - np.array([2, 1, 0]) * DAY).tolist()
    assert "over 3 entries, of which only the latest count: 1" in caplog.text
    assert data.capped == 1 and choose.train(data, np.ones(1, dtype=bool))[0].rows["customers_capped"] == 1
