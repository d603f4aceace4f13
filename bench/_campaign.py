"""A shop of any size with a campaign for all its customers, and what the stages of that cost as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
from controltower import clock
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake, interval_key
from controltower.ledger import insert, plans
from controltower.ledger.database import begin, forget
from controltower.ledger.tables import consents
from controltower.models.send_time.tables import around
from controltower.settings import INCLUDE, Settings

PLANNED = datetime(2026, 6, 14, 23, tzinfo=UTC)  # eight in the morning in Seoul
ALL_DUE = PLANNED + timedelta(hours=12, minutes=30)
HOURS = range(8, 21)  # when customers like to get mail, in Seoul
PRODUCTS, SHOWN, CAMPAIGN = 2000, 6, "win_back"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What running a command took: CPU of its process and of the database server, the time by the clock, its memory."""

    client: float  # seconds
    server: float  # seconds
    wall: float  # seconds
    memory: int  # bytes, at most

    @property
    def cpu(self) -> float:
        return self.client + self.server


def run(home: Path, environment: Mapping[str, str], server: int | None, *commands: Sequence[str]) -> list[Cost]:
    """Run `controltower` commands side by side, each to its end. `server`: the PostgreSQL postmaster's process."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("CONTROLTOWER_")} | dict(environment)
    before, began = server_cpu(server), time.monotonic()
    started = []
    for number, command in enumerate(commands):
        told = home / f"told-{number}"
        with told.open("wb") as out:
            whole = [sys.executable, "-m", "controltower.cli", "--home", str(home), *command]
            started.append((subprocess.Popen(whole, env=ours, stdout=out, stderr=out), told))
    costs, memory = [], [0] * len(started)
    for number, (process, told) in enumerate(started):
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            memory = [max(m, _peak(p.pid)) for m, (p, _) in zip(memory, started, strict=True)]
            time.sleep(0.05)
        _, status, used = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{process.args} failed: {told.read_text()[-2000:]}")
        wall = time.monotonic() - began
        costs.append(Cost(used.ru_utime + used.ru_stime, 0.0, wall, memory[number]))
    asked = (server_cpu(server) - before) / len(costs)
    return [replace(c, server=asked) for c in costs]


def _peak(pid: int) -> int:
    """The most memory that a process had so far, in bytes; its `ru_maxrss` would begin with ours, which forked it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def server_cpu(postmaster: int | None) -> float:
    """CPU seconds of a PostgreSQL server, of all its processes so far."""
    if postmaster is None:
        return 0.0
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat.parent.name) == postmaster:
            total += sum(map(int, fields[11:15]))  # with its children that have ended
        elif int(fields[1]) == postmaster:
            total += sum(map(int, fields[11:13]))
    return total / _TICKS


def set_time(home: Path, moment: datetime) -> None:
    clock.set_clock(Settings(home=home), moment, speed=0)


def write_shop(home: Path, number: int) -> None:
    """The lake and the shop file: all that planning and sending read but consents."""
    text = (INCLUDE / "shops" / "simulated.yaml").read_text(encoding="utf-8")
    (home / "shop.yaml").write_text(
        "".join(line for line in text.splitlines(True) if not line.startswith("approve_above")), encoding="utf-8"
    )
    rng = np.random.default_rng(1)
    ids = customers(number)
    lake = Lake(Settings(home=home))

    def publish(table: str, columns: Mapping[str, object], interval: str = "bench") -> None:
        contract = CONTRACT.get(table)
        if contract:
            schema = contract.schema
            rows = len(next(c for c in columns.values() if isinstance(c, list)))
            arrays = [
                pa.nulls(rows, f.type) if f.name not in columns
                else pa.array(c, f.type) if isinstance(c := columns[f.name], list)
                else pa.repeat(pa.scalar(c, f.type), rows)
                for f in schema
            ]  # fmt: skip
            lake.commit(interval, {table: lake.write(table, pa.Table.from_arrays(arrays, schema=schema))})
        else:
            lake.commit(interval, {table: lake.write(table, pa.table(dict(columns)))})

    day = PLANNED - timedelta(hours=2)
    publish("customers", {
        "customer_id": ids, "updated_at": day, "email": [f"{c}@customers.example" for c in ids],
        "first_name": ["민지", "서연", "도윤", "지우", "하준"] * (number // 5), "country": "KR", "locale": "ko-KR",
        "timezone": "Asia/Seoul",
    })  # fmt: skip
    publish("products", {
        "product_id": [f"p{n}" for n in range(PRODUCTS)], "updated_at": day,
        "title": [f"상품 {n} 가볍고 따뜻한 가을 니트" for n in range(PRODUCTS)],
        "price": [Decimal(12_300 + n) for n in range(PRODUCTS)], "currency": "KRW",
        "url": [f"https://haru.example/products/{n}" for n in range(PRODUCTS)],
        "image_url": [f"https://haru.example/images/{n}.jpg" for n in range(PRODUCTS)], "in_stock": True,
    })  # fmt: skip
    as_of, key = pa.repeat(pa.scalar(day, pa.timestamp("us", tz="UTC")), number), interval_key(day)
    publish("features", {
        "customer_id": ids, "as_of": as_of, "orders_total": pa.repeat(3, number),
        "days_since_last_order": pa.repeat(100.0, number), "revenue_365d": rng.exponential(50_000, number),
    }, key)  # fmt: skip
    hours = rng.integers(HOURS.start, HOURS.stop, number)
    publish("scores", {
        "customer_id": ids, "as_of": as_of, "send_hour": hours,
        "send_hours_email": pa.FixedSizeListArray.from_arrays(pa.array(around(hours).ravel()), 168),
        "model_version": pa.repeat("send_hour-1", number),
    }, key)  # fmt: skip
    chosen = (rng.zipf(1.3, number * SHOWN) % PRODUCTS).reshape(number, SHOWN)
    for n in range(1, SHOWN):  # each product once
        while (twice := (chosen[:, :n] == chosen[:, n : n + 1]).any(axis=1)).any():
            chosen[twice, n] = (chosen[twice, n] + 1) % PRODUCTS
    rows = number * SHOWN
    publish("recommendations", {
        "customer_id": pa.array(ids).take(pa.array(np.repeat(np.arange(number), SHOWN))),
        "as_of": pa.repeat(as_of[0], rows), "placement": pa.repeat("for_you", rows),
        "rank": np.tile(np.arange(1, SHOWN + 1), number),
        "product_id": pa.array([f"p{n}" for n in range(PRODUCTS)]).take(pa.array(chosen.ravel())),
        "algorithm": pa.repeat("als", rows), "reason_code": pa.repeat("popular", rows),
        "reason_value": pa.nulls(rows, pa.string()),
    }, key)  # fmt: skip


def customers(number: int) -> list[str]:
    return [f"c{n:07}" for n in range(number)]


def write_customers(home: Path, database: str | None, number: int) -> None:
    """What the ledger knows of them: that they consent to marketing e-mails, and who they are for experiments."""
    before = PLANNED - timedelta(days=9)
    with begin(Settings(home=home, database_url=database)) as ledger:
        said = {
            "customer_id": customers(number), "channel": "email", "purpose": "marketing", "recorded_at": before,
            "granted": True, "source": "bench",
        }  # fmt: skip
        rows = {n: pa.array(v) if isinstance(v, list) else pa.repeat(v, number) for n, v in said.items()}
        insert.load(ledger, consents, [pa.table(rows)])
        plans.subject_ids(ledger, customers(number), before)
    forget()
