"""Measuring a run: its funnel, what is credited to it, and its comparison, from the ledger and the lake.

What bounds it: the counting of messages is the database's, that of orders DuckDB's. In Python are, one small object
each, only the orders of the time looked at and the messages to customers who ordered in it; of what left in that time
each message is looked at once (some microseconds). A comparison's customers are one Arrow table of some 50 bytes a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import ibis
import sqlalchemy as sa

from controltower.data.lake import Lake, Reading
from controltower.ledger import cohorts, funnels
from controltower.ledger.cohorts import Run
from controltower.ledger.sends import sends, undelivered
from controltower.measurement.attribution import Credit, Order, Touch, attribute, credits
from controltower.measurement.funnel import Funnel, funnel
from controltower.measurement.orders import counted
from controltower.measurement.readout import Group, Window, people, tally
from controltower.settings import Shop

if TYPE_CHECKING:
    import pyarrow as pa


def window_days(run: Run, shop: Shop) -> int:
    """How long a message of this run may have caused an order: as its spec says, else as the shop does."""
    return int(run.spec.get("attribution_days") or shop.attribution_days)


def known_until(lake: Lake, as_of: datetime) -> datetime:
    """Up to when orders are known: the end of the last load, if that was before `as_of`.

    Loads are named by their interval, `start/end`; one with another name doesn't tell.
    """
    ends = [end for name in lake.intervals("quarantine") if (end := _end(name))]
    return min(max(ends), as_of) if ends else as_of


def _end(interval: str) -> datetime | None:
    try:
        return datetime.fromisoformat(interval.rpartition("/")[2]).astimezone(UTC)
    except ValueError:
        return None


@dataclass(frozen=True)
class Worth:
    """What measuring a run found."""

    run: Run
    funnel: Funnel
    credit: Credit
    window: Window
    groups: Mapping[bool, Group]
    left_out: Mapping[str, int]


class Measuring:
    """One consistent look at ledger and lake as of a moment, from `since` on (the earliest run's planning).

    Orders and what they are credited to are found once, for every run that is measured with it.
    """

    def __init__(
        self, shop: Shop, ledger: sa.Connection, lake: Reading, since: datetime, as_of: datetime, known: datetime
    ) -> None:
        self.shop, self.as_of, self.known = shop, as_of, known
        self._ledger, self._lake, self._since = ledger, lake, since

    def measure(self, run: Run) -> Worth:
        days = window_days(run, self.shop)
        cohort = cohorts.cohort(self._ledger, run)
        who = people(run.run_id, cohorts.members(self._ledger, cohort), timedelta(days=days))
        groups = tally(self._lake, who, ibis.memtable(self._orders), self.as_of, self.shop.currency)
        return Worth(
            run,
            funnel(funnels.audience(self._ledger, run.run_id), funnels.cells(self._ledger, run.run_id, self.as_of)),
            credits(self._attributed, run.run_id, self.shop.currency),
            Window(run.planned_at, days, self.known),
            groups.get(run.run_id, {True: Group(), False: Group()}),
            cohort.left_out,
        )

    @cached_property
    def _orders(self) -> pa.Table:
        orders, lines = self._lake.table("orders"), self._lake.table("order_lines")
        # Versions of a run begin before it, by hours: their orders are wanted too.
        since = self._since - timedelta(days=2)
        return self._lake.arrow(
            counted(orders.filter(orders.ordered_at >= since, orders.ordered_at <= self.as_of), lines)
        )

    @cached_property
    def _attributed(self) -> list[tuple[Order, Touch]]:
        found = self._orders.to_pylist()
        subjects = cohorts.subjects_of(self._ledger, sorted({o["customer_id"] for o in found}))
        orders = [
            Order(o["order_id"], subjects[o["customer_id"]], o["ordered_at"], o["currency"], o["bought"], o["revenue"])
            for o in found
            if o["customer_id"] in subjects
        ]
        return attribute(self._touches({o.subject_id for o in orders}), orders)

    def _touches(self, subjects: set[int]) -> Iterable[Touch]:
        """What reached these subjects: whatever left, unless it bounced."""
        windows = {
            run.run_id: timedelta(days=window_days(run, self.shop))
            for run in cohorts.runs(self._ledger, planned_until=self.as_of)
        }
        reached_nobody = undelivered(self._ledger, self._since, self.as_of)
        just_before = self._since - timedelta(seconds=1)  # something may leave at the moment of planning
        for sent in sends(self._ledger, since=just_before, until=self.as_of, as_of=self.as_of):
            if sent.subject_id in subjects and sent.message_id not in reached_nobody:
                yield Touch(
                    sent.seq, sent.run_id, sent.subject_id, sent.channel, sent.variant, sent.sent_at,
                    windows[sent.run_id],
                )  # fmt: skip
