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


def says_gender(p: np.ndarray) -> np.ndarray:
    """Which rows of probabilities (n, GENDERS) are sure enough to say."""
    return np.asarray(p.max(axis=1) >= SURE)


def says_age(p: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Which rows of probabilities (n, ages.BANDS) are sure enough to say; `shares`: see `ages.within`."""
    _, low, high = ages.summary(ages.by_year(p, shares))
    return np.asarray(high - low <= WIDEST)


def gender(model: Trait, histories: Histories) -> dict[str, pa.Array]:
    """`inferred_` columns by customer. Of whom the items tell nothing, the prior is all there is: none is said."""
    p = model.predict(histories)
    said = says_gender(p) & model.tells(histories)
    return {
        "inferred_gender": pa.array(np.array(GENDERS)[p.argmax(axis=1)], pa.string(), mask=~said),
        **{f"inferred_{name}_probability": pa.array(p[:, n]) for n, name in enumerate(GENDERS)},
    }


def age(model: Trait, histories: Histories) -> dict[str, pa.Array]:
    """`inferred_` columns by customer: the likeliest band, the median age with its range, each band's probability."""
    p = model.predict(histories)
    middle, low, high = ages.summary(ages.by_year(p, model.shares))
    said = says_age(p, model.shares) & model.tells(histories)
    columns = {"inferred_age": middle, "inferred_age_from": low, "inferred_age_to": high}
    return {
        **{name: pa.array(values, pa.int64(), mask=~said) for name, values in columns.items()},
        "inferred_age_band": pa.array(np.array(ages.BANDS)[p.argmax(axis=1)], pa.string(), mask=~said),
        **{f"inferred_age_{band}_probability": pa.array(p[:, n]) for n, band in enumerate(ages.BANDS)},
    }


def by_year(model: Trait, row: Mapping[str, Any]) -> dict[int, float]:
    """The probability of each year of age of a row with `age`'s columns."""
    bands = np.array([[row[f"inferred_age_{band}_probability"] for band in ages.BANDS]])
    return dict(zip(ages.YEARS.tolist(), ages.by_year(bands, model.shares)[0].tolist(), strict=True))
