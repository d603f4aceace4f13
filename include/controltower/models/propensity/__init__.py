"""How likely a customer buys within the next 1, 7 and 28 days, why, and of which products."""

from controltower.models.boosting import OF_THE_DAY
from controltower.models.propensity.classifiers import (
    KINDS,
    BaseRate,
    Classifier,
    RfmLogistic,
    TreesAndLogistic,
    has_facts,
)
from controltower.models.propensity.products import for_products
from controltower.models.propensity.reasons import reasons
from controltower.models.propensity.snapshots import MOST_ROWS, Snapshot, drawn, judged_dates, label, snapshot_times
from controltower.models.propensity.training import train

__all__ = [
    "KINDS", "MOST_ROWS", "OF_THE_DAY", "BaseRate", "Classifier", "RfmLogistic", "Snapshot", "TreesAndLogistic",
    "drawn", "for_products", "has_facts", "judged_dates", "label", "reasons", "snapshot_times", "train",
]  # fmt: skip
