"""When collections run: it is known when they are published, and looked at when a list is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import pyarrow as pa

DATES = ("starts_at", "ends_at")


@dataclass(frozen=True)
class Running:
    """From `starts` (NaT: ever since) until before `ends` (NaT: for ever); aligned datetime64[us], UTC."""

    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> Running | None:
        """By a table's columns DATES, null: not told; None where it has none."""
        if not set(DATES) <= set(table.column_names):
            return None
        return cls(*(table[name].cast(pa.timestamp("us")).to_numpy() for name in DATES))

    def at(self, now: datetime) -> np.ndarray:
        """Mask of those that run at a moment."""
        moment = _utc(now)
        return ~(self.starts > moment) & ~(self.ends <= moment)  # nothing is before or after NaT

    def passed(self, now: datetime) -> int:
        """How many of the starts and ends are over: as long as it is the same, the same run."""
        return int(np.searchsorted(self._edges, _utc(now), side="right"))

    @cached_property
    def _edges(self) -> np.ndarray:
        told = np.r_[self.starts, self.ends]
        return np.unique(told[~np.isnat(told)])


def _utc(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
