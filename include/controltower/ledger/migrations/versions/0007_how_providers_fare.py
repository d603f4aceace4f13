"""How each provider fares, and what was taken of its limits, as all dispatchers know it together."""

import sqlalchemy as sa
from alembic import op
from controltower.ledger.columns import Moment

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "providers",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "paused_until",
            sa.Float(),
            nullable=False,
            server_default="0",
            comment="epoch seconds, the database's clock; infinity: until somebody resumes it",
        ),
        sa.Column("why", sa.String(), comment="of its last pause"),
        sa.Column("refused", sa.String(), comment="keyed hash of the credentials refused: others end the pause"),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0", comment="calls in a row"),
        sa.Column("pauses", sa.Integer(), nullable=False, server_default="0", comment="for failures, in a row"),
        sa.Column("size", sa.Integer(), comment="most messages under way at once, a worker; none: as many as go"),
        sa.Column("day", sa.String(), comment="in the shop's zone, while it is warmed up"),
        sa.Column("taken", sa.Integer(), nullable=False, server_default="0", comment="on that day"),
        sa.Column("resumed_at", Moment(), comment="complaints count from here on"),
        sa.Column("resumed_by", sa.String()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_providers")),
        comment="how a provider fares, as all dispatchers know it",
    )
    op.create_table(
        "provider_rates",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("domain", sa.String(), nullable=False,
                  comment="the recipients'; empty: all; as shop.yaml names it, or a hash"),
        sa.Column("spent_until", sa.Float(), nullable=False,
                  comment="when what was taken has come back; the database's clock"),
        sa.Column("queued_until", sa.Float(), nullable=False, server_default="0",
                  comment="until when others wait for it"),
        sa.PrimaryKeyConstraint("provider", "domain", name=op.f("pk_provider_rates")),
        comment="what was taken of a rate",
    )  # fmt: skip


def downgrade() -> None:
    op.drop_table("provider_rates")
    op.drop_table("providers")
