"""How boosted trees (scikit-learn's HistGradientBoosting) are set that learn from the features of customers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from controltower.models.base import ModelConfig

# The same for all of a place on a day: of twelve snapshots they tell which one it is, not who buys. Left out.
OF_THE_DAY = frozenset(("days_to_holiday", "days_to_festival", "weather", "temperature", "precipitation"))


class Boosting(ModelConfig):
    """Small trees, which see a share of the features at each split and are strongly regularised."""

    iterations: int = 200
    learning_rate: float = 0.03
    leaves: int = 8
    leaf_rows: int = 80
    l2: float = 10.0
    feature_share: float = 0.1

    def for_rows(self, rows: int) -> dict[str, Any]:
        """What to tell scikit-learn where there are so many rows to learn from."""
        return {
            "max_iter": self.iterations,
            "learning_rate": self.learning_rate,
            "max_leaf_nodes": self.leaves,
            "min_samples_leaf": min(self.leaf_rows, max(5, rows // 20)),
            "l2_regularization": self.l2,
            "max_features": self.feature_share,
            "early_stopping": False,
            "random_state": self.seed,
        }


def telling(features: pd.DataFrame) -> list[str]:
    """The columns that differ between rows and aren't of the day alone."""
    # scikit-learn 1.9 crashes on an all-NaN column, and a constant one tells nothing
    low, high = features.min(), features.max()
    return [c for c in features.columns if c not in OF_THE_DAY and low[c] < high[c]]
