"""Where a message stands: its last outcome's state, else its batch's.

A message that was reopened has no outcome yet: it stands as its batch does.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from controltower.ledger.columns import MessageId, Moment
from controltower.ledger.tables import messages, outcomes

# The database's view, for people and for whoever asks about few messages: see docs/ledger.md.
message_states = sa.table(
    "message_states",
    sa.column("seq", sa.BigInteger),
    sa.column("message_id", MessageId()),
    sa.column("campaign", sa.String),
    sa.column("occurrence", sa.String),
    sa.column("version", sa.Integer),
    sa.column("customer_id", sa.String),
    sa.column("channel", sa.String),
    sa.column("variant", sa.String),
    sa.column("state", sa.String),
    sa.column("reason", sa.String),
    sa.column("at", Moment()),
)


def known_by(as_of: datetime | None) -> sa.ColumnElement[bool]:
    """Of outcomes: those that count as of a moment (default: now). What came back settles from its receipt on."""
    o = outcomes.c
    return sa.true() if as_of is None else sa.or_(o.state != "accepted", o.at <= as_of)


def last_outcome(as_of: datetime | None = None) -> sa.ScalarSelect[str | None]:
    """Inside a query of `messages`: the state of the last outcome; null: the message stands as its batch does."""
    o = outcomes.c
    last = sa.select(sa.func.nullif(o.state, "reopened")).where(o.seq == messages.c.seq, known_by(as_of))
    return last.order_by(o.outcome_id.desc()).limit(1).correlate(messages).scalar_subquery()
