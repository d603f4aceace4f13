"""Who customers are to the ledger, what they allow, and where nothing may be sent."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Float, Index, String, Table, UniqueConstraint

from controltower.ledger.columns import Moment
from controltower.ledger.tables.base import index_of_some, metadata, numbered

subjects = Table(
    "subjects",
    metadata,
    Column("customer_id", String, primary_key=True),
    Column("subject_id", BigInteger, nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
    Column("own_subject_id", BigInteger, comment="stepped back for an older one in a merge; none: it is subject_id"),
    index_of_some("ix_subjects_own_subject_id", "own_subject_id", where="own_subject_id is not null"),
    comment="who a customer is for experiments; several customer ids share one subject after a merge",
)

merges = Table(
    "merges",
    metadata,
    numbered("merge_id"),
    Column("customer_id", String, nullable=False),
    Column("person_id", String, nullable=False, comment="the customer id that stands for the person"),
    Column("merged_at", Moment, nullable=False),
    Column("ended_at", Moment, comment="undone, or into another person; none: it holds"),
    index_of_some("ix_merges_holding", "customer_id", where="ended_at is null", unique=True),
    index_of_some("ix_merges_person_id", "person_id", where="ended_at is null"),
    comment="customer ids that belong to a person of another id; append-only but for the end",
)

arms = Table(
    "arms",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("subject_id", BigInteger, primary_key=True, autoincrement=False),
    Column("arm", String, nullable=False),
    Column("share", Float, nullable=False, comment="the variant's share of the treated when it was drawn"),
    Column("assigned_at", Moment, nullable=False),
    comment="the variant of a subject in a campaign, kept from its first assignment on",
)

consents = Table(
    "consents",
    metadata,
    numbered("consent_id"),
    Column("customer_id", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("recorded_at", Moment, nullable=False),
    Column("granted", Boolean, nullable=False),
    Column("source", String, nullable=False),
    Column("site", String),
    Column("legal_basis", String),
    Column("text_version", String),
    Column("expires_at", Moment),
    Column("proof", String),
    UniqueConstraint("customer_id", "channel", "purpose", "recorded_at", "granted", "source"),
    comment="append-only; the latest recorded_at holds, a withdrawal wins a tie",
)

suppressions = Table(
    "suppressions",
    metadata,
    numbered("suppression_id"),
    Column("kind", String, nullable=False),
    Column("value", String, nullable=False, comment="keyed hash of an address, or a customer or device id"),
    Column("channel", String, comment="none: all"),
    Column("purpose", String, comment="none: all"),
    Column("site", String, comment="none: all"),
    Column("reason", String, nullable=False),
    Column("source", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("until", Moment),
    Column("lifted_by", String, comment="who ended it, at `until`; none: nobody did"),
    CheckConstraint("kind in ('address', 'customer', 'device')", name="kind"),
    Index(None, "kind", "value"),
    comment="stored reasons not to send",
)

erased = Table(
    "erased",
    metadata,
    Column("kind", String, primary_key=True),
    Column("hash", String, primary_key=True, comment="keyed hash of the id"),
    Column("erased_at", Moment, nullable=False),
    Column("erased_by", String, nullable=False),
    CheckConstraint("kind in ('customer', 'visitor')", name="kind"),
    comment="who was erased; loads leave out what is theirs",
)

signing_keys = Table(
    "signing_keys",
    metadata,
    numbered("key_id"),
    Column("fingerprint", String, nullable=False, comment="a keyed hash, of nothing but a constant"),
    Column("recorded_at", Moment, nullable=False),
    Column("recorded_by", String, comment="who started it; none: the first that this ledger saw"),
    comment="append-only; the last is the home's",
)
