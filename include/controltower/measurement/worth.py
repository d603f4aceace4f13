"""Measuring a run: its funnel, what is credited to it, and its comparison, from the ledger and the lake.

What bounds it: the counting of messages is the database's, that of orders DuckDB's. In Python are, one small object
each, only the orders of the time looked at and the messages to customers who ordered in it; of what left in that time
each message is looked at once (some microseconds). A comparison's customers are one Arrow table of some 50 bytes a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import ibis
import sqlalchemy as sa

from controltower.data.lake import Lake, Reading
from controltower.ledger import cohorts, funnels, runs
from controltower.ledger.merges import stepped_back
from controltower.ledger.runs import Run
from controltower.ledger.sends import sends, undelivered
from controltower.measurement.attribution import Credit, Order, Touch, attribute, credits
from controltower.measurement.funnel import Funnel, funnel
from controltower.measurement.orders import counted
from controltower.measurement.readout import Group, Window, people, tally
from controltower.shop import Shop

if TYPE_CHECKING:
    import pyarrow as pa


Stretch = tuple[datetime, datetime]
BEGINNING = datetime.min.replace(tzinfo=UTC)  # of a load without a start


def window_days(run: Run, shop: Shop) -> int:
    """How long a message of this run may have caused an order: as its spec says, else as the shop does."""
    return int(run.spec.get("attribution_days") or shop.attribution_days)


def loaded(lake: Lake) -> list[list[Stretch]]:
    """The intervals that were loaded of each table that tells of orders, the oldest first.

    A refused load publishes none. An interval that isn't named `start/end` doesn't tell.
    """
    return [sorted(filter(None, map(_stretch, lake.intervals(table)))) for table in ("orders", "order_lines")]


def _stretch(interval: str) -> Stretch | None:
    start, _, end = interval.partition("/")
    try:
        starts = BEGINNING if start == ".." else datetime.fromisoformat(start).astimezone(UTC)
        return starts, datetime.fromisoformat(end).astimezone(UTC)
    except ValueError:
        return None


def known_until(tables: Iterable[list[Stretch]], since: datetime, as_of: datetime) -> datetime | None:
    """Up to when all of these tables are known, as far as their intervals join up from `since` on; None: they never
    were loaded.

    A gap ends it, also where something was loaded behind it. One that was over before `since` takes nothing away.
    """
    ends = []
    for stretches in tables:
        known: datetime | None = None
        for start, end in stretches:
            if start <= since or (known and start <= known):
                known = max(known or end, end)
        if known is None:
            return None
        ends.append(known)
    return min(*ends, as_of)


@dataclass(frozen=True)
class Worth:
    """What measuring a run found."""

    run: Run
    funnel: Funnel
    credit: Credit
    window: Window
    groups: Mapping[bool, Group]
    left: int  # messages of the compared runs that left
    written_to: int  # held-out customers who got a message of the campaign all the same
    left_out: Mapping[str, int]

    @property
    def final(self) -> bool:
        """Whether nothing more is to come: a run that is held back has its window before it, once it is let go."""
        return self.window.closed and not (self.run.hold and self.funnel.run["waiting"])


class Measuring:
    """One consistent look at ledger and lake as of a moment, from `since` on: the planning of the earliest run that is
    measured, or of an earlier version of its occasion. `tables` is what `loaded` found, before the lake was opened.

    Orders and what they are credited to are found once, for every run that is measured with it.
    """

    def __init__(
        self, shop: Shop, ledger: sa.Connection, lake: Reading, tables: Sequence[list[Stretch]], since: datetime,
        as_of: datetime,
    ) -> None:  # fmt: skip
        self.shop, self.as_of = shop, as_of
        self._ledger, self._lake, self._tables, self._since = ledger, lake, tables, since

    def measure(self, run: Run) -> Worth:
        days = window_days(run, self.shop)
        window = timedelta(days=days)
        cohort = cohorts.cohort(self._ledger, run, self.as_of)
        first, last = min(cohort.starts.values()), max(cohort.starts.values())
        became = {run_id: self._funnel(run_id) for run_id in {run.run_id, *cohort.starts}}
        who = people(run.run_id, cohorts.members(self._ledger, cohort), window)
        groups = tally(self._lake, who, ibis.memtable(self._orders), self.as_of, self.shop.currency)
        return Worth(
            run,
            became[run.run_id],
            credits(self._attributed, run.run_id, self.shop.currency),
            Window(last, days, known_until(self._tables, first, self.as_of)),
            groups.get(run.run_id, {True: Group(), False: Group()}),
            sum(became[compared].run["accepted"] for compared in cohort.starts),
            cohorts.held_out_and_written_to(self._ledger, cohort, window, self.as_of),
            cohort.left_out,
        )

    def _funnel(self, run_id: int) -> Funnel:
        audience = funnels.audience(self._ledger, [run_id])
        return funnel(audience[run_id], funnels.cells(self._ledger, [run_id], self.as_of)[run_id])

    @cached_property
    def _orders(self) -> pa.Table:
        orders, lines = self._lake.table("orders"), self._lake.table("order_lines")
        wanted = orders.filter(orders.ordered_at >= self._since, orders.ordered_at <= self.as_of)
        return self._lake.arrow(counted(wanted, lines))

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
            for run in runs.planned(self._ledger, until=self.as_of)
        }
        reached_nobody = undelivered(self._ledger, self._since, self.as_of)
        just_before = self._since - timedelta(seconds=1)  # something may leave at the moment of planning
        now = stepped_back(self._ledger)
        for sent in sends(self._ledger, since=just_before, until=self.as_of, as_of=self.as_of):
            subject = now.get(sent.subject_id, sent.subject_id)
            if subject in subjects and sent.message_id not in reached_nobody:
                yield Touch(
                    sent.seq, sent.run_id, subject, sent.channel, sent.variant, sent.sent_at,
                    windows[sent.run_id],
                )  # fmt: skip
