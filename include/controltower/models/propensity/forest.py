"""Boosted trees as plain arrays: what they say of a row, and which feature moved it how far.

A row's score is the sum of the leaves it falls into. On the way down each split changes the mean score of the learned
rows that came so far; that change is credited to the split's feature (Saabas 2014, "Interpreting random forests"), so
start + sum of the credits = score. It costs no more than walking down, unlike Shapley values, which it resembles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from controltower.models.base import State
from controltower.models.recommend.compiled import compiled

AT_ONCE = 256  # rows: with their credits, and the trees, they fit into the processor's cache of a megabyte


class Forest(NamedTuple):
    """All nodes of all trees in one list; `root` are where trees begin. `feature` is -1 at a leaf.

    `value` is in log-odds: of a leaf what it adds, of another node the mean over the learned rows that came by.
    """

    root: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    unknown_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    start: np.ndarray  # one number: the score before the first tree

    @classmethod
    def grown(cls, model: HistGradientBoostingClassifier) -> Forest:
        """The trees of a fitted two-class model without categorical features."""
        trees = [of_class[0].nodes for of_class in model._predictors]
        sizes = [len(nodes) for nodes in trees]
        root = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
        nodes = np.concatenate(trees)
        shift = np.repeat(root, sizes)
        leaf = nodes["is_leaf"].astype(bool)
        left, right = (nodes[side].astype(np.int32) + shift for side in ("left", "right"))
        value, count = nodes["value"].astype(float), nodes["count"].astype(float)
        for at in np.flatnonzero(~leaf)[::-1]:  # children come after their parents
            below = [left[at], right[at]]
            value[at] = np.average(value[below], weights=np.maximum(count[below], 1))
        feature = np.where(leaf, -1, nodes["feature_idx"]).astype(np.int32)
        start = np.array([float(np.ravel(model._baseline_prediction)[0])])
        return cls(
            root, feature, nodes["num_threshold"].astype(float), nodes["missing_go_to_left"].astype(bool),
            left, right, value, start + value[root].sum(),
        )  # fmt: skip

    def score(self, x: np.ndarray) -> np.ndarray:
        """Log-odds by row of x (rows, features; NaN: unknown)."""
        out = np.full(len(x), self.start[0])
        _walk(*self[:7], np.ascontiguousarray(x), out, np.zeros((0, 0)))
        return out

    def credits(self, x: np.ndarray) -> np.ndarray:
        """(rows, features): how far each feature moved the row from what the learned rows have on average."""
        made = np.zeros(x.shape)
        _walk(*self[:7], np.ascontiguousarray(x), np.zeros(len(x)), made)
        return made

    def state(self) -> State:
        return {f"forest_{name}": getattr(self, name) for name in self._fields}

    @classmethod
    def of(cls, state: State) -> Forest:
        return cls(**{name: state[f"forest_{name}"] for name in cls._fields})


@compiled
def _walk(
    root: np.ndarray, feature: np.ndarray, threshold: np.ndarray, unknown_left: np.ndarray, left: np.ndarray,
    right: np.ndarray, value: np.ndarray, x: np.ndarray, out: np.ndarray, made: np.ndarray,
) -> None:  # fmt: skip
    for first in range(0, len(x), AT_ONCE):
        for tree in range(len(root)):
            for row in range(first, min(first + AT_ONCE, len(x))):
                at = root[tree]
                begin = value[at]
                while feature[at] >= 0:
                    f = feature[at]
                    told = x[row, f]
                    down = unknown_left[at] if np.isnan(told) else told <= threshold[at]
                    below = left[at] if down else right[at]
                    if len(made):
                        made[row, f] += value[below] - value[at]
                    at = below
                out[row] += value[at] - begin
