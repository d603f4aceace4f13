"""What providers posted: stored before it is read, handled once, emptied some time later."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from controltower.ledger.insert import inserted
from controltower.ledger.tables import webhook_bodies


class Body(NamedTuple):
    """A stored body that waits to be handled."""

    body_id: int
    provider: str
    body: bytes
    received_at: datetime


def store(connection: sa.Connection, provider: str, bodies: Sequence[bytes], now: datetime) -> list[bool]:
    """Keep bodies. False: the same one was kept before, or came twice among these."""
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    rows = {
        digest: {"provider": provider, "digest": digest, "body": body, "received_at": now}
        for digest, body in zip(digests, bodies, strict=True)
    }
    new = set(inserted(connection, webhook_bodies, list(rows.values()), webhook_bodies.c.digest))
    kept = []
    for digest in digests:
        kept.append(digest in new)
        new.discard(digest)
    return kept


def next_waiting(connection: sa.Connection) -> Body | None:
    """The oldest body that nobody has handled or is handling; it is this transaction's until that ends."""
    w = webhook_bodies.c
    row = connection.execute(
        sa.select(w.body_id, w.provider, w.body, w.received_at)
        .where(w.handled_at.is_(None))
        .order_by(w.body_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    return Body(*row) if row else None


def heard_until(connection: sa.Connection, now: datetime) -> datetime:
    """Until when everything that was posted has been read: now, or when the oldest body that waits was received."""
    waits = sa.select(sa.func.min(webhook_bodies.c.received_at)).where(webhook_bodies.c.handled_at.is_(None))
    return connection.execute(waits).scalar_one() or now


def close(connection: sa.Connection, body_id: int, outcome: str, now: datetime) -> None:
    """Note how a body ended: `handled`, or what was wrong with it."""
    connection.execute(
        sa.update(webhook_bodies).where(webhook_bodies.c.body_id == body_id).values(handled_at=now, outcome=outcome)
    )
