"""The exact best: as brute force in double precision finds them, whatever the blocks, the bars and the ties."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import scipy.sparse as sp
from controltower.models.recommend import topk
from controltower.models.recommend.topk import exact_top
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    """So that a few dozen rows and products have many blocks, and uneven last ones."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("TOGETHER", 11), ("ROWS", 4), ("WIDTH", 70)):
            patch.setattr(topk, name, value)
        yield


def brute(
    rows: np.ndarray, products: np.ndarray, n: int, allowed: np.ndarray, own: sp.csr_matrix
) -> tuple[np.ndarray, np.ndarray]:
    all_scores = (rows.astype(np.float64) @ products.astype(np.float64).T).astype(np.float32)
    found, scores = np.full((len(rows), n), -1), np.zeros((len(rows), n), np.float32)
    for row, score in enumerate(all_scores):
        barred = set(own.indices[own.indptr[row] : own.indptr[row + 1]].tolist())
        may = [p for p in np.argsort(-score, kind="stable") if allowed[p] and p not in barred and score[p] > 0][:n]
        found[row, : len(may)], scores[row, : len(may)] = may, score[may]
    return found, scores


def bars(rng: np.random.Generator, rows: int, products: int, share: float = 0.1) -> sp.csr_matrix:
    return sp.csr_matrix(rng.random((rows, products)) < share)


def same(got: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> None:
    assert (got[0].dtype, got[1].dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 30), products=st.integers(0, 300), factors=st.integers(0, 9),
    n=st.integers(0, 12), values=st.integers(0, 3), may=st.sampled_from([0.0, 0.02, 0.9, 1.0]),
    barred=st.sampled_from([0.0, 0.1, 0.95]), threads=st.integers(1, 3),
)  # fmt: skip
def test_as_brute_force_finds_them(
    seed: int, rows: int, products: int, factors: int, n: int, values: int, may: float, barred: float, threads: int
) -> None:
    """Whole numbers, so that scores are exact and many are equal, 0 or less; with 0 values all are zeros."""
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-values, values + 1, (k, factors)).astype(np.float32) for k in (rows, products))
    allowed, own = rng.random(products) < may, bars(rng, rows, products, barred)
    same(exact_top(a, b, n, allowed, own, threads), brute(a, b, n, allowed, own))


def test_customers_who_are_finished_early_miss_nothing() -> None:
    """Lengths vary so much that few products are multiplied; the longest one is barred or in the wrong direction."""
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((60, 16), np.float32), rng.standard_normal((3000, 16), np.float32)
    b *= rng.lognormal(0, 1.5, (3000, 1)).astype(np.float32)
    a[7], a[8] = 0, a[9] * 1e-6
    allowed, own = rng.random(3000) < 0.9, bars(rng, 60, 3000)
    same(exact_top(a, b, 10, allowed, own), brute(a, b, 10, allowed, own))


def test_the_last_product_counts_if_it_is_just_long_enough() -> None:
    """All score the same; the shortest, alone in the last block, comes first as it is the first product."""
    a = np.arange(1, 12, dtype=np.float32)[:, None] * np.array([[1, 0]], np.float32)
    b = np.stack([np.ones(281), np.arange(281)], axis=1).astype(np.float32)
    found, scores = exact_top(a, b, 10, np.ones(281, bool), bars(np.random.default_rng(), 11, 281, 0))
    assert (found == np.arange(10)).all() and (scores == np.arange(1, 12)[:, None]).all()


def test_scores_that_single_precision_cannot_tell_apart_are_told_apart() -> None:
    """Large factors cancel each other; what is left is below the rounding of the matrix product."""
    rng = np.random.default_rng(5)
    a, b = ((rng.integers(-64, 65, (k, 10)) / 16).astype(np.float32) for k in (40, 900))  # exact in double precision
    b[:, 4], a[:, 4] = 2**22, rng.integers(16, 32, 40) / 16
    b[:, 9], a[:, 9] = -(2**22), a[:, 4]
    none = bars(rng, 40, 900, 0)
    expected = brute(a, b, 10, np.ones(900, bool), none)
    rounded = np.argsort(-(a @ b.T), axis=1, kind="stable")[:, :10]
    assert (rounded != expected[0]).mean() > 0.3
    same(exact_top(a, b, 10, np.ones(900, bool), none), expected)


def test_equal_vectors_stay_in_the_order_of_products_whatever_the_rounding() -> None:
    """Also at the n-th place: of 40 vectors, each held by 25 products all over the blocks, 10 products are taken."""
    rng = np.random.default_rng(2)
    a, forty = rng.standard_normal((50, 33), np.float32), rng.standard_normal((40, 33), np.float32)
    which = rng.permutation(np.repeat(np.arange(40), 25))
    none = bars(rng, 50, 1000, 0)
    found, scores = exact_top(a, forty[which], 10, np.ones(1000, bool), none)
    for row in range(50):
        best = np.argmax(forty.astype(np.float64) @ a[row].astype(np.float64))
        assert found[row].tolist() == np.flatnonzero(which == best)[:10].tolist()
        assert len(set(scores[row].tolist())) == 1


def test_neither_blocks_nor_threads_nor_the_order_of_products_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((97, 64), np.float32), rng.standard_normal((800, 64), np.float32)
    allowed, own = rng.random(800) < 0.9, bars(rng, 97, 800)
    found, scores = exact_top(a, b, 10, allowed, own)
    for first in range(0, 97, 13):
        part = slice(first, first + 13)
        same(exact_top(a[part], b, 10, allowed, own[part]), (found[part], scores[part]))
    moved = rng.permutation(800)
    found_moved, scores_moved = exact_top(a, b[moved], 10, allowed[moved], own[:, moved].tocsr())
    same((moved[found_moved].astype(np.int32), scores_moved), (found, scores))
    for name, value in (("TOGETHER", 8192), ("ROWS", 512), ("WIDTH", 384)):
        monkeypatch.setattr(topk, name, value)
    same(exact_top(a, b, 10, allowed, own, threads=2), (found, scores))


def test_any_form_of_input_is_taken_and_left_as_it_was() -> None:
    """Columns first, read-only, entries of bars out of order, doubled or zero."""
    rng = np.random.default_rng(4)
    a, b = np.asfortranarray(rng.standard_normal((20, 8))), rng.standard_normal((50, 16))[:, ::2]
    a, b = a.astype(np.float32, order="K"), b.astype(np.float32, order="K")
    a.flags.writeable = b.flags.writeable = False
    own = sp.csr_matrix((np.zeros(60), np.tile([41, 3, 3], 20), np.arange(0, 61, 3)), shape=(20, 50))
    found, scores = exact_top(a, b, 60, np.ones(50, bool), own)
    same((found, scores), brute(a, b, 60, np.ones(50, bool), own))
    assert own.indices[:3].tolist() == [41, 3, 3] and not np.isin([41, 3], found).any()
