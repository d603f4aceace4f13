"""Messages on their way.

A message row is narrow and hardly ever updated: its state is its last outcome's, else its batch's, and what it shares
with the batch (run, channel, variant, when) is the batch's. Work is claimed by batch, under a lease; a request row is
committed before each call to a provider, so that a call cut short by a crash is known to be `unknown` and isn't
repeated blindly.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
)

from controltower.ledger.columns import Id, MessageId, Moment
from controltower.ledger.tables.base import index_of_some, metadata, numbered

batches = Table(
    "batches",
    metadata,
    Column("batch_id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", Id, ForeignKey("campaign_runs.run_id"), nullable=False, index=True),
    Column("channel", String, nullable=False),
    Column("variant", String, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False, comment="what is not sent by then is dropped"),
    Column("first_seq", BigInteger, nullable=False),
    Column("size", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Float, nullable=False, server_default="0", comment="epoch seconds, the database's clock"),
    Column("lease_token", String),
    Column("lease_until", Float, comment="epoch seconds, the database's clock"),
    Column("done_at", Moment),
    CheckConstraint("state in ('pending', 'done', 'cancelled')", name="state"),
    CheckConstraint("(lease_token is null) = (lease_until is null)", name="lease"),
    CheckConstraint("lease_token is null or state = 'pending'", name="lease_pending"),
    CheckConstraint("(done_at is not null) = (state = 'done')", name="done"),
    index_of_some("ix_batches_done_at", "done_at", where="done_at is not null"),
    index_of_some("ix_batches_pending", "due_at", "batch_id", where="state = 'pending'"),
    comment="up to 1000 messages of one run, channel, variant and due time: what a worker claims",
)

messages = Table(
    "messages",
    metadata,
    # By width, so that nothing is lost to alignment: a million rows are common. No foreign key to batches for the
    # same reason: PostgreSQL would look it up for each row, and one statement writes both.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("subject_id", BigInteger, nullable=False),
    Column("message_id", MessageId, unique=True, comment="none: a newer version took its place, and its id"),
    Column("batch_id", Integer, nullable=False, index=True),
    Column("step", SmallInteger, nullable=False),
    Column("customer_id", String, nullable=False),
    comment="one intended send; its id follows from campaign, occurrence, subject and step: at most one is live",
)

requests = Table(
    "requests",
    metadata,
    numbered("request_id"),
    Column("batch_id", Integer, ForeignKey("batches.batch_id"), nullable=False, index=True),
    Column("lease_token", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("device_id", String, comment="a push goes to one device"),
    Column("members", LargeBinary, nullable=False, comment="bit n: the message with seq = first_seq + n"),
    Column("state", String, nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("http_status", Integer),
    Column("reason", String),
    Column("provider_message_id", String),
    CheckConstraint("state in ('open', 'sent', 'retry', 'rejected', 'unknown')", name="state"),
    CheckConstraint("(state = 'open') = (closed_at is null)", name="closed"),
    comment="one call to a provider, committed before it is made",
)

outcomes = Table(
    "outcomes",
    metadata,
    numbered("outcome_id"),
    Column("seq", BigInteger, ForeignKey("messages.seq"), nullable=False, index=True),
    Column("state", String, nullable=False, index=True),
    Column("reason", String, nullable=False),
    Column("request_id", Id, ForeignKey("requests.request_id")),
    Column("at", Moment, nullable=False),
    CheckConstraint("state in ('not_sent', 'rejected', 'unknown', 'cancelled', 'accepted', 'reopened')", name="state"),
    comment="exceptions only, append-only: the last one of a message holds",
)

test_sends = Table(
    "test_sends",
    metadata,
    Column("test_id", MessageId, primary_key=True),
    Column("campaign", String, nullable=False, index=True),
    Column("spec_hash", String, nullable=False),
    Column("content_hash", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("variant", String, nullable=False),
    Column("language", String, nullable=False),
    Column("customer_id", String, comment="as whom it was rendered; none: a made-up customer"),
    Column("address_hash", String, nullable=False, comment="keyed hash of the address or push token it went to"),
    Column("provider", String, nullable=False),
    Column("check_only", Boolean, nullable=False, comment="the provider was to check it, not to send it"),
    Column("asked_by", String, nullable=False),
    Column("state", String, nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("http_status", Integer),
    Column("reason", String),
    Column("provider_message_id", String),
    CheckConstraint("state in ('open', 'sent', 'retry', 'rejected', 'unknown')", name="state"),
    CheckConstraint("(state = 'open') = (closed_at is null)", name="closed"),
    comment="one test send to the seed list: no message, no decision, and in no figure",
)

providers = Table(
    "providers",
    metadata,
    Column("name", String, primary_key=True),
    Column(
        "paused_until", Float, nullable=False, server_default="0",
        comment="epoch seconds, the database's clock; infinity: until somebody resumes it",
    ),
    Column("why", String, comment="of its last pause"),
    Column("refused", String, comment="keyed hash of the credentials refused: others end the pause"),
    Column("failures", Integer, nullable=False, server_default="0", comment="calls in a row"),
    Column("pauses", Integer, nullable=False, server_default="0", comment="for failures, in a row"),
    Column("size", Integer, comment="most messages under way at once, a worker; none: as many as go"),
    Column("day", String, comment="in the shop's zone, while it is warmed up"),
    Column("taken", Integer, nullable=False, server_default="0", comment="on that day"),
    Column("resumed_at", Moment, comment="complaints count from here on"),
    Column("resumed_by", String),
    comment="how a provider fares, as all dispatchers know it",
)  # fmt: skip

provider_rates = Table(
    "provider_rates",
    metadata,
    Column("provider", String, primary_key=True),
    Column("domain", String, primary_key=True, comment="the recipients'; empty: all; as shop.yaml names it, or a hash"),
    Column("spent_until", Float, nullable=False, comment="when what was taken has come back; the database's clock"),
    Column("queued_until", Float, nullable=False, server_default="0", comment="until when others wait for it"),
    comment="what was taken of a rate",
)  # fmt: skip
