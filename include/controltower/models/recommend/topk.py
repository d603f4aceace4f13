"""The exact best products of many customers by the product of two vectors, without ever holding all scores.

Allowed products are sorted by length, the longest first, and multiplied in blocks that stay in the processor's cache.
By Cauchy and Schwarz no product left scores more than |customer| x |the longest left|: a customer whose n-th best is
higher is finished (so begins LEMP: Teflioudi, Gemulla and Mykytiuk, SIGMOD 2015). The matrix product only finds
candidates: what may be among the best, given how far its rounding can be off, is scored anew in double precision and
in a fixed order. So the result depends neither on BLAS nor on how customers are cut into blocks, and products of equal
vectors have equal scores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from controltower.models.recommend.compiled import compiled
from controltower.models.recommend.kernels import best_first, offer

TOGETHER = 8192  # customers that go through the products together, so that those not finished still fill blocks
ROWS, WIDTH = 512, 384  # a block of scores: 768 KB; widths of a power of two cost OpenBLAS up to a fifth more
LOOK = 64  # scores that are looked at together
LEAST = 2.0**-149  # the smallest positive float32


def exact_top(
    rows: np.ndarray, products: np.ndarray, n: int, allowed: np.ndarray, own: sp.csr_matrix, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's n best allowed products by the product of their vectors; never approximate.

    rows: r x f and products: p x f, float32 and finite; allowed: mask of the p products; own: r x p, an entry, be it
    0, bars that product for that row; threads: how many work on rows at once, each with one BLAS thread.
    Returns products (r x n int32, -1 where there are fewer) and their scores (r x n float32, 0 there), best first and
    equal ones in the order of products. A score is computed in double precision and rounded to float32; one of 0 or
    less says nothing and is left out. Needs about 10 MB per thread besides what it returns.
    A call costs about 15 ms per 100,000 products before the first row: pass many rows, thousands if possible.
    """
    found, scores = np.full((len(rows), n), -1, np.int32), np.zeros((len(rows), n), np.float32)
    if not n or not len(rows):
        return found, scores
    norms = _norms(products)
    order = np.flatnonzero(allowed & (norms > 0)).astype(np.int32)
    order = order[np.argsort(-norms[order], kind="stable")]
    norms = norms[order]
    own = own if own.has_sorted_indices else own.sorted_indices()
    barred_at, barred = own.indptr.astype(np.int64), own.indices.astype(np.int32, copy=False)
    sizes = np.zeros(len(rows), np.int32)
    together = min(TOGETHER, -(-len(rows) // threads))

    def work(first: int) -> None:
        vectors = np.array(rows[first : first + together], np.float32, order="C")
        lengths = _norms(vectors)
        left = np.flatnonzero(lengths).astype(np.int32)
        vectors, lengths, left = vectors[left], lengths[left], left + np.int32(first)
        bars = np.full(len(left), LEAST)
        cells = np.empty(ROWS * WIDTH, np.float32)
        start = 0
        while start < len(order):
            reach = lengths * norms[start]
            slack = (vectors.shape[1] + 2) * (reach * 2.0**-23 + LEAST)
            unfinished = reach + slack >= bars
            if np.count_nonzero(unfinished) <= 0.9 * len(left):  # to move fewer costs more than it saves
                left, lengths, slack, bars = (x[unfinished] for x in (left, lengths, slack, bars))
                vectors = vectors[unfinished]
            if not len(left):
                break
            width = min(max(WIDTH, len(cells) // len(left)), len(order) - start)
            names = order[start : start + width]
            some = np.ascontiguousarray(products[names], np.float32)
            step = -(-len(left) // -(-len(left) // ROWS))  # blocks of even height
            for a in range(0, len(left), step):
                b = min(a + step, len(left))
                np.matmul(vectors[a:b], some.T, out=cells[: (b - a) * width].reshape(b - a, width))
                _take(
                    cells, left[a:b], slack[a:b], bars[a:b], vectors[a:b], some, names, barred_at, barred,
                    sizes, found, scores,
                )  # fmt: skip
            start += width
        _sort(first, min(first + together, len(rows)), sizes, found, scores)

    with threadpool_limits(limits=1, user_api="blas"):
        if threads == 1:
            for first in range(0, len(rows), together):
                work(first)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, range(0, len(rows), together)))
    return found, scores


def _norms(vectors: np.ndarray) -> np.ndarray:
    """Of each row, in double precision."""
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))


@compiled
def _take(
    cells: np.ndarray, left: np.ndarray, slack: np.ndarray, bars: np.ndarray, vectors: np.ndarray,
    products: np.ndarray, names: np.ndarray, barred_at: np.ndarray, barred: np.ndarray,
    sizes: np.ndarray, found: np.ndarray, scores: np.ndarray,
) -> None:  # fmt: skip
    """Puts a block of scores into the heaps of its rows.

    cells: the block, flat, of len(left) x len(products), each off by at most slack of its row; bars: the rows' n-th
    best so far; sizes, found, scores: the heaps of all rows.
    """
    n = scores.shape[1]
    width = np.uint64(len(products))  # unsigned, since a loop whose index may be negative isn't vectorised
    for i in range(len(left)):
        row = left[i]
        own = barred[barred_at[row] : barred_at[row + 1]]
        begin = np.uint64(i) * width
        end = begin + width
        bar = np.float32(bars[i] - slack[i])
        start = begin
        while start < end:
            stop = min(start + np.uint64(LOOK), end)
            if _any(cells, start, stop, bar):
                for cell in range(start, stop):
                    if cells[cell] < bar:
                        continue
                    at = np.int64(cell - begin)
                    name = names[at]
                    where = np.searchsorted(own, name)
                    if where < len(own) and own[where] == name:
                        continue
                    score = _score(vectors[i], products[at])
                    if score > 0:
                        sizes[row] = offer(scores[row], found[row], sizes[row], score, name)
                        if sizes[row] == n:
                            bars[i] = scores[row, 0]
                            bar = np.float32(bars[i] - slack[i])
            start = stop


@compiled
def _any(cells: np.ndarray, start: np.uint64, stop: np.uint64, bar: np.float32) -> bool:
    """Without a way out, which would keep it from being vectorised."""
    found = False
    for cell in range(start, stop):
        found |= cells[cell] >= bar
    return found


@compiled
def _score(a: np.ndarray, b: np.ndarray) -> np.float32:
    """The product of two vectors, rounded to float32; four sums, as one would wait for itself."""
    s0 = s1 = s2 = s3 = 0.0
    whole = len(a) // 4 * 4
    for i in range(0, whole, 4):
        s0 += np.float64(a[i]) * np.float64(b[i])
        s1 += np.float64(a[i + 1]) * np.float64(b[i + 1])
        s2 += np.float64(a[i + 2]) * np.float64(b[i + 2])
        s3 += np.float64(a[i + 3]) * np.float64(b[i + 3])
    for i in range(whole, len(a)):
        s0 += np.float64(a[i]) * np.float64(b[i])
    return np.float32((s0 + s1) + (s2 + s3))


@compiled
def _sort(first: int, stop: int, sizes: np.ndarray, found: np.ndarray, scores: np.ndarray) -> None:
    for row in range(first, stop):
        best_first(scores[row], found[row], sizes[row])
