"""Why a customer's propensity is high or low: the features that moved it most, with their values. Content words them.

The moves are the path credits of the trees (forest.py) and coefficient x deviation of the logistic, summed; habits
count for the feature they are told as. They say what the model went by, not what would change if one changed it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from controltower.models.propensity.classifiers import AT_ONCE, Classifier

MOST = 3
LEAST = 0.05  # log-odds: what moves a probability by less than a twentieth of itself is no reason


def reasons(model: Classifier, features: pd.DataFrame) -> pa.ChunkedArray:
    """By row a JSON text: up to three [feature, value, effect], the strongest first.

    effect is in log-odds, + for more likely than the average; value is null where unknown.
    """
    parts = [_told(model, features.iloc[i : i + AT_ONCE]) for i in range(0, len(features), AT_ONCE)]
    return pa.chunked_array(parts, pa.string())


def _told(model: Classifier, features: pd.DataFrame) -> pa.Array:
    names, credits = model.credits(features)
    if not len(names):
        return pa.array(["[]"] * len(features), pa.string())
    values = features.reindex(columns=names.tolist()).to_numpy(float)
    size = np.abs(credits)
    most = min(MOST, len(names))
    top = np.argpartition(-size, most - 1, axis=1)[:, :most]
    rows = np.arange(len(features))[:, None]
    top = top[rows, np.argsort(-size[rows, top], axis=1, kind="stable")]
    quoted = pa.array([f'["{name}"' for name in names.tolist()])
    pieces = []
    for place in range(most):
        column = top[:, place]
        effect = credits[rows[:, 0], column]
        value = _text(values[rows[:, 0], column])
        piece = pc.binary_join_element_wise(quoted.take(pa.array(column)), value, _text(effect), ",")
        piece = pc.binary_join_element_wise(",", piece, "]", "")
        # "" and not null: pyarrow 26's join that skips nulls gives no rows where all are
        pieces.append(pc.if_else(pa.array(np.abs(effect) >= LEAST), piece, ""))
    inside = pc.ascii_ltrim(pc.binary_join_element_wise(*pieces, ""), ",")
    return pc.binary_join_element_wise("[", inside, "]", "")


def _text(numbers: np.ndarray) -> pa.Array:
    """Three significant digits at least, whole numbers whole; null where unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = np.clip(2 - np.floor(np.log10(np.abs(numbers))), 0, 12)
    scale = 10.0 ** np.nan_to_num(digits, nan=0, posinf=0)
    rounded = np.round(numbers * scale) / scale + 0.0  # no -0
    return pc.fill_null(pc.cast(pa.array(rounded, from_pandas=True), pa.string()), "null")
