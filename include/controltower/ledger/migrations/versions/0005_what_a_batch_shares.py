"""Run, channel and variant are the batch's; a message's id stands for its customer in the occurrence; a decision names
its message."""

import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op
from controltower.ledger.columns import MessageId

revision = "0005"
down_revision = "0004"

BATCHES_SAY = "up to 1000 messages of one run, channel, variant and due time: what a worker claims"
LIVE = sa.text("not superseded")
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    connection = op.get_bind()
    op.add_column("decisions", sa.Column("seq", sa.BigInteger(), comment="its message; none: there is none"))
    op.execute(
        "update decisions set seq = (select m.seq from messages m where m.run_id = decisions.run_id"
        " and m.customer_id = decisions.customer_id) where outcome = 'message'"
    )
    op.add_column("batches", sa.Column("variant", sa.String()))
    _part_by_variant(connection)
    op.execute("update batches set variant = '' where variant is null")  # its messages were all deferred
    with op.batch_alter_table("batches") as table:
        table.alter_column("variant", existing_type=sa.String(), nullable=False)
    _remake(
        [
            sa.Column("seq", Id, autoincrement=False, nullable=False),
            sa.Column("subject_id", sa.BigInteger(), nullable=False),
            sa.Column("message_id", MessageId(), comment="none: a newer version took its place, and its id"),
            sa.Column("batch_id", sa.Integer(), nullable=False),
            sa.Column("step", sa.SmallInteger(), nullable=False),
            sa.Column("customer_id", sa.String(), nullable=False),
        ],
        "select seq, subject_id, case when superseded then null else message_id end, batch_id, step, customer_id"
        " from messages",
        "one intended send; its id follows from campaign, occurrence, subject and step: at most one is live",
    )
    with op.batch_alter_table("decisions") as table:
        table.drop_constraint(op.f("fk_decisions_run_id"), type_="foreignkey")
    if connection.dialect.name == "postgresql":  # SQLite keeps no comments, and has one kind of integer
        for name in ("batches", "requests"):
            op.alter_column(name, "batch_id", type_=sa.Integer())
        op.alter_column("decisions", "run_id", comment="no foreign key: as for messages", existing_type=Id)
        op.create_table_comment("batches", BATCHES_SAY)


def _remake(columns: list[sa.Column[Any]], select: str, comment: str) -> None:
    """Make `messages` anew from what it holds: a dropped column would go on costing room in each row."""
    postgres = op.get_bind().dialect.name == "postgresql"
    for index in sa.inspect(op.get_bind()).get_indexes("messages"):
        if index["name"] and not index.get("duplicates_constraint"):
            op.drop_index(index["name"], table_name="messages")
    if postgres:  # names are the schema's there
        op.drop_constraint(op.f("fk_outcomes_seq"), "outcomes", type_="foreignkey")
        for name in ("pk_messages", "uq_messages_message_id"):
            op.drop_constraint(op.f(name), "messages")
    op.create_table(
        "messages_anew",
        *columns,
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_messages")),
        sa.UniqueConstraint("message_id", name=op.f("uq_messages_message_id")),
        comment=comment,
    )
    op.execute(f"insert into messages_anew ({', '.join(c.name for c in columns)}) {select}")
    op.drop_table("messages")
    op.rename_table("messages_anew", "messages")
    op.create_index(op.f("ix_messages_batch_id"), "messages", ["batch_id"])
    if postgres:
        op.create_foreign_key(op.f("fk_outcomes_seq"), "outcomes", "messages", ["seq"], ["seq"])


