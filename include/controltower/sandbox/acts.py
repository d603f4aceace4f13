"""What customers are going to do about what the sandbox caught: planned once, done when its time has come.

Kept in the sandbox's own SQLite file, so that answers resume where they stopped and nothing is decided twice.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

_SCHEMA = """
CREATE TABLE IF NOT EXISTS planned (
    provider_id TEXT NOT NULL, position INTEGER NOT NULL, message_id TEXT, PRIMARY KEY (provider_id, position)
);
CREATE INDEX IF NOT EXISTS planned_by_message ON planned (message_id);
CREATE TABLE IF NOT EXISTS acts (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS acts_to_do ON acts (kind, at) WHERE done = 0;
"""


class Caught(NamedTuple):
    """A mail or push in the sandbox's store, with the request that brought it."""

    provider_id: str
    position: int
    channel: str
    recipient: str
    message_id: str | None
    received_at: datetime
    send_at: int | None
    request: bytes


class Act(NamedTuple):
    """`kind` is event, click, leave or rows; `at` is in the home's time."""

    at: datetime
    kind: str
    detail: dict[str, Any]


class Acts:
    """The plans beside a sandbox's store. Used by one process at a time (see answers.py)."""

    def __init__(self, store: Path) -> None:
        self._db = sqlite3.connect(store, isolation_level=None, timeout=30)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def unplanned(self, most: int) -> list[Caught]:
        """The oldest messages for which nothing is planned yet."""
        rows = self._db.execute(
            "SELECT m.provider_id, m.position, m.channel, m.recipient, m.message_id, m.received_at, m.send_at, r.body"
            " FROM messages m JOIN requests r ON r.id = m.request_id"
            " LEFT JOIN planned p ON p.provider_id = m.provider_id AND p.position = m.position"
            " WHERE p.provider_id IS NULL ORDER BY m.id LIMIT ?",
            (most,),
        )
        return [
            Caught(provider, position, channel, recipient, message, datetime.fromisoformat(received), send_at,
                   zlib.decompress(body))
            for provider, position, channel, recipient, message, received, send_at, body in rows
        ]  # fmt: skip

    def is_planned(self, message_id: str) -> bool:
        """Whether the customer has decided about this message: it may have come twice, or to several devices."""
        found = self._db.execute("SELECT 1 FROM planned WHERE message_id = ? LIMIT 1", (message_id,))
        return found.fetchone() is not None

    def plan(self, caught: Sequence[Caught], acts: Iterable[Act]) -> None:
        """Note what is going to be done about these messages."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO planned VALUES (?, ?, ?)", [(c.provider_id, c.position, c.message_id) for c in caught]
            )
            self._db.executemany(
                "INSERT INTO acts (at, kind, detail) VALUES (?, ?, ?)",
                [(a.at.timestamp(), a.kind, json.dumps(a.detail, ensure_ascii=False)) for a in acts],
            )

    def due(self, kind: str, until: datetime) -> list[tuple[int, Act]]:
        """The acts of a kind whose time has come, the earliest first, with their keys."""
        rows = self._db.execute(
            "SELECT id, at, kind, detail FROM acts WHERE done = 0 AND kind = ? AND at <= ? ORDER BY at, id",
            (kind, until.timestamp()),
        )
        return [(key, Act(datetime.fromtimestamp(at, UTC), what, json.loads(detail))) for key, at, what, detail in rows]

    def done(self, keys: Iterable[int]) -> None:
        with self._transaction():
            self._db.executemany("UPDATE acts SET done = 1 WHERE id = ?", [(key,) for key in keys])

    def left(self) -> int:
        """How many acts are still to come."""
        return int(self._db.execute("SELECT count(*) FROM acts WHERE done = 0").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
