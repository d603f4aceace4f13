"""What the algorithms would have shown at a past moment, and what customers took from then on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend import ranker
from controltower.models.recommend.base import Scorer, barred, chunks
from controltower.models.recommend.blend import FUSION, groups
from controltower.models.recommend.candidates import propose
from controltower.models.recommend.interactions import holds
from controltower.models.recommend.ranker import Pairs
from controltower.models.recommend.split import Split
from controltower.models.recommend.tasks import Task

K = 10
MOST_LEARNING, MOST_JUDGING = 20_000, 6_000  # customers drawn, at most
TOGETHER = 1024  # rows that are asked about at a time: what all algorithms say of one may be half a megabyte
LEARN, CHOOSE, JUDGE = 0, 1, 2


@dataclass(frozen=True)
class Cases:
    """One row a customer who took something: whose, how good each algorithm's list was, and what the ranker sees.

    gain: algorithms x rows, NDCG@10. pairs: the candidates, of rows that learn only those with a hit; in chunks, so
    that the features of only some exist at a time.
    """

    customer: np.ndarray  # positions in the history
    part: np.ndarray  # LEARN, CHOOSE or JUDGE
    group: np.ndarray  # position in GROUPS
    site: np.ndarray  # text, "" where none is told
    names: list[str]
    gain: np.ndarray
    ideal: np.ndarray  # what a perfect list would gain, before it is divided by
    pairs: list[Pairs]

    def pairs_of(self, *parts: int) -> list[Pairs]:
        """The pairs of rows of some parts."""
        return [pairs.where(np.isin(self.part[pairs.case], parts)) for pairs in self.pairs]

    def gain_of(self, score: Callable[[np.ndarray], np.ndarray], *parts: int) -> np.ndarray:
        """NDCG@10 by row of another score, which it makes of features; 0 for rows of other parts."""
        gain = np.zeros(len(self.ideal))
        for pairs in self.pairs:
            mine = pairs.where(np.isin(self.part[pairs.case], parts))
            if len(mine):
                gain += _gain(score(mine.features()), mine.label, mine.case[mine.row], np.arange(len(mine)), self.ideal)
        return gain


def part_of(customer_ids: np.ndarray) -> np.ndarray:
    """Which part a customer belongs to: 60 % learn, 20 % choose, 20 % judge. By a hash of the id: it never changes."""
    drawn = np.array([hashlib.sha256(f"judges {c}".encode()).digest()[0] for c in customer_ids], dtype=int)
    return np.where(drawn < 154, LEARN, np.where(drawn < 205, CHOOSE, JUDGE))


def collect(found: Split, members: Mapping[str, Scorer], task: Task, allowed: np.ndarray, seed: int) -> Cases | None:
    """The cases of a split, if any. members: fitted on what was before it. Only personal tasks' teach a ranker."""
    truth = found.truth(task.repeat, allowed)
    rows = np.flatnonzero(np.diff(truth.indptr))
    if not len(rows):
        return None
    part = part_of(found.owners[rows])
    drawn = _drawn(part, seed)
    rows, part = rows[drawn], part[drawn]
    popularity = next(iter(members.values())).popularity
    facts = ranker.Facts.of(found.history, popularity) if task.personal else None
    discount = np.r_[0.0, (1 / np.log2(np.arange(2, K + 2))).cumsum()]
    ideal = discount[np.minimum(np.diff(truth[rows].indptr), K)]
    names, gains = [*members, FUSION], []
    pairs: list[Pairs] = []
    for start, chunk in chunks(rows, TOGETHER):
        c = propose(members, found.history, chunk, barred(found.history, chunk, task.repeat, allowed))
        label = holds(truth, chunk[c.row], c.product)
        own = holds(found.history.ordered, chunk[c.row], c.product) if task.only_own else None
        mine = ideal[start : start + len(chunk)]
        gain = []
        for name in names:
            score = c.fused() if name == FUSION else c.by(name, popularity)
            gain.append(_gain(score if own is None else np.where(own, score, -np.inf), label, c.row, c.product, mine))
        gains.append(np.stack(gain))
        if facts is None:
            continue
        hit = np.zeros(len(chunk), dtype=bool)
        hit[c.row[label]] = True
        case = np.arange(start, start + len(chunk))
        pairs.append(Pairs.of(c, facts, chunk, case, label).where(hit | (part[case] != LEARN)))
    group, site = groups(found.history, rows), found.history.sites_of(rows)
    return Cases(rows, part, group, site, names, np.hstack(gains), ideal, pairs)


def judges(found: Split, truth: sp.csr_matrix) -> np.ndarray:
    """The customers who judge, of those who took something."""
    rows = np.flatnonzero(np.diff(truth.indptr))
    return rows[part_of(found.owners[rows]) == JUDGE][:MOST_JUDGING]


def _gain(score: np.ndarray, label: np.ndarray, row: np.ndarray, product: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """NDCG@10 by row, of pairs sorted by row."""
    order = np.lexsort((product, -score, row))
    ranked = row[order]
    rank = np.arange(len(order)) - np.searchsorted(ranked, ranked)
    hit = label[order] & (rank < K)
    got = np.bincount(ranked[hit], weights=1 / np.log2(rank[hit] + 2), minlength=len(ideal))
    return np.divide(got, ideal, out=np.zeros(len(ideal)), where=ideal > 0)


def _drawn(part: np.ndarray, seed: int) -> np.ndarray:
    """So many of each part as may be, in order."""
    rng = np.random.default_rng(seed)
    kept = []
    for which, most in ((LEARN, MOST_LEARNING), (CHOOSE, MOST_JUDGING), (JUDGE, MOST_JUDGING)):
        mine = np.flatnonzero(part == which)
        kept.append(mine if len(mine) <= most else rng.choice(mine, most, replace=False))
    return np.sort(np.concatenate(kept))
