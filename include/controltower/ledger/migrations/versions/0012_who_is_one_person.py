"""Customer ids that are one person: since when, and which unit of experiments stepped back for which."""

import sqlalchemy as sa
from alembic import op

from controltower.ledger.columns import Moment

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    holds = sa.text("ended_at is null")
    op.create_table(
        "merges",
        sa.Column("merge_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False, comment="the customer id that stands for the person"),
        sa.Column("merged_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), comment="undone, or into another person; none: it holds"),
        sa.PrimaryKeyConstraint("merge_id", name=op.f("pk_merges")),
        comment="customer ids that belong to a person of another id; append-only but for the end",
    )
    op.create_index(
        "ix_merges_holding", "merges", ["customer_id"], unique=True, postgresql_where=holds, sqlite_where=holds
    )
    op.create_index("ix_merges_person_id", "merges", ["person_id"], postgresql_where=holds, sqlite_where=holds)
    own = "stepped back for an older one in a merge; none: it is subject_id"
    op.add_column("subjects", sa.Column("own_subject_id", sa.BigInteger(), comment=own))
    stepped = sa.text("own_subject_id is not null")
    op.create_index(
        "ix_subjects_own_subject_id", "subjects", ["own_subject_id"], postgresql_where=stepped, sqlite_where=stepped
    )


def downgrade() -> None:
    op.execute("update subjects set subject_id = own_subject_id where own_subject_id is not null")
    op.drop_index("ix_subjects_own_subject_id", "subjects")
    op.drop_column("subjects", "own_subject_id")
    op.drop_table("merges")
