"""Who ended a suppression stands beside when it ended."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "suppressions",
        sa.Column("lifted_by", sa.String(), comment="who ended it, at `until`; none: nobody did"),
    )


def downgrade() -> None:
    op.drop_column("suppressions", "lifted_by")
