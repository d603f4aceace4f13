"""The algorithms that ask neighbours: sessions, customers, and item frequencies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from controltower.models.recommend.algorithms.nearest import Bags, Neighbours
from controltower.models.recommend.algorithms.session_knn import SessionKnn, sessions
from controltower.models.recommend.algorithms.tifu_knn import TifuKnn
from controltower.models.recommend.algorithms.user_knn import UserKnn
from controltower.models.recommend.base import Recommender
from controltower.models.recommend.interactions import ORDER, VIEW, Interactions, from_arrays
from controltower.profiles.portable import DAY
from models.conftest import GROUPS, NOW, PER_GROUP, planted

KINDS: tuple[type[Recommender], ...] = (SessionKnn, UserKnn, TifuKnn)
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def taken(lines: dict[str, str], products: str = "abcdefgh", kind: int = ORDER) -> Interactions:
    """Customers and what they took, a letter a product, a space the next day; the last day is yesterday."""
    rows = [
        (who, product, NOW - (len(days) - i) * DAY)
        for who, line in lines.items()
        for days in [line.split(" ")]
        for i, day in enumerate(days)
        for product in day
    ]
    who, what, when = zip(*rows, strict=True) if rows else ((), (), ())
    return from_arrays(
        np.array(sorted(lines)), np.array(list(products)), np.array(who, dtype=np.str_), np.array(what, dtype=np.str_),
        np.array(when, dtype=np.int64), np.full(len(rows), kind), NOW,
    )  # fmt: skip


def dense(model: Recommender, history: Interactions, rows: np.ndarray) -> np.ndarray:
    width = len(history.product_ids)
    row, product = np.divmod(np.arange(len(rows) * width), width)
    return model.score(history, rows).at(row, product).reshape(len(rows), width)


@each
def test_taste_is_found(kind: type[Recommender], interactions: Interactions) -> None:
    ranking = kind().fit(interactions).recommend(interactions, interactions.customer_ids, 1, repeat=False)
    assert (ranking.part == kind.name).mean() > 0.8  # some bought all of their taste
    own = ranking.part == kind.name
    assert (ranking.product[own] // PER_GROUP == ranking.customer[own] % GROUPS).all()


@each
def test_neither_chunks_nor_order_nor_others_change_scores(kind: type[Recommender], interactions: Interactions) -> None:
    model = kind().fit(interactions)
    rows = np.r_[5, -1, np.arange(20), 5]
    together = dense(model, interactions, rows)
    assert (together == np.vstack([dense(model, interactions, rows[i : i + 1]) for i in range(len(rows))])).all()
    assert not together[1].any()
    assert (together[0] == together[-1]).all()
    assert (together >= 0).all() and together.max() < 2


@each
def test_names_change_no_scores(kind: type[Recommender]) -> None:
    plain, named = planted(), planted(rename=np.random.default_rng(3))
    one, two = (np.sort(dense(kind().fit(d), d, np.arange(120)).max(axis=1)) for d in (plain, named))
    assert one == pytest.approx(two, rel=1e-3)  # rows of the same second are drawn


@each
def test_it_comes_back_from_its_files(kind: type[Recommender], interactions: Interactions, tmp_path: Path) -> None:
    model = kind().fit(interactions)
    model.save(tmp_path)
    rows = np.arange(30)
    assert (dense(kind.load(tmp_path), interactions, rows) == dense(model, interactions, rows)).all()
    with np.load(tmp_path / "state.npz") as state:
        assert not [name for name in state.files if name != "product_ids" and state[name].dtype.kind not in "fi"]


@each
@pytest.mark.parametrize(
    "lines",
    [
        {},
        {"x": ""},
        {"x": "a"},
        {"x": "ab"},
        {"x": "a", "y": "a"},
        {"x": "a a a", "y": ""},
        {f"c{i}": "ab c" for i in range(9)},
    ],
    ids=["nobody", "empty", "one product", "one customer", "only the same", "again and again", "identical"],
)
def test_the_small_and_the_same(kind: type[Recommender], lines: dict[str, str]) -> None:
    data = taken(lines)
    model = kind().fit(data)
    scores = dense(model, data, np.r_[-1, np.arange(len(lines))])
    assert np.isfinite(scores).all() and (scores >= 0).all()
    assert not scores[:, 3:].any()  # nobody took d
    ranking = model.recommend(data, data.customer_ids, 3, repeat=True)
    assert len(ranking.rank) == 3 * len(lines)
    stranger = taken({"z": "h"})
    assert (dense(model, stranger, np.array([0]))[0] > 0).sum() == (kind is TifuKnn)  # its own h


@each
def test_one_product_only(kind: type[Recommender]) -> None:
    data = taken({"x": "a", "y": "a a"}, "a")
    assert kind().fit(data).recommend(data, data.customer_ids, 5, repeat=True).product.tolist() == [0, 0]


def test_sessions_go_on_as_others_did() -> None:
    """Who took a then b went on to c; who took b then a went on to d."""
    lines = {f"c{i}": "a b c" for i in range(8)} | {f"d{i}": "b a d" for i in range(8)}
    model = SessionKnn().fit(taken(lines))
    asked = taken({"x": "a b", "y": "b a"})
    scores = dense(model, asked, np.arange(2))
    assert scores[0, 2] > scores[0, 3] and scores[1, 3] > scores[1, 2]


def test_what_came_before_counts_less_than_what_followed() -> None:
    model = SessionKnn().fit(taken({f"c{i}": "a b c" for i in range(8)}))
    scores = dense(model, taken({"x": "b"}), np.array([0]))[0]
    assert scores[2] > scores[0] > 0


def test_a_session_ends_after_days_without_activity() -> None:
    data = taken({"x": "ab c" + " " * 9 + "ad a"})
    bags, last, owner = sessions(data, 7, 50)
    products = [data.product_ids[p].tolist() for p in np.split(bags.product, bags.indptr[1:-1])]
    assert [sorted(p) for p in products] == [["a", "b", "c"], ["a", "d"]]
    assert products[0][0] == "c" and products[1][0] == "a"  # the latest first
    assert bags.step.tolist() == [0, 1, 1, 0, 1]
    assert owner.tolist() == [0, 0] and last[1] == NOW - DAY
    assert sessions(data, 7, 2)[0].indptr.tolist() == [0, 2, 4]


def test_sessions_of_one_product_are_taken_together() -> None:
    apart = (" " * 20).join("abc")
    model = SessionKnn().fit(taken({f"c{i}": apart for i in range(5)}))
    assert dense(model, taken({"x": "a"}), np.array([0]))[0, 1] > 0


def test_an_old_session_counts_less() -> None:
    old = {f"o{i}": "ac" + " " * 300 for i in range(5)}
    model = SessionKnn().fit(taken(old | {f"n{i}": "ad" for i in range(4)}))
    scores = dense(model, taken({"x": "a"}), np.array([0]))[0]
    assert scores[3] > scores[2] > 0


def test_the_nearest_customer_speaks_loudest() -> None:
    lines = {"near": "abc e", "far": "a f"} | {f"c{i}": "gh" for i in range(20)}
    scores = dense(UserKnn().fit(taken(lines)), taken({"x": "abc"}), np.array([0]))[0]
    assert scores[4] > scores[5] > 0
    assert not scores[6:].any()


def test_likeness_counts_customers_and_what_they_share() -> None:
    data = taken({"p": "abe", "q": "bce", "r": "ad", "s": "gh"})
    model = UserKnn().fit(data)
    asked = taken({"x": "abd", "y": "ge", "z": ""})
    rows, products = np.array([1, 0, 0, 0, 2, 1, -1]), np.array([7, 4, 0, 7, 4, 4, 4])
    takers, common = model.likeness(asked, rows, products)
    assert takers.tolist() == [1, 2, 2, 0, 0, 2, 0]  # a was taken by p and r
    assert common.tolist() == [1, 2, 2, 0, 0, 0, 0]  # a itself doesn't count: p shares b, r shares d
    nobody = model.likeness(asked, np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert [len(n) for n in nobody] == [0, 0]


def test_frequencies_are_those_of_the_paper() -> None:
    """Groups of two from the end: (a) (b, ab) of five days: means with decay within, then across the groups."""
    data = taken({"x": "a b ab"})
    model = TifuKnn(TifuKnn.Config(group=2, within=0.5, across=0.1)).fit(data)
    found = model._frequencies(data).toarray()[0]
    a = (1 / 2 + 0.1 * 1) / 2
    b = ((1 + 0.5) / 2) / 2
    assert found[:2] == pytest.approx([a, b])


def test_a_product_counts_once_a_basket() -> None:
    data = taken({"x": "aab a"})
    assert TifuKnn(TifuKnn.Config(within=1.0)).fit(data)._frequencies(data).toarray()[0, :2].tolist() == [1.0, 0.5]


def test_views_are_no_baskets() -> None:
    views = taken({"x": "ab", "y": "ac"}, kind=VIEW)
    assert not dense(TifuKnn().fit(views), views, np.arange(2)).any()


def test_habits_come_first_then_those_of_like_customers() -> None:
    lines = {f"c{i}": "abc abc abc" for i in range(9)} | {f"d{i}": "def" for i in range(9)}
    model = TifuKnn().fit(taken(lines))
    scores = dense(model, taken({"x": "ab ab a"}), np.array([0]))[0]
    assert scores[0] > scores[1] > scores[2] > 0
    assert not scores[3:].any()


def test_lists_hold_the_most_recent_rows_and_nothing_else_is_stored() -> None:
    bags = Bags(np.array([0, 1, 2, 4]), np.array([0, 0, 0, 1], np.int32), np.ones(4, np.float32), np.zeros(0, np.int32))
    kept = Neighbours.of(bags, np.ones(4), np.array([0.1, 0.2, 0.3]), np.array([5, 7, 6]), 2, 1, 7)
    assert kept.trust.tolist() == pytest.approx([0.2, 0.3])  # the latest; then the one that alone has product 1
    assert kept.lists[0].tolist() == [0, 1, 2] and kept.lists[1].tolist() == [0, 1]
    asked = Bags(np.array([0, 2]), np.array([0, 1], np.int32), np.ones(2, np.float32), np.zeros(0, np.int32))
    assert kept.nearest(asked, 3).tolist() == [[1, 0, -1]]
