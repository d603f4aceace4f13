"""Events are posted to the public app: they are stored before they are read."""

import sqlalchemy as sa
from alembic import op

from controltower.ledger.columns import Id, Moment

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "event_bodies",
        sa.Column("body_id", Id, nullable=False),
        sa.Column("digest", sa.String(), nullable=False, comment="SHA-256 of the body: a replay is stored once"),
        sa.Column("body", sa.LargeBinary(), comment="as it came; emptied some time after it was ingested"),
        sa.Column("received_at", Moment(), nullable=False),
        sa.Column("ingested_at", Moment()),
        sa.PrimaryKeyConstraint("body_id", name=op.f("pk_event_bodies")),
        sa.UniqueConstraint("digest", name=op.f("uq_event_bodies_digest")),
        comment="what shops posted to /v1/events, stored before it is read",
    )
    waits = sa.text("ingested_at is null")
    op.create_index(
        "ix_event_bodies_waiting", "event_bodies", ["body_id"], postgresql_where=waits, sqlite_where=waits
    )


def downgrade() -> None:
    op.drop_table("event_bodies")
