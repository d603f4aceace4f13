"""What was decided: occurrences, their versions, each member of the audience, who approved, what came of it."""

from __future__ import annotations

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
    String,
    Table,
    UniqueConstraint,
)

from controltower.ledger.columns import Id, Moment
from controltower.ledger.tables.base import metadata, numbered

occurrences = Table(
    "occurrences",
    metadata,
    numbered("occurrence_id"),
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
    numbered("run_id"),
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

approvals = Table(
    "approvals",
    metadata,
    numbered("approval_id"),
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

planning_failures = Table(
    "planning_failures",
    metadata,
    numbered("failure_id"),
    Column("campaign", String, nullable=False),
    Column("occurrence", String, nullable=False, index=True),
    Column("failed_at", Moment, nullable=False),
    Column("why", String, nullable=False, comment="as the error tells it"),
    comment="append-only: an occurrence that could not be planned",
)
