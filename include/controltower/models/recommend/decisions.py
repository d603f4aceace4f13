"""What was answered, with algorithm, position and probability: the log from which live results are learned.

Answers wait in memory and are written together, as Parquet files below HOME/serving/decisions/<day>/. Impressions and
clicks come back as events with the recommendation_id, and they tell whose it was: here nobody is named. What waits is
lost when the process is killed, and what exceeds the buffer is counted and not kept: the log costs no answer.
"""

from __future__ import annotations

import atexit
import logging
import secrets
import shutil
from collections import deque
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Lock, Timer

import pyarrow as pa
import pyarrow.parquet as pq

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        ("recommendation_id", pa.string()),
        ("decided_at", pa.timestamp("us", tz="UTC")),
        ("placement", pa.string()),
        ("position", pa.int16()),
        ("product_id", pa.string()),
        ("algorithm", pa.string()),
        ("probability", pa.float32()),  # of this product at this position; 1 while lists are not drawn by lot
        ("fallback", pa.string()),
        ("model_version", pa.string()),
        ("version", pa.string()),
    ]
)
WAIT = 5.0  # seconds between two files
MOST = 20_000  # answers that wait at most
DAYS = 90  # that files are kept

Row = tuple[str, datetime, str, Sequence[str], Sequence[str], str | None, str, str]


class Decisions:
    """The log of one process; any thread may note."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._waiting: deque[Row] = deque()
        self._lost = 0
        self._lock, self._timer = Lock(), None  # type: Lock, Timer | None
        atexit.register(self.flush)

    def note(
        self, now: datetime, placement: str, products: Sequence[str], algorithms: Sequence[str],
        fallback: str | None, model_version: str, version: str,
    ) -> str:  # fmt: skip
        """Keep an answer, the products in their order; returns its opaque recommendation_id."""
        made = secrets.token_hex(16)
        if len(self._waiting) >= MOST:
            with self._lock:
                self._lost += 1
            return made
        self._waiting.append((made, now, placement, products, algorithms, fallback, model_version, version))
        if self._timer is None:
            self._start()
        return made

    def flush(self) -> int:
        """Write what waits; returns how many answers that were. What can't be written is lost, and said."""
        with self._lock:
            self._timer = None
            rows = [self._waiting.popleft() for _ in range(len(self._waiting))]
            lost, self._lost = self._lost, 0
        try:  # without the lock, for which answers would wait
            if rows:
                self._write(rows)
        except Exception as e:  # the disk, Arrow, memory: the timer's thread has nobody else to tell
            lost += len(rows)
            log.error("recommendations' decisions can't be written: %s", type(e).__name__)
        if lost:
            log.warning("%d recommendations' decisions were not kept", lost)
        return len(rows)

    def _start(self) -> None:
        with self._lock:
            if self._timer is None:
                timer = Timer(WAIT, self.flush)
                timer.daemon = True
                try:
                    timer.start()
                except RuntimeError as e:  # no more threads: the next answer tries again
                    log.error("recommendations' decisions wait: %s", e)
                    return
                self._timer = timer

    def _write(self, rows: list[Row]) -> None:
        day = max(row[1] for row in rows).astimezone(UTC).date()
        folder = self.root / day.isoformat()
        if not folder.exists():
            self._remove_old(day)
            folder.mkdir(parents=True, exist_ok=True)
        name = f"{secrets.token_hex(8)}.parquet"
        fresh = folder / f".fresh-{name}"
        try:
            pq.write_table(table(rows), fresh, compression="zstd")
            fresh.rename(folder / name)
        finally:
            fresh.unlink(missing_ok=True)

    def _remove_old(self, today: date) -> None:
        for folder in self.root.glob("[0-9]*-*-*"):
            if folder.name < (today - timedelta(days=DAYS)).isoformat():
                shutil.rmtree(folder, ignore_errors=True)


def table(rows: Sequence[Row]) -> pa.Table:
    """Answers as rows of SCHEMA, one a product. An answer without products has none."""
    sizes = [len(row[3]) for row in rows]
    answer = pa.array([i for i, size in enumerate(sizes) for _ in range(size)], pa.int32())
    ids, at, placements, products, algorithms, fallbacks, models, versions = zip(*rows, strict=True)

    def repeated(values: Sequence[object], name: str) -> pa.Array:
        return pa.array(values, SCHEMA.field(name).type).take(answer)

    return pa.table(
        [
            repeated(ids, "recommendation_id"),
            repeated(at, "decided_at"),
            repeated(placements, "placement"),
            pa.array([p for size in sizes for p in range(1, size + 1)], pa.int16()),
            pa.array([p for some in products for p in some], pa.string()),
            pa.array([a for some in algorithms for a in some], pa.string()),
            pa.array([1.0] * sum(sizes), pa.float32()),
            repeated(fallbacks, "fallback"),
            repeated(models, "model_version"),
            repeated(versions, "version"),
        ],
        schema=SCHEMA,
    )
