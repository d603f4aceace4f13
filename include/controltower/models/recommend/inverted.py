"""An inverted index: for each term the documents that have it, as arrays, and what a query scores with them."""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp

from controltower.models.base import State
from controltower.models.recommend.compiled import compiled

MOST_ENTRIES = 200_000  # of one query: its rarest terms first, what is left tells least
SLACK = 1e-5  # more than the rounding of scores
OFTEN = 4  # of so many documents one has a term whose list is kept as a row: that is added much quicker
FEW = 16  # to look at all documents takes as long as to keep a list of one in so many
GROUP = 32  # documents of which only the best is looked at first
BINS = 1024  # of what a score may be, to find how much is needed
TINY = np.float32(1e-45)  # the least that isn't 0
TINY_SCORE = np.float32(1e-30)  # less than any score that counts
ANY, NONE = np.zeros(0, np.bool_), np.zeros(0, np.int32)


class Index:
    """documents x terms, kept by term."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        by_term = matrix.T.tocsr().astype(np.float32)
        by_term.sort_indices()
        self.documents = matrix.shape[0]
        self.start, self.document = by_term.indptr.astype(np.int64), by_term.indices.astype(np.int32)
        self.value = by_term.data
        self._ready()

    def _ready(self) -> None:
        self._spare: list[np.ndarray] = []  # by document, zeros; two threads never have the same
        length = np.diff(self.start)
        often = np.flatnonzero((length * OFTEN > self.documents) & (length <= MOST_ENTRIES))  # longer are hardly read
        self._row = np.full(len(length), -1, np.int32)
        self._row[often] = np.arange(len(often))
        self._rows = np.zeros((len(often), self.documents), np.float32)
        row = np.repeat(self._row, length)
        self._rows[row[row >= 0], self.document[row >= 0]] = self.value[row >= 0]
        self._lists = self.start, self.document, self.value, self._row, self._rows

    def score(self, terms: np.ndarray, weights: np.ndarray, unknown: float = -1.0) -> np.ndarray:
        """Sums of weight times value by document (float32). unknown: as `best` says."""
        made = np.zeros(self.documents, np.float32)
        document, score = self.best(terms, weights, unknown)
        made[document] = score
        return made

    def best(
        self, terms: np.ndarray, weights: np.ndarray, unknown: float = -1.0, *, want: int = 0, least: float = 0.0,
        near: float = 0.0, more: float = 0.0, allowed: np.ndarray = ANY, chosen: np.ndarray = NONE,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """The documents (sorted, int32) that may be among the best, and their sums of weight times value (float32).

        Values and weights aren't negative. For no `want` all that have more than 0; else none is missing that has at
        least `least`, `near` times the best allowed, and that with at most `more` on top would be one of the `want`
        best allowed. Some others are among them.

        unknown: the weight of terms that nothing has; if 0 or more, the sums are shares of all weights
        allowed: mask over the documents (empty: all); chosen: documents (sorted) that are told in any case
        """
        try:
            score = self._spare.pop()
        except IndexError:
            score = np.zeros(-(-self.documents // GROUP) * GROUP, np.float32)
        weights = weights.astype(np.float32, copy=False)
        found, all_of_them = _add(terms.astype(np.int64, copy=False), weights, unknown, self._lists, score)
        if not all_of_them:
            found = _above(score, _cut(_peaks(score, allowed), want, least, near, more) if want else TINY)
        if len(chosen):
            found = _joined(found, chosen)
        told = score[found]
        if all_of_them:
            score[found] = 0
        else:
            score[:] = 0
        self._spare.append(score)
        return found, told

    def state(self, name: str) -> State:
        return {
            f"{name}_start": self.start, f"{name}_document": self.document, f"{name}_value": self.value,
            f"{name}_documents": np.array(self.documents),
        }  # fmt: skip

    @classmethod
    def restored(cls, state: State, name: str) -> Self:
        made = cls.__new__(cls)
        made.start, made.document = state[f"{name}_start"], state[f"{name}_document"]
        made.value, made.documents = state[f"{name}_value"], int(state[f"{name}_documents"])
        made._ready()
        return made


@compiled
def _add(
    terms: np.ndarray,
    weights: np.ndarray,
    unknown: float,
    lists: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    score: np.ndarray,
) -> tuple[np.ndarray, bool]:
    """Adds weight times value by document, of the shortest lists first; which those are (sorted), if they are few.

    Not worth it: to look up what may still be among the best in the longest lists takes as long as to read these.
    """
    start, document, value, row, rows = lists
    length = start[terms + 1] - start[terms]
    total = max(unknown, 0.0)
    for i in range(len(terms)):
        if length[i] == 0:
            total += weights[i]
    order = np.flatnonzero(length)  # of products in collections most are empty
    order = order[np.argsort(length[order], kind="mergesort")]
    many, entries = 0, 0
    for j in order:
        if (many or len(order) < len(terms)) and entries + length[j] > MOST_ENTRIES:
            break
        many, entries, total = many + 1, entries + length[j], total + weights[j]
    few = entries == 0 or entries * FEW < len(score)
    seen, n = np.empty(entries if few else 0, np.int32), 0
    for j in order[:many]:
        w, r = np.float32(weights[j] / max(total, 1e-9) if unknown >= 0 else weights[j]), row[terms[j]]
        if few:
            for i in range(start[terms[j]], start[terms[j] + 1]):
                d, more = document[i], w * value[i]
                if more > 0:  # else it would be seen again
                    if score[d] == 0:
                        seen[n] = d
                        n += 1
                    score[d] += more
        elif r >= 0:
            _add_row(w, rows[r], score)
        else:
            _add_list(w, document, value, start[terms[j]], start[terms[j] + 1], score)
    return np.sort(seen[:n]), few


@compiled
def _add_row(w: np.float32, row: np.ndarray, score: np.ndarray) -> None:
    for d in range(len(row)):
        score[d] += w * row[d]


@compiled
def _add_list(w: np.float32, document: np.ndarray, value: np.ndarray, first: int, last: int, score: np.ndarray) -> None:
    for i in range(first, last):
        score[document[i]] += w * value[i]


@compiled
def _peaks(score: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The best allowed score of each group; those of a group are far apart, so that several are compared at once."""
    bits = score.view(np.int32)  # the same order, as none is negative, and quicker to compare
    groups = len(bits) // GROUP
    peaks = np.zeros(groups, np.int32)
    if len(allowed) == 0:
        for first in range(0, len(bits), groups):
            some = bits[first : first + groups]
            for i in range(groups):
                peaks[i] = max(peaks[i], some[i])
    for first in range(0, len(allowed), groups):
        some, may = bits[first : first + groups], allowed[first : first + groups]
        for i in range(len(may)):
            peaks[i] = max(peaks[i], some[i] if may[i] else np.int32(0))
    return peaks.view(np.float32)


