"""What the sandbox was sent, in one SQLite file: accepted requests, a row per mail or push, and faults to come."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, channel TEXT NOT NULL, received_at TEXT NOT NULL, provider_id TEXT NOT NULL,
    body BLOB NOT NULL  -- the JSON as it came, zlib
);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, request_id INTEGER NOT NULL REFERENCES requests(id), position INTEGER NOT NULL,
    channel TEXT NOT NULL, received_at TEXT NOT NULL, provider_id TEXT NOT NULL,
    message_id TEXT, recipient TEXT NOT NULL, title TEXT NOT NULL, send_at INTEGER
);
CREATE INDEX IF NOT EXISTS messages_by_key ON messages (message_id, recipient);
CREATE INDEX IF NOT EXISTS messages_by_channel ON messages (channel);
CREATE TABLE IF NOT EXISTS batches (batch_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS unsubscribed (
    group_id INTEGER NOT NULL, address TEXT NOT NULL, created_at INTEGER NOT NULL,  -- epoch seconds
    PRIMARY KEY (group_id, address)
);
CREATE TABLE IF NOT EXISTS faults (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, provider TEXT, seconds REAL NOT NULL, remaining INTEGER NOT NULL
);
"""


class Entry(NamedTuple):
    """One mail or push of a request; `position` is its personalization, `send_at` epoch seconds."""

    position: int
    message_id: str | None
    recipient: str
    title: str
    send_at: int | None = None


@dataclass(frozen=True)
class Fault:
    """How the next request is to be answered wrongly."""

    kind: str
    seconds: float


class Store:
    """One connection behind a lock: safe among threads, and it survives a restart."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        path.chmod(0o600)  # it holds addresses

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, channel: str, provider_id: str, received_at: str, body: bytes, entries: Sequence[Entry]) -> None:
        """Keep an accepted request and its messages, in one transaction."""
        packed = zlib.compress(body, 1)
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                request = self._db.execute(
                    "INSERT INTO requests (channel, received_at, provider_id, body) VALUES (?, ?, ?, ?)",
                    (channel, received_at, provider_id, packed),
                ).lastrowid
                self._db.executemany(
                    "INSERT INTO messages (request_id, channel, received_at, provider_id, position, message_id,"
                    " recipient, title, send_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [(request, channel, received_at, provider_id, *e) for e in entries],
                )
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def summary(self) -> dict[str, int]:
        """Counts; `duplicates` are the (message_id, recipient) pairs seen more than once."""
        counts = {r["channel"]: r["n"] for r in self._rows("SELECT channel, count(*) n FROM messages GROUP BY channel")}
        return {
            "mails": counts.get("email", 0),
            "pushes": counts.get("push", 0),
            "requests": self._number("SELECT count(*) FROM requests"),
            "message_ids": self._number("SELECT count(DISTINCT message_id) FROM messages"),
            "duplicates": self._number(
                "SELECT count(*) FROM (SELECT 1 FROM messages WHERE message_id IS NOT NULL"
                " GROUP BY message_id, recipient HAVING count(*) > 1)"
            ),
        }

    def find(
        self,
        *,
        message_id: str | None = None,
        channel: str | None = None,
        text: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[list[dict[str, Any]], int]:
        """The newest messages that match, and how many match in all; `text` is looked for in who, what and the key."""
        where, values = ["1"], list[Any]()
        if message_id:
            where.append("message_id = ?")
            values.append(message_id)
        if channel:
            where.append("channel = ?")
            values.append(channel)
        if text:
            like = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            where.append("(recipient LIKE ? ESCAPE '\\' OR title LIKE ? ESCAPE '\\' OR message_id LIKE ? ESCAPE '\\')")
            values += [like] * 3
        condition = " AND ".join(where)
        found = self._rows(
            f"SELECT * FROM messages WHERE {condition} ORDER BY id DESC LIMIT ? OFFSET ?", [*values, limit, offset]
        )
        return [dict(r) for r in found], self._number(f"SELECT count(*) FROM messages WHERE {condition}", values)

    def message(self, key: int, channel: str) -> dict[str, Any] | None:
        found = self._rows("SELECT * FROM messages WHERE id = ? AND channel = ?", (key, channel))
        return dict(found[0]) if found else None

    def body(self, request: int) -> bytes | None:
        """A request's JSON as it came."""
        found = self._rows("SELECT body FROM requests WHERE id = ?", (request,))
        return zlib.decompress(found[0]["body"]) if found else None

    def clear(self) -> None:
        """Forget every request and message; batches and faults stay."""
        with self._lock:
            self._db.executescript("BEGIN; DELETE FROM messages; DELETE FROM requests; COMMIT;")

    def add_batch(self, batch_id: str) -> None:
        self._rows("INSERT INTO batches VALUES (?)", (batch_id,))

    def knows_batch(self, batch_id: str) -> bool:
        return bool(self._rows("SELECT 1 FROM batches WHERE batch_id = ?", (batch_id,)))

    def unsubscribe(self, group_id: int, addresses: Iterable[str], created_at: int) -> None:
        """Put addresses in an unsubscribe group; who is in it already keeps their time."""
        with self._lock:
            self._db.executemany(
                "INSERT OR IGNORE INTO unsubscribed VALUES (?, ?, ?)", [(group_id, a, created_at) for a in addresses]
            )

    def resubscribe(self, group_id: int, address: str) -> None:
        self._rows("DELETE FROM unsubscribed WHERE group_id = ? AND address = ?", (group_id, address))

    def unsubscribed(self) -> list[dict[str, Any]]:
        """All groups' addresses, the oldest first."""
        found = self._rows("SELECT group_id, address, created_at FROM unsubscribed ORDER BY created_at, address")
        return [dict(r) for r in found]

    def add_fault(self, kind: str, count: int, seconds: float, provider: str | None) -> None:
        """Let the next `count` requests to a provider (None: to either) meet this fault, after those set before."""
        self._rows(
            "INSERT INTO faults (kind, provider, seconds, remaining) VALUES (?, ?, ?, ?)",
            (kind, provider, seconds, count),
        )

    def clear_faults(self) -> None:
        self._rows("DELETE FROM faults")

    def take_fault(self, provider: str) -> Fault | None:
        """The fault that this request meets, counted down; None where there is none."""
        with self._lock:
            row = self._db.execute(
                "SELECT * FROM faults WHERE provider IS NULL OR provider = ? ORDER BY id LIMIT 1", (provider,)
            ).fetchone()
            if row is None:
                return None
            if row["remaining"] > 1:
                self._db.execute("UPDATE faults SET remaining = remaining - 1 WHERE id = ?", (row["id"],))
            else:
                self._db.execute("DELETE FROM faults WHERE id = ?", (row["id"],))
            return Fault(row["kind"], row["seconds"])

    def _rows(self, sql: str, values: Iterable[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(sql, tuple(values)).fetchall()

    def _number(self, sql: str, values: Iterable[Any] = ()) -> int:
        return int(self._rows(sql, values)[0][0])
