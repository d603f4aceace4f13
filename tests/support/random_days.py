"""Days in the life of a random shop, one load each: late facts, corrections, merges, and what is rare."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pyarrow as pa
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.data.persons import Persons

from support.lakes import publish_rows
from support.random_shop import Rows, random_shop
from support.shop_tables import ago, event, lake_with, order, table

RARE = ("products", "external", "exchange_rates", "customers", "devices", "coupons")
EDGES = (0, 7, 14, 30, 60, 90, 180, 365, 366)
PERSONS = pa.schema(
    [("customer_id", pa.string()), ("person_id", pa.string())]
    + [(name, pa.timestamp("us", "UTC")) for name in ("since", "until")]
)


class RandomDays:
    """`first` makes a lake with more than a year; `load` what comes in the 24 hours up to ago(day)."""

    def __init__(self, seed: int, lake: Lake, size: int = 25) -> None:
        self.rng, self.lake, self.size = random.Random(seed), lake, size
        self.held: Rows = {name: [] for name in CONTRACT}
        self.persons: list[dict[str, Any]] = []

    def first(self, day: int) -> None:
        rows = random_shop(self.rng, ago(day + 400), ago(day), "x", self.size)
        rows["events"] += list(self._anonymous(ago(day + 30), "x"))
        for edge in EDGES[1:]:  # guests, whose only order crosses an edge on the next day
            head, lines = order(f"guest{edge}", f"guest{edge}", ago(day - 0.5 + edge), ("p1", 1, 10))
            rows["orders"].append(head)
            rows["order_lines"] += lines
        self._publish(rows, "x")

    def load(self, day: int) -> list[str]:
        """Returns what was rare on this day."""
        rng, start, end = self.rng, ago(day + 1), ago(day)
        rows = random_shop(rng, start, end, f"d{day}-", size=self.size)
        few = {name: [row for row in body if rng.random() < 0.04] for name, body in rows.items()}
        for name in RARE:
            if rng.random() < 0.8:
                few[name] = []
        orders = {row["order_id"] for row in few["orders"]}
        few["order_lines"] = [row for row in rows["order_lines"] if row["order_id"] in orders]
        few["events"] += self._anonymous(start, f"d{day}-")
        self._late(few, start, end)
        self._corrected(few, end)
        done = self._rare(day, few)
        self._publish(few, f"d{day}")
        return done

    def _anonymous(self, since: Any, prefix: str) -> Any:
        """Visits before and after somebody logs in, of visitors that one or two share."""
        for n in range(3):
            visitor, who = f"v{self.rng.randrange(6)}", self.rng.choice([None, None, f"c{self.rng.randrange(4)}"])
            at = since + timedelta(hours=self.rng.random() * 24)
            yield event(f"{prefix}v{n}", who, at, "view_item", visitor_id=visitor, product_id="p1", session_id=visitor)

    def _late(self, rows: Rows, start: Any, end: Any) -> None:
        """Facts that happened long ago, or at the very edge of a window, or are known before they happen."""
        for body, happened, known in (
            (rows["events"], "occurred_at", "received_at"),
            (rows["message_events"], "occurred_at", "received_at"),
            (rows["orders"], "ordered_at", "updated_at"),
        ):
            for row in body:
                row[known] = row.get(known) or row[happened]
                if (chance := self.rng.random()) < 0.15:
                    row[happened] = end - timedelta(
                        days=self.rng.choice([1, 20, 89, 91, 200, 380]), seconds=self.rng.random()
                    )
                elif chance < 0.4:
                    near = self.rng.choice([-1, -0.3, 0, 0.3, 1])
                    row[happened] = end - timedelta(days=self.rng.choice(EDGES), seconds=near)
                    row[known] = max(row[known], start + timedelta(seconds=1))
        for row in rows["messages_history"]:
            if self.rng.random() < 0.3:
                row["sent_at"] = end - timedelta(days=self.rng.choice(EDGES), seconds=self.rng.choice([-1, 0, 1]))

    def _corrected(self, rows: Rows, end: Any) -> None:
        """Orders and lines of earlier days in another version; some of another customer."""
        rng, at = self.rng, end - timedelta(hours=1)
        for _ in range(2):
            order = dict(rng.choice(self.held["orders"]))
            what = rng.choice(("status", "customer_id", "currency", "ordered_at", "coupon_code"))
            order[what] = {
                "status": rng.choice(("cancelled", "returned", "placed")),
                "customer_id": f"c{rng.randrange(self.size + 3)}",
                "currency": rng.choice(("GBP", "USD")),
                "ordered_at": order["ordered_at"] - timedelta(days=rng.choice((1, 100))),
                "coupon_code": "C2",
            }[what]
            rows["orders"].append({**order, "updated_at": at})
            line = rng.choice(self.held["order_lines"])
            rows["order_lines"].append({**line, "quantity": rng.choice((1.0, -1.0, 5.0)), "updated_at": at})

    def _rare(self, day: int, rows: Rows) -> list[str]:
        rng, done = self.rng, []
        if rng.random() < 0.3:
            self._people(day)
            done.append("merged")
        if rng.random() < 0.1:
            erased = f"c{rng.randrange(self.size)}"
            persons = Persons(self.lake)
            persons.erase(persons.find([erased]))
            done.append("erased")
        if rng.random() < 0.1:  # an interval is loaded again, and lacks a row
            again = [row for row in self.held["events"] if row["event_id"].startswith("x")]
            lake_with(self.lake.settings.home, {"events": again[1:]}, "x")
            done.append("loaded again")
        if rng.random() < 0.2 and (small := [key for key in self.lake.intervals("events") if key != "x"]):
            self.lake.merge(("events",), small, f"until-{day}")
            done.append("compacted")
        return done

    def _people(self, day: int) -> None:
        """Somebody belongs to somebody else from now on, or doesn't any more."""
        now = ago(day, hours=-1) - timedelta(hours=2)
        held = [row for row in self.persons if row["until"] is None]
        if held and self.rng.random() < 0.5:
            self.rng.choice(held)["until"] = now
        else:
            one, other = self.rng.sample(range(self.size), 2)
            taken = {row[name] for row in held for name in ("customer_id", "person_id")}
            if not taken & {f"c{one}", f"c{other}"}:
                row = {"customer_id": f"c{one}", "person_id": f"c{other}", "since": now, "until": None}
                self.persons.append(row)
        publish_rows(self.lake, "identity", "current", pa.Table.from_pylist(self.persons, schema=PERSONS))

    def _publish(self, rows: Rows, interval: str) -> None:
        for name, body in rows.items():
            if body:
                self.held[name] += body
        parts = {name: self.lake.write(name, table(name, body)) for name, body in rows.items() if body}
        self.lake.commit(interval, parts)
