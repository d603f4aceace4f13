"""What came in: from providers, from shops, and with each load of data."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from controltower.ledger.columns import MessageId, Moment
from controltower.ledger.tables.base import index_of_some, metadata, numbered

delivery_events = Table(
    "delivery_events",
    metadata,
    numbered("event_id"),
    Column("provider", String, nullable=False),
    Column("provider_event_id", String, nullable=False),
    Column("message_id", MessageId, index=True),
    Column("event", String, nullable=False),
    Column("occurred_at", Moment, nullable=False),
    Column("received_at", Moment, nullable=False, index=True),
    Column("detail", JSON),
    Column("machine", Boolean, nullable=False, server_default=sa.false(), comment="an opening or click by a program"),
    UniqueConstraint("provider", "provider_event_id"),
    comment="what came back for a message, normalised; the message may be unknown",
)

webhook_bodies = Table(
    "webhook_bodies",
    metadata,
    numbered("body_id"),
    Column("provider", String, nullable=False),
    Column("digest", String, nullable=False, comment="SHA-256 of the body: a replay is stored once"),
    Column("body", LargeBinary, comment="as it came, signature verified; emptied some time after it was handled"),
    Column("received_at", Moment, nullable=False),
    Column("handled_at", Moment),
    Column("outcome", String, comment="handled, or what was wrong with it"),
    UniqueConstraint("provider", "digest"),
    CheckConstraint("(handled_at is null) = (outcome is null)", name="handled"),
    index_of_some("ix_webhook_bodies_waiting", "body_id", where="handled_at is null"),
    comment="what providers posted, stored before it is read",
)

event_bodies = Table(
    "event_bodies",
    metadata,
    numbered("body_id"),
    Column("digest", String, nullable=False, unique=True, comment="SHA-256 of the body: a replay is stored once"),
    Column("body", LargeBinary, comment="as it came; emptied some time after it was ingested"),
    Column("received_at", Moment, nullable=False),
    Column("ingested_at", Moment),
    index_of_some("ix_event_bodies_waiting", "body_id", where="ingested_at is null"),
    comment="what shops posted to /v1/events, stored before it is read",
)

loads = Table(
    "loads", metadata, numbered("load_id"), Column("loaded_at", Moment, nullable=False),
    Column("source", String, nullable=False), Column("table_name", String, nullable=False),
    Column("interval", String, nullable=False), Column("starts_at", Moment), Column("ends_at", Moment, nullable=False),
    Column("rows", BigInteger, nullable=False), Column("keys", BigInteger), Column("filled", JSON, nullable=False),
    Column("newest", Moment), Column("odd", JSON, nullable=False), Column("is_odd", Boolean, nullable=False),
    Column("accepted_at", Moment), Column("accepted_by", String), Column("accepted_why", String),
    Index(None, "source", "table_name", "interval"), comment="append-only: what a load brought of a table",
)  # fmt: skip
