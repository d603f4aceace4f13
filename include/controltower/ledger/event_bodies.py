"""What shops posted to /v1/events: stored before it is read, brought into the lake once, emptied some time later."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from controltower.ledger.insert import inserted
from controltower.ledger.tables import event_bodies

_e = event_bodies.c
_WAITS = _e.ingested_at.is_(None)


class Body(NamedTuple):
    """A stored body that waits to be brought into the lake."""

    body_id: int
    body: bytes
    received_at: datetime


def store(connection: sa.Connection, bodies: Sequence[bytes], now: datetime) -> list[bool]:
    """Keep bodies. False: the same one was kept before, or came twice among these."""
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    rows = {d: {"digest": d, "body": b, "received_at": now} for d, b in zip(digests, bodies, strict=True)}
    new = set(inserted(connection, event_bodies, list(rows.values()), _e.digest))
    kept = []
    for digest in digests:
        kept.append(digest in new)
        new.discard(digest)
    return kept


def waiting(connection: sa.Connection, most: int) -> list[Body]:
    """The oldest bodies that wait."""
    rows = sa.select(_e.body_id, _e.body, _e.received_at).where(_WAITS).order_by(_e.body_id).limit(most)
    return [Body(*row) for row in connection.execute(rows)]


def close(connection: sa.Connection, bodies: Sequence[Body], now: datetime, *, keep: bool = True) -> None:
    """Note that these are in the lake. `keep`: the bodies for some time, too."""
    closed = sa.update(event_bodies).where(_e.body_id.in_([body.body_id for body in bodies]))
    connection.execute(closed.values({"ingested_at": now} if keep else {"ingested_at": now, "body": None}))
