"""The ledger knows its home's key by a fingerprint, a run what its recipients were to see of the shop, and which plans
failed.

With another key nothing that was sent or suppressed is known; with another sender it isn't what was approved.
"""

import sqlalchemy as sa
from alembic import op

from controltower.ledger.columns import Moment

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("key_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False, comment="a keyed hash, of nothing but a constant"),
        sa.Column("recorded_at", Moment(), nullable=False),
        sa.Column("recorded_by", sa.String(), comment="who started it; none: the first that this ledger saw"),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_signing_keys")),
        comment="append-only; the last is the home's",
    )
    op.create_table(
        "planning_failures",
        sa.Column("failure_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("campaign", sa.String(), nullable=False),
        sa.Column("occurrence", sa.String(), nullable=False),
        sa.Column("failed_at", Moment(), nullable=False),
        sa.Column("why", sa.String(), nullable=False, comment="as the error tells it"),
        sa.PrimaryKeyConstraint("failure_id", name=op.f("pk_planning_failures")),
        comment="append-only: an occurrence that could not be planned",
    )
    op.create_index(op.f("ix_planning_failures_occurrence"), "planning_failures", ["occurrence"])
    op.add_column("campaign_runs", sa.Column("shop_hash", sa.String(), comment="of what recipients see of shop.yaml"))


def downgrade() -> None:
    op.drop_column("campaign_runs", "shop_hash")
    op.drop_table("planning_failures")
    op.drop_table("signing_keys")
