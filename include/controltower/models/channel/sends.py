"""Messages sent and what came of them, a row each: what channel responses are learned from.

`ordered` is an order within the days after a message that was clicked: what people would have ordered anyway isn't a
channel's merit. What programs click is left out. `week` and `month` count the messages that the customer got on any
channel in the 7 days before, and in the 21 days before those.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from controltower.profiles.facts import gather
from controltower.profiles.facts.messages import sent_by
from controltower.profiles.facts.tables import Tables
from controltower.profiles.portable import DAY, MONEY, RATE, one_if, seconds
from controltower.shop import Shop

RESPONSES = ("clicked", "ordered")
LOOK_BACK_DAYS = 365
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


def read_sends(tables: Tables, as_of: datetime, shop: Shop, days: int = 7) -> ir.Table:
    """customer_id, channel, campaign, variant, second, clicked, ordered (0 or 1), closed (flag): a row a message sent
    in the last LOOK_BACK_DAYS. `closed`: the `days` in which its answers count had passed by as_of."""
    facts = gather(tables, as_of, shop)
    history = sent_by(tables("messages_history"), as_of)
    history = history.filter(history.sent_at > as_of - timedelta(days=LOOK_BACK_DAYS))
    sent = history.mutate(second=seconds(history.sent_at), closed=history.sent_at <= as_of - timedelta(days=days))
    clicks = facts.reactions.filter(facts.reactions.event == "clicked")
    clicks = clicks.group_by("message_id").aggregate(at=clicks.second.min())
    clicked = sent.select("message_id", "customer_id", "second").inner_join(clicks, "message_id")
    clicked = clicked.filter(clicked["at"] < clicked.second + days * DAY)
    orders = facts.orders.select("customer_id", ordered_at=facts.orders.second)
    bought = clicked.inner_join(orders, "customer_id")
    bought = bought.filter(bought.ordered_at >= bought["at"], bought.ordered_at < bought.second + days * DAY)
    bought = bought.select("message_id", ordered=ibis.literal(1, "int64")).distinct()
    answers = clicked.select("message_id", clicked=ibis.literal(1, "int64")).distinct()
    joined = sent.left_join(answers, "message_id").drop("message_id_right").left_join(bought, "message_id")
    return joined.select(
        "customer_id", "channel", "campaign", "variant", "second", "closed",
        clicked=joined.clicked.fill_null(0), ordered=joined.ordered.fill_null(0),
    ).order_by("customer_id", "second", "channel", "campaign", "variant")  # fmt: skip


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


def read_costs(tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """channel, amount (float): what a channel cost in the LOOK_BACK_DAYS, in the shop's currency. Amounts without that
    day's rate are left out."""
    costs, rates = tables("costs"), tables("exchange_rates")
    until, start = as_of.date(), (as_of - timedelta(days=LOOK_BACK_DAYS)).date()
    costs = costs.filter(costs.date <= until, costs.date > start)
    rates = rates.filter(rates.to == shop.currency).select(
        rate_date=rates.date, rate_from=rates["from"], rate=rates.rate.cast(RATE)
    )
    joined = costs.left_join(rates, [costs.currency == rates.rate_from, costs.date == rates.rate_date])
    rate = ibis.ifelse(joined.currency == shop.currency, ibis.literal(1).cast(RATE), joined.rate)
    dated = joined.select("channel", amount=(joined.amount * rate).cast(MONEY))
    return dated.group_by("channel").aggregate(amount=dated.amount.sum().cast("float64").fill_null(0.0))


def cost_per_message(costs: pd.DataFrame, rows: pd.DataFrame) -> dict[str, float]:
    """By channel, of `read_costs` and the rows of `read_sends`: amount a message. 0 where no cost was handed over."""
    sent = rows["channel"].value_counts()
    spent = costs.set_index("channel")["amount"] if len(costs) else pd.Series(dtype=float)
    return {str(channel): float(spent.get(channel, 0.0)) / int(number) for channel, number in sorted(sent.items())}


def read_consented(tables: Tables, as_of: datetime, purpose: str = "marketing") -> ir.Table:
    """customer_id, channel: who has agreed, as of as_of, by the lake's consents: the newest row holds, a withdrawal
    wins a tie, an expired one doesn't count. What is sent is decided by the ledger's consents, later and again."""
    rows = tables("consents")
    rows = rows.filter(rows.purpose == purpose, rows.recorded_at <= as_of)
    newest = rows.recorded_at.max().over(group_by=["customer_id", "channel"])
    last = rows.mutate(newest=newest)
    last = last.filter(last.recorded_at == last.newest)
    valid = last.granted & (last.expires_at.isnull() | (last.expires_at > as_of))
    agreed = last.mutate(valid=one_if(valid)).group_by(["customer_id", "channel"]).aggregate(
        valid=lambda t: t.valid.min()
    )  # fmt: skip
    return agreed.filter(agreed.valid == 1).select("customer_id", "channel")
