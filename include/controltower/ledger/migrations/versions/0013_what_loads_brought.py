"""What each load brought of each table: campaigns stop where that is odd, until it is mended or accepted."""

import sqlalchemy as sa
from alembic import op

from controltower.ledger.columns import Moment

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "loads",
        sa.Column("load_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("loaded_at", Moment(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("table_name", sa.String(), nullable=False),
        sa.Column("interval", sa.String(), nullable=False),
        sa.Column("starts_at", Moment()),
        sa.Column("ends_at", Moment(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("keys", sa.BigInteger()),
        sa.Column("filled", sa.JSON(), nullable=False),
        sa.Column("newest", Moment()),
        sa.Column("odd", sa.JSON(), nullable=False),
        sa.Column("is_odd", sa.Boolean(), nullable=False),
        sa.Column("accepted_at", Moment()),
        sa.Column("accepted_by", sa.String()),
        sa.Column("accepted_why", sa.String()),
        sa.PrimaryKeyConstraint("load_id", name=op.f("pk_loads")),
        comment="append-only: what a load brought of a table",
    )
    op.create_index(op.f("ix_loads_source_table_name_interval"), "loads", ["source", "table_name", "interval"])


def downgrade() -> None:
    op.drop_table("loads")
