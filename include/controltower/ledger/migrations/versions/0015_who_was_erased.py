"""Who was erased, as keyed hashes: no later load brings them back."""

import sqlalchemy as sa
from alembic import op

from controltower.ledger.columns import Moment

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "erased",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False, comment="keyed hash of the id"),
        sa.Column("erased_at", Moment(), nullable=False),
        sa.Column("erased_by", sa.String(), nullable=False),
        sa.CheckConstraint("kind in ('customer', 'visitor')", name=op.f("ck_erased_kind")),
        sa.PrimaryKeyConstraint("kind", "hash", name=op.f("pk_erased")),
        comment="who was erased; loads leave out what is theirs",
    )


def downgrade() -> None:
    op.drop_table("erased")
