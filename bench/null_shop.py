"""How often the verdict claims an effect in a shop where no message has one, beside judging anew every day.

`python -m bench null_shop`. Each campaign is of its own name, so that its arms are drawn afresh (`campaigns.arms`); its
customers, moment and holdout share vary; the orders are those of a simulated shop, which no message touches; the
counting and the verdict are the product's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from controltower.campaigns.arms import GLOBAL_HOLDOUT, HOLDOUT, assign, units
from controltower.data.lake import Lake, Reading
from controltower.measurement.intervals import wilson
from controltower.measurement.orders import counted
from controltower.measurement.readout import Group, Member, Window, compare, people, tally, verdict
from controltower.settings import Settings
from controltower.simulation.parameters import Parameters
from controltower.simulation.shop import generate

UNTIL = datetime.fromisoformat("2026-06-05T07:00:00+09:00")
SHARES = (0.1, 0.2, 0.5)
DAYS = 7
DAY = timedelta(days=1)
CAMPAIGNS, NAIVE, AT_ONCE = 2000, 400, 50


def run() -> list[dict[str, Any]]:
    with simulated_shop(customers=1500, days=180) as shop:
        campaigns = shop.campaigns(CAMPAIGNS)
        claims = sum(found.verdict == "effect" for found in shop.judge(campaigns))
        daily = zip(*(shop.judge(campaigns[:NAIVE], day) for day in range(1, DAYS + 1)), strict=True)
        naive = sum(any(found.shown for found in looks) for looks in daily)
    low, high = wilson(claims, CAMPAIGNS)
    name = f"claims in {CAMPAIGNS:,} null campaigns ({100 * low:.1f} to {100 * high:.1f}); naive: judged daily"
    return [{"name": name, "value": 100 * claims / CAMPAIGNS, "unit": "%", "naive": 100 * naive / NAIVE}]


@dataclass(frozen=True)
class Campaign:
    """A campaign of which every message left; `lift`: the share of its treated who order because of it."""

    name: str
    at: datetime
    holdout: float
    lift: float = 0.0


@dataclass(frozen=True)
class Judged:
    """What was found about a campaign."""

    campaign: Campaign
    treated: Group
    holdout: Group
    verdict: str
    difference: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass
class Shop:
    """A simulated shop's orders, with the customers that can be written to."""

    reading: Reading
    customers: Sequence[str]
    orders: pa.Table

    def campaigns(self, number: int, lift: float = 0.0, holdouts: Sequence[float] = SHARES) -> list[Campaign]:
        """Spread over the days that have a whole window after them."""
        first, last = (self.orders["ordered_at"].to_pylist()[i] for i in (0, -1))
        days = (last - first).days - 2 * DAYS
        return [
            Campaign(f"campaign_{n}", first + (DAYS + n * 37 % days) * DAY, holdouts[n % len(holdouts)], lift)
            for n in range(number)
        ]

    def judge(self, campaigns: Sequence[Campaign], days: int = DAYS) -> Iterator[Judged]:
        """Each campaign, with the orders of its first days."""
        for start in range(0, len(campaigns), AT_ONCE):
            yield from self._judge(campaigns[start : start + AT_ONCE], days)

    def _judge(self, campaigns: Sequence[Campaign], days: int) -> Iterator[Judged]:
        who, orders = [], [self.orders]
        for n, campaign in enumerate(campaigns):
            members = self.members(campaign, f"{n}:" if campaign.lift else "")
            who.append(people(n, members, days * DAY))
            if campaign.lift:  # it has a shop of its own, as it were
                orders += [_renamed(self.orders, f"{n}:"), _caused(campaign, members, self.orders.schema)]
        found = tally(self.reading, pa.concat_tables(who), ibis.memtable(pa.concat_tables(orders)), UNTIL, "KRW")
        for n, campaign in enumerate(campaigns):
            treated, holdout = found[n][True], found[n][False]
            window = Window(campaign.at, days, campaign.at + days * DAY)
            word = verdict(treated, holdout, window, left=1, recorded=False)
            shown = compare(treated, holdout)
            yield Judged(campaign, treated, holdout, word, shown["difference"], shown["low"], shown["high"])

    def members(self, campaign: Campaign, prefix: str = "") -> list[Member]:
        """Everybody but the global holdout, in their arms."""
        shares = {"holdout": campaign.holdout, "global_holdout": 0.02, "weights": {"a": 1.0, "b": 1.0}}
        drawn = assign(campaign.name, np.arange(len(self.customers)), **shares)
        arms = [drawn.names[code] for code in drawn.code.tolist()]
        return [
            (n, prefix + customer, arm != HOLDOUT, campaign.at)
            for n, (customer, arm) in enumerate(zip(self.customers, arms, strict=True)) if arm != GLOBAL_HOLDOUT
        ]  # fmt: skip


def _renamed(orders: pa.Table, prefix: str) -> pa.Table:
    names = pc.binary_join_element_wise(prefix, orders["customer_id"], "")
    return orders.set_column(orders.schema.get_field_index("customer_id"), "customer_id", names)


def _caused(campaign: Campaign, members: Sequence[Member], schema: pa.Schema) -> pa.Table:
    """The orders that a campaign with an effect causes."""
    moved = units(f"moved:{campaign.name}", [b"%d" % subject for subject, *_ in members]) < campaign.lift
    rows = [
        {"customer_id": customer, "order_id": f"caused-{customer}", "ordered_at": campaign.at + DAY,
         "currency": "KRW", "bought": True, "revenue": Decimal(20_000)}
        for (_, customer, treated, _), moves in zip(members, moved, strict=True)
        if treated and moves
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema)


@contextmanager
def simulated_shop(customers: int, days: int) -> Iterator[Shop]:
    """The orders of a simulated shop, counted as reports count them, in a lake of its own."""
    parameters = Parameters.load(customers=customers, days=days, broken_share=0.0, visits={"anonymous_per_day": 4})
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        generate(made, until=UNTIL, parameters=parameters, seed=3)
        lake = Lake(Settings(home=Path(folder) / "home"))
        for table in ("orders", "order_lines"):
            lake.commit("all", {table: lake.write(table, pq.read_table(made / f"{table}.parquet"))})
        with lake.read() as reading:
            orders = reading.arrow(
                counted(reading.table("orders"), reading.table("order_lines")).order_by("ordered_at")
            )
            known = pq.read_table(made / "customers.parquet")["customer_id"].unique().to_pylist()
            yield Shop(reading, sorted(known), orders)
