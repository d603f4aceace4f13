"""What many decisions of a run have in common, such as a product with its reason, is there once: they took 500 bytes."""

import json
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

AT_ONCE = 5_000
SAYS_BEFORE = "the candidates and what was picked: channels, hour, products"
SAYS = "the numbers of its choices: the candidates, then each product"
DECISIONS = sa.table("decisions", sa.column("run_id"), sa.column("customer_id"), sa.column("choices", sa.JSON))
NUMBERS = {
    "postgresql": "json_array_elements_text(d.choices) with ordinality as n(number, place)",
    "sqlite": "json_each(d.choices) as n",
}
COLUMNS = {"postgresql": "n.place - 1", "sqlite": "n.key"}
VALUE = {"postgresql": "n.number::integer", "sqlite": "n.value"}
VIEW = """
create view chosen as
select d.run_id, d.customer_id, {place} as place, c.choice
from decisions d cross join {numbers} join choices c on c.run_id = d.run_id and c.number = {value}
"""


def upgrade() -> None:
    choices = op.create_table(
        "choices",
        sa.Column(
            "run_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
            comment="no foreign key: as for messages",
        ),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("choice", sa.JSON(), nullable=False, comment="channels and hours, or a product with its reason"),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_choices")),
        comment="what decisions of a run have in common, each once: the view `chosen` shows it by customer",
    )
    known: dict[int, dict[str, int]] = {}
    for run_id, rows in _decisions():
        of_run = known.setdefault(run_id, {})
        before = len(of_run)
        changed = []
        for customer_id, chosen in rows:
            products = chosen.pop("products", [])
            numbers = [of_run.setdefault(json.dumps(one), len(of_run)) for one in (chosen, *products)]
            changed.append({"customer": customer_id, "numbers": numbers})
        _write(run_id, changed)
        if new := list(of_run)[before:]:
            added = [{"run_id": run_id, "number": n, "choice": json.loads(text)} for n, text in enumerate(new, before)]
            op.get_bind().execute(sa.insert(choices), added)
    name = op.get_bind().dialect.name
    if name == "postgresql":  # SQLite keeps no comments
        op.alter_column("decisions", "choices", comment=SAYS, existing_comment=SAYS_BEFORE)
    op.execute(VIEW.format(numbers=NUMBERS[name], place=COLUMNS[name], value=VALUE[name]))


def downgrade() -> None:
    op.execute("drop view chosen")
    choices = sa.table("choices", sa.column("run_id"), sa.column("number"), sa.column("choice", sa.JSON))
    for run_id, rows in _decisions():
        numbers = sa.select(choices.c.number, choices.c.choice).where(choices.c.run_id == run_id)
        known = dict(op.get_bind().execute(numbers).tuples().all())
        changed = []
        for customer_id, (about, *products) in rows:
            chosen = {**known[about], "products": [known[n] for n in products]}
            changed.append({"customer": customer_id, "numbers": chosen})
        _write(run_id, changed)
    op.drop_table("choices")
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("decisions", "choices", comment=SAYS_BEFORE, existing_comment=SAYS)


def _decisions() -> Iterator[tuple[int, list[tuple[str, Any]]]]:
    """Some decisions of one run at a time: customers and choices."""
    d, key = DECISIONS.c, (-1, "")
    while True:
        rows = op.get_bind().execute(
            sa.select(d.run_id, d.customer_id, d.choices)
            .where(sa.tuple_(d.run_id, d.customer_id) > sa.tuple_(*map(sa.literal, key)))
            .order_by(d.run_id, d.customer_id)
            .limit(AT_ONCE)
        ).tuples().all()
        if not rows:
            return
        for run_id, some in groupby(rows, itemgetter(0)):
            yield run_id, [row[1:] for row in some]
        key = rows[-1][:2]


def _write(run_id: int, changed: list[dict[str, Any]]) -> None:
    d = DECISIONS.c
    op.get_bind().execute(
        sa.update(DECISIONS)
        .where(d.run_id == run_id, d.customer_id == sa.bindparam("customer"))
        .values(choices=sa.bindparam("numbers", type_=sa.JSON)),
        changed,
    )
