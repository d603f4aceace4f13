"""What came back and what it was worth: webhook bodies, approvals, readouts; holds on runs."""

import sqlalchemy as sa
from alembic import op

from controltower.ledger.columns import Id, Moment

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for column in (
        sa.Column("asked_by", sa.String(), comment="the user who triggered it; none: the schedule"),
        sa.Column("plan_hash", sa.String(), comment="of content, spec and frozen audience: what an approval is bound to"),
        sa.Column("hold", sa.String(), comment="why nothing of it may leave now: approval or pause; none: it may"),
    ):
        op.add_column("campaign_runs", column)
    op.add_column(
        "delivery_events",
        sa.Column(
            "machine", sa.Boolean(), nullable=False, server_default=sa.false(),
            comment="an opening or click by a program",
        ),
    )
    op.create_index(op.f("ix_delivery_events_received_at"), "delivery_events", ["received_at"])
    if op.get_bind().dialect.name == "postgresql":  # SQLite keeps no comments
        op.create_table_comment(
            "delivery_events", "what came back for a message, normalised; the message may be unknown",
            existing_comment="what a provider told of a message, normalised",
        )
    op.create_table(
        "webhook_bodies",
        sa.Column("body_id", Id, autoincrement=True, nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False, comment="SHA-256 of the body: a replay is stored once"),
        sa.Column(
            "body", sa.LargeBinary(),
            comment="as it came, signature verified; emptied some time after it was handled",
        ),
        sa.Column("received_at", Moment(), nullable=False),
        sa.Column("handled_at", Moment()),
        sa.Column("outcome", sa.String(), comment="handled, or what was wrong with it"),
        sa.CheckConstraint("(handled_at is null) = (outcome is null)", name=op.f("ck_webhook_bodies_handled")),
        sa.PrimaryKeyConstraint("body_id", name=op.f("pk_webhook_bodies")),
        sa.UniqueConstraint("provider", "digest", name=op.f("uq_webhook_bodies_provider_digest")),
        comment="what providers posted, stored before it is read",
    )
    op.create_index(
        "ix_webhook_bodies_waiting", "webhook_bodies", ["body_id"],
        postgresql_where=sa.text("handled_at is null"), sqlite_where=sa.text("handled_at is null"),
    )
    op.create_table(
        "approvals",
        sa.Column("approval_id", Id, autoincrement=True, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", Moment(), nullable=False),
        sa.CheckConstraint(
            "decision in ('approved', 'rejected', 'void')", name=op.f("ck_approvals_decision")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["campaign_runs.run_id"], name=op.f("fk_approvals_run_id")),
        sa.PrimaryKeyConstraint("approval_id", name=op.f("pk_approvals")),
        comment="who let a held run go or stopped it, append-only; void: what was approved isn't what would leave",
    )
    op.create_index(op.f("ix_approvals_run_id"), "approvals", ["run_id"])
    op.create_table(
        "readouts",
        sa.Column("run_id", Id, autoincrement=False, nullable=False),
        sa.Column("as_of", Moment(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False, comment="the attribution window was closed"),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["campaign_runs.run_id"], name=op.f("fk_readouts_run_id")),
        sa.PrimaryKeyConstraint("run_id", "as_of", name=op.f("pk_readouts")),
        comment="what a run was worth, as measured at a moment; measured again, replaced",
    )


def downgrade() -> None:
    for table in ("readouts", "approvals", "webhook_bodies"):
        op.drop_table(table)
    op.drop_index(op.f("ix_delivery_events_received_at"), "delivery_events")
    op.drop_column("delivery_events", "machine")
    for column in ("hold", "plan_hash", "asked_by"):
        op.drop_column("campaign_runs", column)
