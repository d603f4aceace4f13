"""What became of a message whose answer was lost is an outcome, too; and where each message stands is one view."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

CHECK = "ck_outcomes_state"
BEFORE = "state in ('not_sent', 'rejected', 'unknown', 'cancelled')"
AFTER = "state in ('not_sent', 'rejected', 'unknown', 'cancelled', 'accepted', 'reopened')"

# Whether a request's members hold the message: bit n of little-endian bytes, n = seq - first_seq.
HOLDS = {
    "postgresql": "case when m.seq - b.first_seq < 8 * length(q.members)"
    " then get_bit(q.members, m.seq - b.first_seq) = 1 else false end",
    "sqlite": "((instr('0123456789ABCDEF', substr(hex(substr(q.members, (m.seq - b.first_seq) / 8 + 1, 1)),"
    " case when (m.seq - b.first_seq) % 8 < 4 then 2 else 1 end, 1)) - 1) >> ((m.seq - b.first_seq) % 4)) & 1",
}
# A message's last outcome says where it stands, else its batch does. Of a batch that is still worked on, what a provider
# took has left. A later migration that changes one of these tables drops the view first and makes it anew.
VIEW = """
create view message_states as
select seq, message_id, campaign, occurrence, version, customer_id, channel, variant,
    case when outcome is not null then outcome
        when left_at is not null then 'accepted'
        when batch_state = 'pending' then 'waiting'
        else batch_state end as state,
    case when outcome is not null or left_at is null then reason end as reason,
    case when outcome is not null or left_at is null then coalesce(outcome_at, planned_at) else left_at end as at
from (
    select m.seq, m.message_id, p.campaign, p.occurrence, r.version, m.customer_id, b.channel, b.variant,
        nullif(o.state, 'reopened') as outcome, o.reason, o.at as outcome_at, b.state as batch_state, r.planned_at,
        case when b.state = 'done' then b.done_at
            when b.state = 'pending' and b.attempts > 0 then (
                select min(q.closed_at) from requests q where q.batch_id = b.batch_id and q.state = 'sent' and {holds}
            ) end as left_at
    from messages m
    join batches b on b.batch_id = m.batch_id
    join campaign_runs r on r.run_id = b.run_id
    join occurrences p on p.occurrence_id = r.occurrence_id
    left join outcomes o on o.outcome_id = (select max(x.outcome_id) from outcomes x where x.seq = m.seq)
) as each_message
"""


def upgrade() -> None:
    _change(AFTER)
    op.create_index(op.f("ix_outcomes_state"), "outcomes", ["state"])
    op.execute(VIEW.format(holds=HOLDS[op.get_bind().dialect.name]))


def downgrade() -> None:
    """What was settled is unknown again, and what was to be sent again isn't: its first call may have arrived."""
    op.execute("drop view message_states")
    op.drop_index(op.f("ix_outcomes_state"), "outcomes")
    op.execute("delete from outcomes where state in ('accepted', 'reopened')")
    _change(BEFORE)


def _change(check: str) -> None:
    with op.batch_alter_table("outcomes") as table:  # SQLite makes the table anew; nothing refers to it
        table.drop_constraint(op.f(CHECK), type_="check")
        table.create_check_constraint(op.f(CHECK), check)
