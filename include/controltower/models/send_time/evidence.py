"""When customers were active: one row a customer, channel and clock hour, by the customer's own clock.

What customers did by themselves (events, purchases) has the channel "". What they did with a message (opened, clicked)
has the message's channel, and stands beside how many messages reached them in which hours: we chose those.

Left out are openings and clicks that a program made: those that the provider flags, and those within MACHINE_SECONDS of
a mail's delivery.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from controltower.profiles.facts import Facts, gather
from controltower.profiles.facts.messages import REACTIONS, sent_by
from controltower.profiles.facts.tables import Tables
from controltower.profiles.local_time import epoch, with_local_seconds
from controltower.profiles.portable import DAY, seconds, whole
from controltower.shop import Shop

LOOK_BACK_DAYS = 365
MACHINE_SECONDS = 10  # nobody reads a mail so soon; a proxy or a scanner does
HOURS = 168
OWN = ""  # the channel of what wasn't done with a message

# From the least telling to the most; of what was done in one clock hour the most telling counts.
SENT, OPENED, FOLLOWED, IN_STORE, CLICKED, VISITED, ORDERED = range(7)


def active_hours(tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, channel, hour (local clock hours since 1970), second (epoch), kind, sent, lag.

    `kind` is the most telling thing done in that hour (SENT: nothing but that a message was sent), `sent` the number of
    messages sent, `lag` the whole hours since the message that was answered (-1 where none was). FOLLOWED are events
    with a click_id. Events and orders in a store tell when the store is open: IN_STORE. Nothing received after as_of
    counts, nothing older than LOOK_BACK_DAYS.
    """
    since = as_of - timedelta(days=LOOK_BACK_DAYS)
    facts = gather(tables, as_of, shop)
    events = tables("events")
    events = events.filter(events.customer_id.notnull(), events.occurred_at <= as_of, events.occurred_at > since)
    visits = events.select(
        "customer_id",
        second=seconds(events.occurred_at),
        kind=ibis.cases(
            (events.channel.fill_null("") == "store", IN_STORE), (events.click_id.notnull(), FOLLOWED), else_=VISITED
        ),
    )
    orders = facts.orders.filter(facts.orders.second > epoch(since))
    bought = orders.select(
        "customer_id",
        "second",
        kind=ibis.ifelse(orders.channel.fill_null("") == "store", IN_STORE, ORDERED),
    )
    sent, answered = _messages(facts, since)
    alone = [_act(acts, ibis.literal(OWN), acts.kind, 0, ibis.literal(-1)) for acts in (visits, bought)]
    sends = _act(sent, sent.channel, ibis.literal(SENT), 1, ibis.literal(-1))
    acts = ibis.union(*alone, sends, answered)
    local = with_local_seconds(acts, facts.zones, as_of, shop)
    hourly = local.mutate(hour=whole(local.local_second, ibis.literal(3600)))
    return hourly.group_by("customer_id", "channel", "hour").aggregate(
        second=hourly.second.min(), kind=hourly.kind.max(), sent=hourly.sent.sum(), lag=hourly.lag.max()
    )


def _messages(facts: Facts, since: datetime) -> tuple[ir.Table, ir.Table]:
    """Messages sent, and what people did with them as acts."""
    history, events = sent_by(facts.tables("messages_history"), facts.as_of), facts.tables("message_events")
    history = history.filter(history.sent_at > since)
    sent = history.group_by("message_id").aggregate(
        customer_id=history.customer_id.min(), channel=history.channel.min(), second=seconds(history.sent_at.min())
    )
    arrived = events.filter(events.event == "delivered", events.occurred_at <= facts.as_of)
    arrived = arrived.group_by("message_id").aggregate(arrived=seconds(arrived.occurred_at.min()))
    reactions = facts.reactions.filter(facts.reactions.event.isin(REACTIONS)).select("message_id", "event", at="second")
    joined = reactions.inner_join(sent, "message_id").left_join(arrived, "message_id")
    soon = joined.at - joined.arrived.coalesce(joined.second) < MACHINE_SECONDS
    joined = joined.filter(~(soon & (joined.channel == "email")), joined.at > epoch(since))
    kind = ibis.ifelse(joined.event == "clicked", CLICKED, OPENED)
    lag = whole((joined.at - joined.second).clip(lower=0), ibis.literal(3600))
    acts = joined.select("customer_id", "channel", second=joined.at, kind=kind, lag=lag)
    return sent, _act(acts, acts.channel, acts.kind, 0, acts.lag)


