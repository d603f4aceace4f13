"""What becomes of a message whose answer was lost, and of which nothing came back: a function of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from controltower.ledger.unknowns import Lost
from controltower.shop import Shop

Verdict = Literal["wait", "give_up", "reopen"]
_LONGEST = 72  # hours, for a channel of which neither spec nor shop says anything


@dataclass(frozen=True)
class Policy:
    """How long to wait for what may come back, by channel, and whether to send again then."""

    again: bool
    hours: Mapping[str, int]

    @classmethod
    def of(cls, spec: Mapping[str, Any], shop: Shop) -> Policy:
        """As a run's frozen spec says, else as the shop does."""
        return cls(spec.get("delivery") == "at_least_once", {**shop.grace_hours, **spec.get("grace_hours", {})})

    def verdict(self, lost: Lost, *, planned: bool, heard: datetime, now: datetime) -> Verdict:
        """`heard`: until when everything that came back was read; `planned`: the run wasn't stopped or replaced."""
        if heard < lost.since + timedelta(hours=self.hours.get(lost.channel, _LONGEST)):
            return "wait"
        return "reopen" if self.again and planned and now < lost.expires_at else "give_up"
