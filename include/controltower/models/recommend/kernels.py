"""Compiled loops over sparse scores; compiled at first use and kept beside this file where it may be written."""

from __future__ import annotations

import numpy as np

from controltower.models.recommend.compiled import compiled


@compiled
def sink(score: np.ndarray, product: np.ndarray, size: int, at: int) -> None:
    """Puts an entry of a heap, whose root is the worst (lowest score, then highest product), in its place."""
    while True:
        worst, left = at, 2 * at + 1
        for child in (left, left + 1):
            if child < size and (
                score[child] < score[worst] or (score[child] == score[worst] and product[child] > product[worst])
            ):
                worst = child
        if worst == at:
            return
        score[at], score[worst] = score[worst], score[at]
        product[at], product[worst] = product[worst], product[at]
        at = worst


@compiled
def offer(score: np.ndarray, product: np.ndarray, size: int, s: np.float32 | float, p: int) -> int:
    """Puts a score into a heap of as many as the arrays hold, if it is among the best; the heap's new size."""
    if size < len(score):
        score[size], product[size] = s, p
        size += 1
        if size == len(score):
            heap(score, product, size)
    elif s > score[0] or (s == score[0] and p < product[0]):
        score[0], product[0] = s, p
        sink(score, product, size, 0)
    return size


@compiled
def heap(score: np.ndarray, product: np.ndarray, size: int) -> None:
    """Makes a heap of the first entries."""
    for start in range(size // 2 - 1, -1, -1):
        sink(score, product, size, start)


@compiled
def best_first(score: np.ndarray, product: np.ndarray, size: int) -> None:
    """Sorts what `offer` kept."""
    if size < len(score):
        heap(score, product, size)
    for end in range(size - 1, 0, -1):  # the worst goes to the end
        score[0], score[end] = score[end], score[0]
        product[0], product[end] = product[end], product[0]
        sink(score, product, end, 0)


@compiled
def best(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    barred_at: np.ndarray,
    barred: np.ndarray,
    allowed: np.ndarray,
    n: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The n highest positive scores of each row of a CSR matrix, best first; equal scores in the order of products.

    barred_at, barred: indptr and indices of what each row may not get; allowed: mask of the products.
    Returns products (rows x n, -1 where there are fewer) and their scores (0 there).
    """
    rows = len(indptr) - 1
    products, scores = np.full((rows, n), -1, np.int32), np.zeros((rows, n), np.float32)
    stamp = np.full(len(allowed), -1, np.int32)
    for row in range(rows):
        for i in range(barred_at[row], barred_at[row + 1]):
            stamp[barred[i]] = row
        size, score, product = 0, scores[row], products[row]
        for i in range(indptr[row], indptr[row + 1]):
            p, s = indices[i], data[i]
            if not s > 0 or not allowed[p] or stamp[p] == row:
                continue
            size = offer(score, product, size, s, p)
        best_first(score, product, size)
    return products, scores


@compiled
def at(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, products: int, row: np.ndarray, product: np.ndarray
) -> np.ndarray:
    """The scores of pairs of row and product, sorted by row; 0 where the matrix has none."""
    found = np.zeros(len(row), np.float32)
    dense = np.zeros(products, np.float32)
    i = 0
    while i < len(row):
        r = row[i]
        for j in range(indptr[r], indptr[r + 1]):
            dense[indices[j]] += data[j]
        while i < len(row) and row[i] == r:
            found[i] = dense[product[i]]
            i += 1
        for j in range(indptr[r], indptr[r + 1]):
            dense[indices[j]] = 0
    return found


@compiled
def following(
    customer: np.ndarray,
    product: np.ndarray,
    step: np.ndarray,
    weight: np.ndarray,
    products: int,
    decay: float,
    backward: float,
    together: float,
    window: int,
    norm_first: np.ndarray,
    norm_then: np.ndarray,
    keep: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often one product follows another within the customers' sequences: a CSR of the `keep` strongest each.

    The entries are sorted by customer, step. A pair counts weight x weight; times decay ^ (steps between - 1) where
    the second comes later, times `backward` more where it comes earlier, and times `together` within one step. Sums
    are multiplied by norm_first of the row and norm_then of the column.
    """
    count = np.zeros(products + 1, np.int64)
    for p in product:
        count[p + 1] += 1
    start = count.cumsum()
    place = start[:-1].copy()
    entries = np.empty(len(product), np.int32)
    for e in range(len(product)):
        entries[place[product[e]]] = e
        place[product[e]] += 1
    power = decay ** np.arange(window + 1)
    total = np.zeros(products, np.float32)
    touched = np.empty(products, np.int32)
    size = 0
    for p in range(products):
        size += min(keep, (start[p + 1] - start[p]) * 2 * window)
    indptr = np.zeros(products + 1, np.int64)
    indices, data = np.empty(size, np.int32), np.empty(size, np.float32)
    score, what = np.empty(keep, np.float32), np.empty(keep, np.int32)
    filled = 0
    for p in range(products):
        touches = 0
        for i in range(start[p], start[p + 1]):
            e = entries[i]
            for direction in (1, -1):
                factor = 1.0 if direction == 1 else backward
                other = e
                for _ in range(window):
                    other += direction
                    if other < 0 or other >= len(customer) or customer[other] != customer[e]:
                        break
                    q = product[other]
                    if q == p:
                        continue
                    gap = abs(step[other] - step[e])
                    if gap == 0:
                        value = together
                    elif gap - 1 <= window:
                        value = factor * power[gap - 1]
                    else:
                        break
                    if value == 0:
                        continue
                    if total[q] == 0:
                        touched[touches] = q
                        touches += 1
                    total[q] += value * weight[e] * weight[other]
        n = 0
        for t in range(touches):
            q = touched[t]
            s = np.float32(total[q] * norm_first[p] * norm_then[q])
            total[q] = 0
            if s > 0:
                n = offer(score, what, n, s, q)
        order = np.argsort(what[:n])
        for j in range(n):
            indices[filled + j], data[filled + j] = what[order[j]], score[order[j]]
        filled += n
        indptr[p + 1] = filled
    return indptr, indices[:filled].copy(), data[:filled].copy()


@compiled
def places(indptr: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Places (0 = best) of the entries of each row by score, the earlier entry first among equals; NaN at 0 or less."""
    found = np.full(len(score), np.nan, np.float32)
    for row in range(len(indptr) - 1):
        first, last = indptr[row], indptr[row + 1]
        order = np.argsort(-score[first:last], kind="mergesort")
        for place in range(last - first):
            if score[first + order[place]] > 0:
                found[first + order[place]] = place
    return found


@compiled
def sources(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    leads_at: np.ndarray,
    leads_to: np.ndarray,
    leads: np.ndarray,
    row: np.ndarray,
    product: np.ndarray,
) -> np.ndarray:
    """For pairs of row and product: which of the row's products leads there the most, -1 where none does.

    indptr, indices, data: CSR of what rows took; leads_at, leads_to, leads: CSR of products x products, sorted.
    """
    found = np.full(len(row), -1, np.int64)
    for i in range(len(row)):
        best = 0.0
        for j in range(indptr[row[i]], indptr[row[i] + 1]):
            first, last = leads_at[indices[j]], leads_at[indices[j] + 1]
            at = first + np.searchsorted(leads_to[first:last], product[i])
            if at < last and leads_to[at] == product[i] and data[j] * leads[at] > best:
                best = data[j] * leads[at]
                found[i] = indices[j]
    return found
