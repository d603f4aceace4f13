"""Our own database: the tables of the ledger. What each state means is in docs/ledger.md.

A message row is narrow and hardly ever updated: its state is its last outcome's, else its batch's, and what it shares
with the batch (run, channel, variant, when) is the batch's. Work is claimed by batch, under a lease; a request row is
committed before each call to a provider, so that a call cut short by a crash is known to be `unknown` and isn't
repeated blindly.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

from controltower.ledger.columns import Id, MessageId, Moment

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id(name: str) -> Column[Any]:
    return Column(name, Id, primary_key=True, autoincrement=True)


def _index_of_some(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


subjects = Table(
    "subjects",
    metadata,
    Column("customer_id", String, primary_key=True),
    Column("subject_id", BigInteger, nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
    Column("own_subject_id", BigInteger, comment="stepped back for an older one in a merge; none: it is subject_id"),
    _index_of_some("ix_subjects_own_subject_id", "own_subject_id", where="own_subject_id is not null"),
    comment="who a customer is for experiments; several customer ids share one subject after a merge",
)

merges = Table(
    "merges",
    metadata,
    _id("merge_id"),
    Column("customer_id", String, nullable=False),
    Column("person_id", String, nullable=False, comment="the customer id that stands for the person"),
    Column("merged_at", Moment, nullable=False),
    Column("ended_at", Moment, comment="undone, or into another person; none: it holds"),
    _index_of_some("ix_merges_holding", "customer_id", where="ended_at is null", unique=True),
    _index_of_some("ix_merges_person_id", "person_id", where="ended_at is null"),
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

occurrences = Table(
    "occurrences",
    metadata,
    _id("occurrence_id"),
    Column("campaign", String, nullable=False),
    Column("occurrence", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("paused", Boolean, nullable=False, server_default=sa.false(), comment="nothing of any version leaves"),
    UniqueConstraint("campaign", "occurrence"),
    comment="which time a campaign happens",
)

campaign_runs = Table(
    "campaign_runs",
    metadata,
    _id("run_id"),
    Column("occurrence_id", Id, ForeignKey("occurrences.occurrence_id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("as_of", Moment, nullable=False),
    Column("planned_at", Moment, nullable=False),
    Column("spec_hash", String, nullable=False),
    Column("content_hash", String, nullable=False),
    Column("shop_hash", String, comment="of what recipients see of shop.yaml"),
    Column("policy_version", String, nullable=False),
    Column("spec", JSON, nullable=False),
    Column(
        "policy", JSON, nullable=False, comment="arms with their shares, channels, models: the candidates all share"
    ),
    Column("triggered_by", String, comment="Airflow's run id; never part of a key"),
    Column("asked_by", String, comment="the user who triggered it; none: the schedule"),
    Column("plan_hash", String, comment="of content, spec and frozen audience: what an approval is bound to"),
    Column("hold", String, comment="approval: it waits for one; none: it doesn't"),
    UniqueConstraint("occurrence_id", "version"),
    CheckConstraint("state in ('planned', 'superseded', 'cancelled')", name="state"),
    comment="a version of an occurrence with its frozen plan",
)

decisions = Table(
    "decisions",
    metadata,
    Column("run_id", Id, primary_key=True, autoincrement=False, comment="no foreign key: as for messages"),
    Column("customer_id", String, primary_key=True),
    Column("subject_id", BigInteger, nullable=False),
    Column("outcome", String, nullable=False),
    Column("reason", String),
    Column("arm", String),
    Column("probability", Float, nullable=False, comment="of what was finally done, by the policy of the run"),
    Column("channel", String),
    Column("due_at", Moment),
    Column("algorithm", String),
    Column("choices", JSON, nullable=False, comment="the numbers of its choices: the candidates, then each product"),
    Column("seq", BigInteger, comment="its message; none: there is none"),
    CheckConstraint("outcome in ('message', 'holdout', 'not_sent')", name="outcome"),
    CheckConstraint("(outcome = 'message') = (reason is null)", name="reason"),
    Index(None, "customer_id"),
    comment="the frozen audience: one row a member, with what was chosen or why nothing was",
)

choices = Table(
    "choices",
    metadata,
    Column("run_id", Id, primary_key=True, autoincrement=False, comment="no foreign key: as for messages"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("choice", JSON, nullable=False, comment="channels and hours, or a product with its reason"),
    comment="what decisions of a run have in common, each once: the view `chosen` shows it by customer",
)

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
    _index_of_some("ix_batches_done_at", "done_at", where="done_at is not null"),
    _index_of_some("ix_batches_pending", "due_at", "batch_id", where="state = 'pending'"),
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
    _id("request_id"),
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
    _id("outcome_id"),
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

delivery_events = Table(
    "delivery_events",
    metadata,
    _id("event_id"),
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
    _id("body_id"),
    Column("provider", String, nullable=False),
    Column("digest", String, nullable=False, comment="SHA-256 of the body: a replay is stored once"),
    Column("body", LargeBinary, comment="as it came, signature verified; emptied some time after it was handled"),
    Column("received_at", Moment, nullable=False),
    Column("handled_at", Moment),
    Column("outcome", String, comment="handled, or what was wrong with it"),
    UniqueConstraint("provider", "digest"),
    CheckConstraint("(handled_at is null) = (outcome is null)", name="handled"),
    _index_of_some("ix_webhook_bodies_waiting", "body_id", where="handled_at is null"),
    comment="what providers posted, stored before it is read",
)

event_bodies = Table(
    "event_bodies",
    metadata,
    _id("body_id"),
    Column("digest", String, nullable=False, unique=True, comment="SHA-256 of the body: a replay is stored once"),
    Column("body", LargeBinary, comment="as it came; emptied some time after it was ingested"),
    Column("received_at", Moment, nullable=False),
    Column("ingested_at", Moment),
    _index_of_some("ix_event_bodies_waiting", "body_id", where="ingested_at is null"),
    comment="what shops posted to /v1/events, stored before it is read",
)

approvals = Table(
    "approvals",
    metadata,
    _id("approval_id"),
    Column("run_id", Id, ForeignKey("campaign_runs.run_id"), nullable=False, index=True),
    Column("plan_hash", String, nullable=False),
    Column("decision", String, nullable=False),
    Column("decided_by", String, nullable=False),
    Column("decided_at", Moment, nullable=False),
    CheckConstraint("decision in ('approved', 'rejected', 'void', 'paused', 'resumed', 'cancelled')", name="decision"),
    comment="who let a run go, held it back or stopped it, append-only; void: what was approved isn't what would leave",
)

readouts = Table(
    "readouts",
    metadata,
    Column("run_id", Id, ForeignKey("campaign_runs.run_id"), primary_key=True, autoincrement=False),
    Column("as_of", Moment, primary_key=True),
    Column("final", Boolean, nullable=False, comment="the attribution window was closed"),
    Column("figures", JSON, nullable=False),
    comment="what a run was worth, as measured at a moment; measured again, replaced",
)

consents = Table(
    "consents",
    metadata,
    _id("consent_id"),
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
    _id("suppression_id"),
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

signing_keys = Table(
    "signing_keys",
    metadata,
    _id("key_id"),
    Column("fingerprint", String, nullable=False, comment="a keyed hash, of nothing but a constant"),
    Column("recorded_at", Moment, nullable=False),
    Column("recorded_by", String, comment="who started it; none: the first that this ledger saw"),
    comment="append-only; the last is the home's",
)

planning_failures = Table(
    "planning_failures",
    metadata,
    _id("failure_id"),
    Column("campaign", String, nullable=False),
    Column("occurrence", String, nullable=False, index=True),
    Column("failed_at", Moment, nullable=False),
    Column("why", String, nullable=False, comment="as the error tells it"),
    comment="append-only: an occurrence that could not be planned",
)

loads = Table(
    "loads", metadata, _id("load_id"), Column("loaded_at", Moment, nullable=False),
    Column("source", String, nullable=False), Column("table_name", String, nullable=False),
    Column("interval", String, nullable=False), Column("starts_at", Moment), Column("ends_at", Moment, nullable=False),
    Column("rows", BigInteger, nullable=False), Column("keys", BigInteger), Column("filled", JSON, nullable=False),
    Column("newest", Moment), Column("odd", JSON, nullable=False), Column("is_odd", Boolean, nullable=False),
    Column("accepted_at", Moment), Column("accepted_by", String), Column("accepted_why", String),
    Index(None, "source", "table_name", "interval"), comment="append-only: what a load brought of a table",
)  # fmt: skip
