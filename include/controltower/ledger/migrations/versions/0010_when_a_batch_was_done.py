"""Whether anything left within a frequency cap's window is asked for each batch: it must not cost all batches ever."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    done = sa.text("done_at is not null")
    op.create_index("ix_batches_done_at", "batches", ["done_at"], postgresql_where=done, sqlite_where=done)


def downgrade() -> None:
    op.drop_index("ix_batches_done_at", "batches")
