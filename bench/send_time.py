"""What the send-time tables of a million customers cost, from SEND_TIME_EVENTS (100,000,000) engagement events.

The events are drawn: sessions of five events within ten minutes over a year, more of them in a customer's evening, from
a million customers, some of whom come often and most seldom; one customer in ten has a time zone of their own. Beside
them stand a message per hundred events, and a tenth of the messages are opened or clicked. The active hours come from
DuckDB as the lake's would, and stream into arrays; the model is trained, and makes everybody's tables. CPU-seconds of
each step, and the process's peak memory. Naive is a loop over customers with pandas, of a thousand of them, times 1000.
`python -m bench send_time`
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
from controltower.data.contract import CONTRACT
from controltower.models.send_time import evidence, training
from controltower.models.send_time.evidence import Hours
from controltower.shop import Sender, Shop
from threadpoolctl import threadpool_limits

EVENTS = int(os.environ.get("SEND_TIME_EVENTS", "100000000"))
CUSTOMERS = 1_000_000
AS_OF = datetime(2026, 6, 15, tzinfo=UTC)
MEMORY = "2GB"
SHOP = Shop(
    name="Bench", timezone="Europe/London", currency="GBP", url="https://shop.example",
    sender=Sender(name="Bench", email="a@shop.example", contact="1", postal_address="1 Street"),
)  # fmt: skip

# A place in the square of two uniform draws: half of the sessions are those of 15 % of the customers.
_DRAWN = """
    SELECT n, 'c' || CAST(pow(random(), 2.5) * {customers} AS INTEGER) AS customer_id,
           {last} - CAST(random() * 364 AS BIGINT) * 86400 - 86400
           + CAST((18 + 5 * (random() + random() - 1)) * 3600 AS BIGINT) AS begun
    FROM range({sessions}) s(n)
"""
_EVENTS = """
    COPY (
        SELECT customer_id, to_timestamp(begun + CAST(random() * 600 AS INTEGER)) AS occurred_at, 'web' AS channel,
               CAST(NULL AS VARCHAR) AS click_id
        FROM ({drawn}), range(5)
    ) TO '{folder}/events.parquet'
"""
_SENT = """
    COPY (
        SELECT 'm' || n AS message_id, customer_id, 'email' AS channel, to_timestamp(begun) AS sent_at,
               CAST(NULL AS VARCHAR) AS variant, CAST(NULL AS VARCHAR) AS treatment
        FROM ({drawn})
    ) TO '{folder}/messages_history.parquet'
"""
_ANSWERS = """
    COPY (
        SELECT message_id, CASE WHEN random() < 0.3 THEN 'clicked' ELSE 'opened' END AS event,
               sent_at + to_seconds(CAST(random() * 20000 AS INTEGER)) AS occurred_at,
               CAST(NULL AS VARCHAR) AS attributes
        FROM '{folder}/messages_history.parquet' WHERE random() < 0.1
    ) TO '{folder}/message_events.parquet'
"""


def run() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        _alone(_draw, folder)
        parts, peak, naive = _alone(_measured, folder)
    size = f"{EVENTS:,} events, {CUSTOMERS:,} customers"
    for name, seconds in parts.items():
        yield {"name": f"send time, {name}", "value": seconds, "unit": "CPU-s"}
    yield {"name": f"send-time tables, {size}", "value": sum(parts.values()), "unit": "CPU-s", "naive": naive}
    yield {"name": "the same: peak", "value": peak, "unit": "MB"}


def _alone(way: Any, *given: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_by_one_thread, (way, given))


def _by_one_thread(way: Any, given: Any) -> Any:
    with threadpool_limits(1):
        return way(*given)


def _draw(folder: str) -> None:
    drawn = {"customers": CUSTOMERS - 1, "last": int(AS_OF.timestamp())}
    connection = duckdb.connect(config={"threads": 1, "memory_limit": MEMORY, "temp_directory": folder})
    connection.execute("SET enable_progress_bar = false; SELECT setseed(0.5)")
    connection.execute(_EVENTS.format(drawn=_DRAWN.format(sessions=EVENTS // 5, **drawn), folder=folder))
    connection.execute(_SENT.format(drawn=_DRAWN.format(sessions=EVENTS // 100, **drawn), folder=folder))
    connection.execute(_ANSWERS.format(folder=folder))


def _measured(folder: str) -> tuple[dict[str, float], float, float]:
    backend = ibis.duckdb.connect(threads=1, memory_limit=MEMORY, temp_directory=folder)
    backend.raw_sql("SET enable_progress_bar = false")
    drawn = {path.stem: backend.read_parquet(path) for path in sorted(Path(folder).glob("*.parquet"))}
    ids = np.char.add("c", np.arange(CUSTOMERS).astype("U7"))
    zones = pa.array(["Asia/Seoul" if n % 10 == 0 else None for n in range(CUSTOMERS)], pa.string())
    people = {"customer_id": pa.array(ids), "timezone": zones, "country": pa.nulls(CUSTOMERS, pa.string())}
    backend.create_table("people", pa.table(people))

    def tables(name: str) -> Any:
        if name == "customers":
            return backend.table("people")
        if name in drawn:
            return drawn[name]
        return ibis.memtable(CONTRACT[name].schema.empty_table())

    parts, begun = {}, time.process_time()

    def lap(name: str) -> None:
        nonlocal begun
        parts[name], begun = time.process_time() - begun, time.process_time()

    backend.create_table("hours", evidence.active_hours(tables, AS_OF, SHOP), temp=True)
    lap("active hours by DuckDB")
    rows = backend.con.sql("SELECT * FROM hours").to_arrow_reader(1_000_000)  # as Reading.batches does
    hours = Hours.of(rows, AS_OF, np.sort(ids))
    lap(f"{len(hours):,} of them into arrays")
    outcome = training.train(hours, AS_OF)
    lap("training")
    found = outcome.model.predict(hours)
    lap("everybody's tables")
    assert found.week.shape == (CUSTOMERS, 168)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return parts, peak, _naive(hours)


def _naive(hours: Hours) -> float:
    """A table a customer by pandas."""
    few = hours.of_customers(np.arange(0, CUSTOMERS, CUSTOMERS // 1000))
    frame = pd.DataFrame({"customer": few.customer, "slot": few.slot})
    begun = time.process_time()
    for _, own in frame.groupby("customer"):
        own["slot"].value_counts().reindex(range(168), fill_value=0).rolling(3, center=True).sum().idxmax()
    return (time.process_time() - begun) * CUSTOMERS / 1000