@compiled
def _cut(peaks: np.ndarray, want: int, least: float, near: float, more: float) -> np.float32:
    """What a document needs to be one of the best, or a little less: the best of so many groups have that."""
    first = np.float32(0)
    for s in peaks:
        first = max(first, s)
    many, size, at = np.zeros(BINS + 1, np.int32), 0, BINS
    scale = np.float32(BINS) / max(first, TINY_SCORE)
    for s in peaks:
        many[int(s * scale)] += 1
    while at > 0 and size + many[at] < want:
        size, at = size + many[at], at - 1
    needed = max(least, near * float(first), at / float(scale) - more)
    return max(np.float32(needed - SLACK), TINY)


@compiled
def _above(score: np.ndarray, least: np.float32) -> np.ndarray:
    """The documents that have at least so much."""
    has = np.empty(len(score), np.uint8)
    for d in range(len(score)):
        has[d] = score[d] >= least
    found, n = np.empty(len(score) + 1, np.int32), 0
    eights = has.view(np.uint64)
    for e in range(len(eights)):
        if eights[e]:
            for d in range(8 * e, 8 * e + 8):
                found[n] = d  # without a branch that would be guessed wrong
                n += has[d]
    return found[:n].copy()


@compiled
def _joined(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """All of both, sorted as they are."""
    made = np.empty(len(some) + len(others), np.int32)
    size, at = 0, 0
    for d in others:
        while at < len(some) and some[at] <= d:
            made[size] = some[at]
            size, at = size + 1, at + 1
        if size == 0 or made[size - 1] != d:
            made[size] = d
            size += 1
    for i in range(at, len(some)):
        made[size] = some[i]
        size += 1
    return made[:size]


def warm_up() -> None:
    """Compile what searching needs, or read it from the disk: else the first search would wait for it."""
    index = Index(sp.csr_matrix(np.ones((GROUP, 2))))
    for terms in (np.zeros(1, np.int64), np.arange(2)):
        for allowed in (ANY, np.ones(GROUP, np.bool_)):
            for want in (0, 1):
                product, score = index.best(terms, np.ones(2), want=want, allowed=allowed, chosen=np.zeros(1, np.int32))
    blended(product, score, score, 0.5, score, np.ones(GROUP, np.bool_), 0.0, 0.0, 1)


@compiled
def _taking_part(
    product: np.ndarray,
    text: np.ndarray,
    clicked: np.ndarray,
    trust: float,
    popular: np.ndarray,
    allowed: np.ndarray,
    least: float,
    near: float,
) -> tuple[np.ndarray, np.ndarray]:
    """What takes part, and its scores."""
    best = np.float32(0)
    for i in range(len(product)):
        if allowed[product[i]]:
            best = max(best, text[i])
    bound = np.float32(max(least, near * np.float64(best)))
    at, score, n = np.empty(len(product), np.int64), np.empty(len(product), np.float32), 0
    for i in range(len(product)):
        if allowed[product[i]] and (text[i] >= bound or clicked[i] > 0):
            told = (1 - trust) * np.float64(text[i]) + trust * np.float64(clicked[i])
            at[n], score[n] = i, np.float32(told + np.float64(popular[product[i]]))
            n += 1
    return at[:n], score[:n]


def blended(
    product: np.ndarray,
    text: np.ndarray,
    clicked: np.ndarray,
    trust: float,
    popular: np.ndarray,
    allowed: np.ndarray,
    least: float,
    near: float,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Where the k best allowed stand by (1 - trust) text + trust clicked + popular, best first, and their scores.

    product (sorted), text and clicked (0..1) are aligned; popular and allowed are by product. What nobody clicked takes
    part if the text is at least `least`, and `near` times that of the best match.
    """
    at, score = _taking_part(product, text, clicked, float(trust), popular, allowed, least, near)
    if len(score) > 4 * k:
        some = np.flatnonzero(score >= np.partition(score, len(score) - k)[len(score) - k])
        at, score = at[some], score[some]
    best = np.argsort(-score, kind="stable")[:k]
    return at[best], score[best]
