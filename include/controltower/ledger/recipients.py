"""Who a message is for, as its links need it: the customer, and every other customer id of the same person."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from controltower.ledger.tables import batches, messages, subjects


@dataclass(frozen=True)
class Recipient:
    """A message's addressee; `customers` are all ids of the subject, the message's own first."""

    message_id: str
    run_id: int
    channel: str
    variant: str
    customers: tuple[str, ...]

    @property
    def customer_id(self) -> str:
        return self.customers[0]


def find(connection: sa.Connection, message_id: str, lock: bool = False) -> Recipient | None:
    """The addressee; None for a message that the ledger doesn't know.

    With `lock`, nobody else changes what this person allows until the transaction ends.
    """
    m, b, s = messages.c, batches.c, subjects.c
    row = connection.execute(
        sa.select(b.run_id, b.channel, b.variant, m.customer_id)
        .join(batches, b.batch_id == m.batch_id)
        .where(m.message_id == message_id)
    ).one_or_none()
    if row is None:
        return None
    now = sa.select(s.subject_id).where(s.customer_id == row.customer_id).scalar_subquery()  # it may have been merged
    ids = sa.select(s.customer_id).where(s.subject_id == now).order_by(s.customer_id)
    found = connection.execute(ids.with_for_update() if lock else ids).scalars().all()
    others = (customer for customer in found if customer != row.customer_id)
    return Recipient(message_id, row.run_id, row.channel, row.variant, (row.customer_id, *others))
