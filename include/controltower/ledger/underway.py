"""Batches that are still worked on: what left of them already, and the calls that are under way."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

import sqlalchemy as sa

from controltower.ledger import work
from controltower.ledger.members import unpack_bits
from controltower.ledger.tables import batches, requests


def half_sent(
    connection: sa.Connection, run_ids: Collection[int] | None = None
) -> Iterator[tuple[work.Batch, dict[int, datetime]]]:
    """Batches still pending of which something left already, with those messages' seqs and when their call began.

    They are few: what a worker holds, and what waits for a retry.
    """
    left = ("sent", "open", "unknown")
    touched = sa.exists().where(requests.c.batch_id == batches.c.batch_id, requests.c.state.in_(left))
    claimed = (batches.c.state == "pending", batches.c.attempts > 0)
    wanted = sa.select(batches.c.batch_id).where(*claimed, touched)
    if run_ids is not None:
        wanted = wanted.where(batches.c.run_id.in_(run_ids))
    for batch_id in connection.execute(wanted.order_by(batches.c.batch_id)).scalars().all():
        batch = work.read(connection, batch_id)
        calls = [call for call in batch.calls if call.state in left]
        yield batch, {seq: c.opened_at for c in calls for seq in unpack_bits(c.members, batch.first_seq)}


def calling(connection: sa.Connection, run_ids: Collection[int]) -> int:
    """How many messages of these runs have a call under way: nobody can call them back.

    No answer is noted until this transaction ends, so that other counts agree with this one.
    """
    b = batches.c
    pending = sa.select(b.batch_id).where(b.run_id.in_(run_ids), b.state == "pending").order_by(b.batch_id)
    connection.execute(pending.with_for_update()).all()
    return sum(len(batch.calling) for batch, _ in half_sent(connection, run_ids))