def _part_by_variant(connection: sa.Connection) -> None:
    """Let each batch hold one variant: its other variants move to batches like it, with their share of its calls.

    A call's members are bits counted from its batch's first_seq, which stays the same.
    """
    tables = sa.MetaData()
    batches = sa.Table("batches", tables, autoload_with=connection)
    requests = sa.Table("requests", tables, autoload_with=connection)
    found: dict[int, dict[str, list[int]]] = {}
    for batch, variant, seq in connection.execute(sa.text("select batch_id, variant, seq from messages order by seq")):
        found.setdefault(batch, {}).setdefault(variant, []).append(seq)
    for batch_id, variants in found.items():
        row = dict(connection.execute(sa.select(batches).where(batches.c.batch_id == batch_id)).mappings().one())
        del row["batch_id"]
        calls = connection.execute(sa.select(requests).where(requests.c.batch_id == batch_id)).mappings().all()
        homes: dict[str, int] = {}
        for variant, seqs in variants.items():
            values = row | {"variant": variant, "size": len(seqs)}
            if not homes:
                connection.execute(sa.update(batches).where(batches.c.batch_id == batch_id).values(values))
                homes[variant] = batch_id
                continue
            new = sa.insert(batches).values(values).returning(batches.c.batch_id)
            homes[variant] = connection.execute(new).scalar_one()
            move = sa.text("update messages set batch_id = :to where batch_id = :batch and variant = :variant")
            connection.execute(move, {"to": homes[variant], "batch": batch_id, "variant": variant})
        if len(homes) > 1:
            for call in calls:
                _part_call(connection, requests, call, row["first_seq"], variants, homes)


def _part_call(
    connection: sa.Connection,
    requests: sa.Table,
    call: sa.RowMapping,
    first_seq: int,
    variants: dict[str, list[int]],
    homes: dict[str, int],
) -> None:
    """Give each batch the members of a call that are its own: the row goes to the first, the others get its like."""
    kept = False
    for variant, seqs in variants.items():
        mine = int.from_bytes(call["members"], "little") & sum(1 << (seq - first_seq) for seq in seqs)
        if not mine:
            continue
        values = {"batch_id": homes[variant], "members": mine.to_bytes((mine.bit_length() + 7) // 8, "little")}
        if kept:
            copy = {name: value for name, value in call.items() if name != "request_id"}
            connection.execute(sa.insert(requests).values(copy | values))
        else:
            connection.execute(sa.update(requests).where(requests.c.request_id == call["request_id"]).values(values))
        kept = True


def downgrade() -> None:
    """Batches stay parted; a message without an id gets a new one, as every version of a message had."""
    _remake(
        [
            sa.Column("seq", Id, autoincrement=False, nullable=False),
            sa.Column("message_id", MessageId()),
            sa.Column("occurrence_id", Id, sa.ForeignKey("occurrences.occurrence_id", name="fk_messages_occurrence_id")),
            sa.Column("run_id", Id, nullable=False),
            sa.Column("batch_id", Id, sa.ForeignKey("batches.batch_id", name="fk_messages_batch_id"), nullable=False),
            sa.Column("subject_id", sa.BigInteger(), nullable=False),
            sa.Column("customer_id", sa.String(), nullable=False),
            sa.Column("step", sa.SmallInteger(), nullable=False),
            sa.Column("channel", sa.String(), nullable=False),
            sa.Column("variant", sa.String(), nullable=False),
            sa.Column("superseded", sa.Boolean(), server_default=sa.false(), nullable=False),
        ],
        "select m.seq, m.message_id, r.occurrence_id, b.run_id, m.batch_id, m.subject_id, m.customer_id, m.step,"
        " b.channel, b.variant, m.message_id is null from messages m join batches b on b.batch_id = m.batch_id"
        " join campaign_runs r on r.run_id = b.run_id",
        "one intended send; at most one per campaign, occurrence, subject and step is live",
    )
    messages = sa.table("messages", sa.column("seq"), sa.column("message_id", MessageId()))
    without = sa.select(messages.c.seq).where(messages.c.message_id.is_(None))
    for seq in op.get_bind().execute(without).scalars().all():
        op.execute(sa.update(messages).where(messages.c.seq == seq).values(message_id=uuid.uuid4().hex))
    for name in ("customer_id", "run_id"):
        op.create_index(op.f(f"ix_messages_{name}"), "messages", [name])
    op.create_index(
        "uq_messages_live",
        "messages",
        ["occurrence_id", "subject_id", "step"],
        unique=True,
        postgresql_where=LIVE,
        sqlite_where=LIVE,
    )
    with op.batch_alter_table("decisions") as table:
        table.create_foreign_key(op.f("fk_decisions_run_id"), "campaign_runs", ["run_id"], ["run_id"])
    op.drop_column("batches", "variant")
    op.drop_column("decisions", "seq")
