"""What is inferred: gender and age with probabilities, and where too little is known to say one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from controltower.models.traits import ages
from controltower.models.traits.items import Histories
from controltower.models.traits.model import Trait
from controltower.profiles import told

GENDERS: Final = tuple(told.GENDERS)  # what can be inferred; another one can only be told
SURE: Final = 0.7  # the least probability at which a gender is said
WIDEST: Final = 16  # years: an age is said where the middle 80 % of its probability spans no more
_OF_BANDS: Final = tuple(f"inferred_age_{band}_probability" for band in ages.BANDS)


def says_gender(p: np.ndarray) -> np.ndarray:
    """Which rows of probabilities (n, GENDERS) are sure enough to say."""
    return np.asarray(p.max(axis=1) >= SURE)


def says_age(p: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Which rows of probabilities (n, ages.BANDS) are sure enough to say; `shares`: see `ages.within`."""
    _, low, high = ages.summary(ages.by_year(p, shares))
    return np.asarray(high - low <= WIDEST)


def gender(model: Trait, histories: Histories) -> dict[str, pa.Array]:
    """`inferred_` columns by customer. Of whom the items tell nothing there is none, not even the prior: a rule on a
    probability would take all of them, or none."""
    p, tells = model.predict(histories), model.tells(histories)
    return {
        "inferred_gender": pa.array(np.array(GENDERS)[p.argmax(axis=1)], pa.string(), mask=~(says_gender(p) & tells)),
        **{f"inferred_{name}_probability": pa.array(p[:, n], mask=~tells) for n, name in enumerate(GENDERS)},
    }


def age(model: Trait, histories: Histories) -> dict[str, pa.Array]:
    """`inferred_` columns by customer: the likeliest band, the median age with its range, each band's probability. Of
    whom the items tell nothing there is none."""
    p, tells = model.predict(histories), model.tells(histories)
    middle, low, high = ages.summary(ages.by_year(p, model.shares))
    said = says_age(p, model.shares) & tells
    columns = {"inferred_age": middle, "inferred_age_from": low, "inferred_age_to": high}
    return {
        **{name: pa.array(values, pa.int64(), mask=~said) for name, values in columns.items()},
        "inferred_age_band": pa.array(np.array(ages.BANDS)[p.argmax(axis=1)], pa.string(), mask=~said),
        **{name: pa.array(p[:, n], mask=~tells) for n, name in enumerate(_OF_BANDS)},
    }


def by_year(model: Trait, row: Mapping[str, Any]) -> dict[int, float]:
    """The probability of each year of age of a row with `age`'s columns; empty where nothing was told."""
    bands = np.array([[row[name] for name in _OF_BANDS if row.get(name) is not None]])
    if not bands.size:
        return {}
    return dict(zip(ages.YEARS.tolist(), ages.by_year(bands, model.shares)[0].tolist(), strict=True))
