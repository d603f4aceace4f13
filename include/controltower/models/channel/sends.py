"""Messages sent and what came of them, a row each: what channel responses are learned from.

`ordered` is an order within the days after a message that was clicked: what people would have ordered anyway isn't a
channel's merit. What programs click is left out. `week` and `month` count the messages that the customer got on any
channel in the 7 days before, and in the 21 days before those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from controltower.profiles.facts import gather
from controltower.profiles.facts.messages import sent_by
from controltower.profiles.facts.tables import Tables
from controltower.profiles.portable import DAY, one_if, seconds
from controltower.shop import Shop

RESPONSES = ("clicked", "ordered")
LOOK_BACK_DAYS = 365
ANSWER_DAYS = 7  # after a message, in which its answers count
MOST = 100_000  # customers that are learned from; of more, a draw
WEEK, MONTH = 7, 28  # days
UNNAMED = ""  # the message of a send whose campaign isn't told


@dataclass(frozen=True)
class Sends:
    """By send: positions `customer` in customer_ids, `channel` in channels and `message` in messages (all sorted, a
    message is campaign/variant); second (epoch), week, month (see above), hits (n, RESPONSES) of 0 or 1."""

    customer_ids: np.ndarray
    channels: np.ndarray
    messages: np.ndarray
    customer: np.ndarray
    channel: np.ndarray
    message: np.ndarray
    second: np.ndarray
    week: np.ndarray
    month: np.ndarray
    hits: np.ndarray

    def __len__(self) -> int:
        return len(self.customer)

    def take(self, rows: np.ndarray) -> Sends:
        """The sends of a mask or of positions; customers, channels and messages stay."""
        by_row = (self.customer, self.channel, self.message, self.second, self.week, self.month, self.hits)
        return Sends(self.customer_ids, self.channels, self.messages, *(values[rows] for values in by_row))

    def counts(self, customer_ids: np.ndarray | None = None, channels: np.ndarray | None = None) -> np.ndarray:
        """(customers, channels, 1 + RESPONSES): messages sent, then answers by kind; of all customers and channels, or
        of the given ids and names, 0 where nothing is known."""
        n, m = len(self.customer_ids), len(self.channels)
        ones = np.c_[np.ones(len(self), dtype=int), self.hits]
        found = np.zeros((n + 1, m + 1, ones.shape[1]))  # the last of each: unknown
        found[:n, :m] = cells(self.customer * m + self.channel, ones, n * m).reshape(n, m, -1)
        rows = np.arange(n) if customer_ids is None else positions(self.customer_ids, customer_ids)
        columns = np.arange(m) if channels is None else positions(self.channels, channels)
        return found[rows][:, columns]


def read_sends(tables: Tables, as_of: datetime, shop: Shop, most: int = MOST) -> ir.Table:
    """customer_id, channel, campaign, variant, second, clicked, ordered (0 or 1), closed (flag): a row a message sent
    in the last LOOK_BACK_DAYS. `closed`: the ANSWER_DAYS had passed by as_of.

    Of more than `most` customers a draw by their ids: who is drawn is drawn, too, of any part of the customers.
    """
    history = _history(tables, as_of)
    customers = history.select("customer_id").distinct()
    drawn = customers.order_by(customers.customer_id.hexdigest("md5")).limit(most)
    return _answered(history.semi_join(drawn, "customer_id"), tables, as_of, shop).order_by(
        "customer_id", "second", "channel", "campaign", "variant"
    )


def read_answers(tables: Tables, as_of: datetime, shop: Shop, channels: Sequence[str]) -> ir.Table:
    """customer_id, then by channel as given how many messages of the last LOOK_BACK_DAYS were sent and closed, were
    clicked, and were ordered after (see `read_sends`): of who was sent any, 1 + RESPONSES columns a channel."""
    answered = _answered(_history(tables, as_of), tables, as_of, shop)
    closed = answered.filter(answered.closed)
    counts = {}
    for n, channel in enumerate(channels):
        there = closed.channel == channel
        counts[f"sent_{n}"] = one_if(there).sum()
        counts |= {f"{response}_{n}": closed[response].sum(where=there).fill_null(0) for response in RESPONSES}
    return closed.group_by("customer_id").aggregate(**counts)


def _history(tables: Tables, as_of: datetime) -> ir.Table:
    history = sent_by(tables("messages_history"), as_of)
    return history.filter(history.sent_at > as_of - timedelta(days=LOOK_BACK_DAYS))


def _answered(history: ir.Table, tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """The rows of `read_sends`, of some of the messages."""
    facts = gather(tables, as_of, shop)
    closed = history.sent_at <= as_of - timedelta(days=ANSWER_DAYS)
    sent = history.mutate(second=seconds(history.sent_at), closed=closed)
    clicks = facts.reactions.filter(facts.reactions.event == "clicked")
    clicks = clicks.group_by("message_id").aggregate(at=clicks.second.min())
    clicked = sent.select("message_id", "customer_id", "second").inner_join(clicks, "message_id")
    clicked = clicked.filter(clicked["at"] < clicked.second + ANSWER_DAYS * DAY)
    orders = facts.orders.select("customer_id", ordered_at=facts.orders.second)
    bought = clicked.inner_join(orders, "customer_id")
    bought = bought.filter(bought.ordered_at >= bought["at"], bought.ordered_at < bought.second + ANSWER_DAYS * DAY)
    bought = bought.select("message_id", ordered=ibis.literal(1, "int64")).distinct()
    answers = clicked.select("message_id", clicked=ibis.literal(1, "int64")).distinct()
    joined = sent.left_join(answers, "message_id").drop("message_id_right").left_join(bought, "message_id")
    return joined.select(
        "customer_id", "channel", "campaign", "variant", "second", "closed",
        clicked=joined.clicked.fill_null(0), ordered=joined.ordered.fill_null(0),
    )  # fmt: skip


def sends(rows: pd.DataFrame) -> Sends:
    """From the rows of `read_sends`, or of a frame with its columns: those whose days are over. The others are counted
    in `week` and `month`."""
    rows = rows.sort_values(["customer_id", "second"], kind="stable")
    customer, customer_ids = pd.factorize(rows["customer_id"], sort=True)
    second = rows["second"].to_numpy(np.int64)
    week, month = recent(customer, second, customer, second)
    channel, channels = pd.factorize(rows["channel"], sort=True)
    named = rows["campaign"].fillna("") + "/" + rows["variant"].fillna("")
    message, messages = pd.factorize(named.where(rows["campaign"].notna(), UNNAMED), sort=True)
    made = Sends(
        np.array(customer_ids, dtype=np.str_), np.array(channels, dtype=np.str_), np.array(messages, dtype=np.str_),
        customer, channel, message, second, week, month, rows[list(RESPONSES)].to_numpy(int),
    )  # fmt: skip
    return made.take(rows["closed"].to_numpy(bool))


def recent(
    customer: np.ndarray, second: np.ndarray, of: np.ndarray, at: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    """How many messages customers `of` (positions) got in the WEEK before `at` (epoch seconds), and in the days before
    that up to MONTH. customer, second: of every message, in order of both."""
    low, base = (int(second.min()) - (MONTH + 1) * DAY, 0) if len(second) else (0, 0)
    span = max([base, *(int(np.max(v)) - low for v in (second, np.asarray(at)) if np.size(v))]) + 1
    keys = customer.astype(np.int64) * span + (second - low)

    def until(moment: np.ndarray | int) -> np.ndarray:
        return np.searchsorted(keys, of.astype(np.int64) * span + np.clip(moment - low, 0, span - 1))

    now, week, month = (until(np.asarray(at) - days * DAY) for days in (0, WEEK, MONTH))
    return now - week, week - month


def read_recent(tables: Tables, as_of: datetime) -> ir.Table:
    """customer_id, week, month: of who got any, the messages of the WEEK before as_of, and of the days before that up
    to MONTH."""
    sent = sent_by(tables("messages_history"), as_of)
    sent = sent.filter(sent.sent_at > as_of - timedelta(days=MONTH))
    late = one_if(sent.sent_at > as_of - timedelta(days=WEEK))
    return sent.group_by("customer_id").aggregate(week=late.sum(), month=(1 - late).sum())


def cells(cell: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """(count, columns): sums of the columns of values (n, columns) by cell."""
    return np.stack([np.bincount(cell, weights=column, minlength=count) for column in values.T], axis=1)


def positions(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Of each asked, its position in known, -1 where it isn't there."""
    return np.asarray(pd.Index(known).get_indexer(pd.Index(asked)))
