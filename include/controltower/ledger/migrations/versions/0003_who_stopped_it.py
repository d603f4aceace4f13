"""Who paused, resumed or cancelled a run stands beside who approved it; a pause is the occurrence's."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

CHECK = "ck_approvals_decision"
BEFORE = "decision in ('approved', 'rejected', 'void')"
AFTER = "decision in ('approved', 'rejected', 'void', 'paused', 'resumed', 'cancelled')"
SAYS_BEFORE = "who let a held run go or stopped it, append-only; void: what was approved isn't what would leave"
HOLD_BEFORE = "why nothing of it may leave now: approval or pause; none: it may"
HOLD = "approval: it waits for one; none: it doesn't"
SAYS = "who let a run go, held it back or stopped it, append-only; void: what was approved isn't what would leave"


def upgrade() -> None:
    op.add_column(
        "occurrences",
        sa.Column(
            "paused", sa.Boolean(), nullable=False, server_default=sa.false(), comment="nothing of any version leaves"
        ),
    )
    op.execute(
        "update occurrences set paused = true where occurrence_id in"
        " (select occurrence_id from campaign_runs where hold = 'pause' and state = 'planned')"
    )
    op.execute("update campaign_runs set hold = null where hold = 'pause'")
    _change(AFTER)
    if op.get_bind().dialect.name == "postgresql":  # SQLite keeps no comments
        op.create_table_comment("approvals", SAYS, existing_comment=SAYS_BEFORE)
        op.alter_column("campaign_runs", "hold", comment=HOLD, existing_comment=HOLD_BEFORE)


def downgrade() -> None:
    op.execute(
        "update campaign_runs set hold = 'pause' where hold is null and state = 'planned' and occurrence_id in"
        " (select occurrence_id from occurrences where paused)"
    )
    op.drop_column("occurrences", "paused")
    op.execute("delete from approvals where decision in ('paused', 'resumed', 'cancelled')")
    _change(BEFORE)
    if op.get_bind().dialect.name == "postgresql":
        op.create_table_comment("approvals", SAYS_BEFORE, existing_comment=SAYS)
        op.alter_column("campaign_runs", "hold", comment=HOLD_BEFORE, existing_comment=HOLD)


def _change(check: str) -> None:
    with op.batch_alter_table("approvals") as table:  # SQLite makes the table anew; nothing refers to it
        table.drop_constraint(op.f(CHECK), type_="check")
        table.create_check_constraint(op.f(CHECK), check)
