"""Test sends have a table of their own, so that no figure can count them."""

import sqlalchemy as sa
from alembic import op

from controltower.ledger.columns import MessageId, Moment

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "test_sends",
        sa.Column("test_id", MessageId(), nullable=False),
        sa.Column("campaign", sa.String(), nullable=False),
        sa.Column("spec_hash", sa.String(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("customer_id", sa.String(), comment="as whom it was rendered; none: a made-up customer"),
        sa.Column(
            "address_hash", sa.String(), nullable=False, comment="keyed hash of the address or push token it went to"
        ),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("check_only", sa.Boolean(), nullable=False, comment="the provider was to check it, not to send it"),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("opened_at", Moment(), nullable=False),
        sa.Column("closed_at", Moment()),
        sa.Column("http_status", sa.Integer()),
        sa.Column("reason", sa.String()),
        sa.Column("provider_message_id", sa.String()),
        sa.CheckConstraint(
            "state in ('open', 'sent', 'retry', 'rejected', 'unknown')", name=op.f("ck_test_sends_state")
        ),
        sa.CheckConstraint("(state = 'open') = (closed_at is null)", name=op.f("ck_test_sends_closed")),
        sa.PrimaryKeyConstraint("test_id", name=op.f("pk_test_sends")),
        comment="one test send to the seed list: no message, no decision, and in no figure",
    )
    op.create_index(op.f("ix_test_sends_campaign"), "test_sends", ["campaign"])


def downgrade() -> None:
    op.drop_table("test_sends")
