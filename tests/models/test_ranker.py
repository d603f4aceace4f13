"""What the learned ranker sees of a customer and a product."""

from __future__ import annotations

import numpy as np
import pytest
from controltower.models.recommend import ranker
from controltower.models.recommend.blend import MANY, groups
from controltower.models.recommend.candidates import Candidates
from controltower.models.recommend.interactions import ORDER, Interactions, from_arrays
from controltower.profiles.portable import DAY


def drawn(rng: np.random.Generator) -> Interactions:
    people = np.array([f"c{i:02}" for i in range(rng.integers(0, 30))], dtype=np.str_)
    products = np.array([f"p{i:02}" for i in range(rng.integers(1, 20))])
    count = rng.integers(0, 200) if len(people) else 0
    who = rng.choice(people, count) if count else people[:0]
    return from_arrays(
        people, products, who, rng.choice(products, count), rng.integers(0, 300 * DAY, count), rng.choice(3, count),
        300 * DAY,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_own_entries_one_by_one(seed: int) -> None:
    """Rows in any order, some unknown, of histories that may be empty."""
    rng = np.random.default_rng(seed)
    history = drawn(rng)
    rows = rng.permutation(np.r_[np.arange(history.shape[0]), -1, -1])[: rng.integers(1, 20)]
    pair = np.flatnonzero(rng.random(len(rows) * history.shape[1]) < 0.7)
    row, product = pair // history.shape[1], pair % history.shape[1]
    nothing = np.zeros((0, len(pair)))
    found = np.array(ranker._own(history, rows, Candidates(len(rows), row, product, [], nothing, nothing)))
    for at, (r, p) in enumerate(zip(row, product, strict=True)):
        mine = (history.customer == rows[r]) & (history.product == p)
        for column, kind in ((0, mine & (history.kind == ORDER)), (2, mine & (history.kind != ORDER))):
            ago = (history.until - history.second[kind].max()) / DAY if kind.any() else np.nan
            np.testing.assert_array_equal(found[column : column + 2, at], [kind.sum(), ago])
    count = np.array([(history.customer == r).sum() for r in rows])
    assert groups(history, rows).tolist() == np.select([count == 0, count < MANY], [0, 1], 2).tolist()
