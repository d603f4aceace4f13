"""Counting messages for frequency caps: the one place where it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from controltower.ledger import merges, underway
from controltower.ledger.database import among
from controltower.ledger.tables import batches, campaign_runs, decisions, messages, outcomes
from controltower.shop import FrequencyCap

# A message with one of these last outcomes never reached the customer; an unknown one may have.
_NEVER_LEFT = ("not_sent", "rejected", "cancelled")


class Window(NamedTuple):
    """What counts: messages that left later than `since`, on one channel or (None) on all."""

    since: datetime
    channel: str | None = None


def full(
    connection: sa.Connection,
    caps: Sequence[FrequencyCap],
    channels: Collection[str],
    now: datetime,
    *,
    customers: Collection[str] | None = None,
    but_occurrence: int | None = None,
    but_run: int | None = None,
    with_planned: bool = True,
) -> dict[str, set[str]]:
    """By channel, the customers who had as many messages as a cap lets through; the rest is as for `counts`."""
    found: dict[str, set[str]] = {channel: set() for channel in channels}
    caps = [cap for cap in caps if cap.channel is None or cap.channel in found]
    windows = [Window(now - timedelta(days=cap.days), cap.channel) for cap in caps]
    sent = counts(
        connection, windows, now, customers,
        but_occurrence=but_occurrence, but_run=but_run, with_planned=with_planned,
    )  # fmt: skip
    for cap, counted in zip(caps, sent, strict=True):
        reached = {customer for customer, n in counted.items() if n >= cap.most}
        for channel in found if cap.channel is None else [cap.channel]:
            found[channel] |= reached
    return found


def counts(
    connection: sa.Connection,
    windows: Sequence[Window],
    until: datetime,
    customers: Collection[str] | None = None,
    *,
    but_occurrence: int | None = None,
    but_run: int | None = None,
    with_planned: bool = True,
) -> list[Counter[str]]:
    """For each window, messages per customer that left by `until`, and by default those planned by then that wait.

    Merged customers have those of all their person's ids. Wants one consistent look (database.reading): a batch that is
    done between two questions would count twice.
    `but_occurrence` leaves one occurrence out: a message doesn't stand in its own way, nor in its next version's.
    `but_run` leaves out one run's messages to the `customers`, of which none has left.
    """
    if not windows:
        return []
    found: list[Counter[str]] = [Counter() for _ in windows]
    families = merges.families(connection, customers)
    if families and customers is not None:
        customers = families.with_others(customers)
    if not with_planned:
        for customer, channel, at in _out_of_pending(connection, until, customers):
            for counted, window in zip(found, windows, strict=True):
                if window.channel in (None, channel) and at > window.since:
                    counted[customer] += 1
    since = min(w.since for w in windows)
    if but_run is None or with_planned or _others_left(connection, but_run, since, until):
        rows = _in_batches(windows, until, with_planned)
        if customers is not None:
            theirs = sa.select(decisions.c.seq).where(among(connection, decisions.c.customer_id, customers))
            if but_run is not None:
                theirs = theirs.where(decisions.c.run_id != but_run)
            rows = rows.where(messages.c.seq.in_(theirs))
        if but_occurrence is not None:
            rows = rows.where(campaign_runs.c.occurrence_id != but_occurrence)
        for customer, *numbers in connection.execute(rows):
            for counted, n in zip(found, numbers, strict=True):
                if n:
                    counted[customer] += n
    return [families.together(counted) for counted in found] if families else found


_ANY_DONE = sa.select(
    sa.exists().where(
        batches.c.run_id != sa.bindparam("run_id"),
        batches.c.done_at > sa.bindparam("since"),
        batches.c.done_at <= sa.bindparam("until"),
    )
)


def _others_left(connection: sa.Connection, run_id: int, since: datetime, until: datetime) -> bool:
    """Whether a batch of another run was done in that time: mostly none was, and nobody's messages need be counted."""
    return bool(connection.execute(_ANY_DONE, {"run_id": run_id, "since": since, "until": until}).scalar_one())


def _in_batches(windows: Sequence[Window], until: datetime, with_planned: bool) -> sa.Select[Any]:
    """By customer, for each window the messages in batches that are done, or wait."""
    m, b, r = messages.c, batches.c, campaign_runs.c
    waits = sa.and_(b.state == "pending", r.planned_at <= until)

    def within(window: Window) -> sa.ColumnElement[bool]:
        left = sa.and_(b.state == "done", b.done_at > window.since, b.done_at <= until)
        counted = sa.or_(left, waits) if with_planned else left
        return counted if window.channel is None else sa.and_(counted, b.channel == window.channel)

    return (
        sa.select(m.customer_id, *(sa.func.count().filter(within(w)) for w in windows))
        .join(batches, b.batch_id == m.batch_id)
        .join(campaign_runs, r.run_id == b.run_id)
        .where(within(Window(min(w.since for w in windows))), m.message_id.is_not(None), ~never_left())
        .group_by(m.customer_id)
    )


def never_left() -> sa.ColumnElement[bool]:
    """Inside a query of `messages`: whether one never reached the customer, by its last outcome."""
    m, o, earlier = messages.c, outcomes.c, outcomes.alias()
    last = sa.select(sa.func.max(earlier.c.outcome_id)).where(earlier.c.seq == m.seq).correlate(messages)
    last_one = o.outcome_id == last.scalar_subquery()
    return sa.exists().where(o.seq == m.seq, last_one, o.state.in_(_NEVER_LEFT)).correlate(messages)


def _out_of_pending(
    connection: sa.Connection, until: datetime, customers: Collection[str] | None
) -> Iterator[tuple[str, str, datetime]]:
    """The customers whose message has left although its batch isn't done, with its channel and when."""
    theirs = None if customers is None else set(customers)
    for batch, left in underway.half_sent(connection):
        for message in batch.messages:
            at = left.get(message.seq)
            if at and at <= until and (theirs is None or message.customer_id in theirs):
                yield message.customer_id, batch.channel, at