def _act(acts: ir.Table, channel: ir.Value, kind: ir.Value, sent: int, lag: ir.Value) -> ir.Table:
    return acts.select(
        "customer_id",
        "second",
        channel=channel.cast("string"),
        kind=kind.cast("int64"),
        sent=ibis.literal(sent, "int64"),
        lag=lag.cast("int64"),
    )


@dataclass(frozen=True)
class Hours:
    """Active hours as arrays: one place a row of `active_hours`.

    `customer_ids` (n,) and `channels` name what `customer` and `channel` count; `slot` is the hour of the week (0:
    Monday 0:00), `day` whole days before as_of.
    """

    customer_ids: np.ndarray
    channels: tuple[str, ...]
    customer: np.ndarray  # int32
    channel: np.ndarray  # int8
    slot: np.ndarray  # uint8
    day: np.ndarray  # int16
    kind: np.ndarray  # int8
    sent: np.ndarray  # int16
    lag: np.ndarray  # int16

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], as_of: datetime, customer_ids: np.ndarray | None = None) -> Self:
        """Rows of `active_hours`, in whatever order they come; those of customers who aren't asked for are left out.

        20 bytes a row, and no more than one batch of text at a time where `customer_ids` are given: a million customers
        with 30 million active hours are 0.6 GB.
        """
        if customer_ids is None:
            batches = list(batches)
            found = [batch.column("customer_id").unique() for batch in batches]
            known = pa.chunked_array(found, pa.string()).unique().sort()
            customer_ids = known.to_numpy(zero_copy_only=False).astype(np.str_)
        known = pa.array(customer_ids, pa.string())
        channels = [OWN]
        parts: list[tuple[np.ndarray, ...]] = []
        for batch in batches:
            at = pc.index_in(batch.column("customer_id").cast(pa.string()), known)
            mask = at.is_valid()
            kept = batch.filter(mask)
            channels += [c for c in kept.column("channel").unique().to_pylist() if c not in channels]
            channel = pc.index_in(kept.column("channel").cast(pa.string()), pa.array(channels, pa.string()))
            hour, second, kind, sent, lag = (
                kept.column(c).cast(pa.int64()).to_numpy()  # an engine may sum into decimals
                for c in ("hour", "second", "kind", "sent", "lag")
            )
            day = (epoch(as_of) - second) // DAY
            parts.append((
                hour, at.drop_null().to_numpy().astype(np.int32), channel.to_numpy().astype(np.int8), slot_of(hour),
                day.astype(np.int16), kind.astype(np.int8), sent.astype(np.int16), lag.clip(max=9_999).astype(np.int16),
            ))  # fmt: skip
        types = (np.int64, np.int32, np.int8, np.uint8, np.int16, np.int8, np.int16, np.int16)
        clock, *columns = (
            [np.concatenate([part[i] for part in parts]) for i in range(len(types))]
            if parts
            else [np.zeros(0, kind) for kind in types]
        )
        names = sorted(channels)
        columns[1] = np.array([names.index(c) for c in channels], np.int8)[columns[1]]
        if len(clock):  # in one order: sums of equal hours are equal to the last bit
            hours = clock - clock.min()
            order = np.argsort((columns[0] * (hours.max() + 1) + hours) * len(names) + columns[1])
            columns = [column[order] for column in columns]
        return cls(np.asarray(customer_ids, np.str_), tuple(names), *columns)

    def __len__(self) -> int:
        return len(self.customer)

    def where(self, mask: np.ndarray, shift: int = 0) -> Hours:
        """The rows of a mask, as of `shift` days earlier."""
        return replace(
            self, customer=self.customer[mask], channel=self.channel[mask], slot=self.slot[mask],
            day=self.day[mask] - np.int16(shift), kind=self.kind[mask], sent=self.sent[mask], lag=self.lag[mask],
        )  # fmt: skip

    def of_customers(self, rows: np.ndarray) -> Hours:
        """Only the customers at these positions (sorted), who become 0 to len(rows) - 1."""
        new = np.full(len(self.customer_ids), -1, np.int32)
        new[rows] = np.arange(len(rows), dtype=np.int32)
        kept = self.where(new[self.customer] >= 0)
        return replace(kept, customer_ids=self.customer_ids[rows], customer=new[kept.customer])


def slot_of(hour: np.ndarray) -> np.ndarray:
    """The hour of the week (0-167, Monday first) of clock hours since 1970, which began on a Thursday."""
    return ((hour + 72) % HOURS).astype(np.uint8)
