"""Validated ingest of 1 and 10 million events into the lake, beside the same checks in plain pandas and in one query.

All read the files, find what is required and missing, parse and bound times, make keys of floats, refuse negative
values and bad names, drop repeated event ids, put bad rows aside with their rule, and write Parquet by date. The rate
is per second of CPU of a process of its own, DuckDB's threads included; its peak memory is its own, too. The aims are
250,000 rows per second from Parquet and 150,000 from CSV, within 2 GB. `BENCH_MILLIONS="1 10 100"` measures 100, too:
ours alone, as the others don't fit into memory.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from controltower.jobs.ingest import ingest_data

Counts = tuple[int, int, int]  # loaded, duplicates, bad

ROWS = 1_000_000
MILLIONS = tuple(int(millions) for millions in os.environ.get("BENCH_MILLIONS", "1 10").split())
MOST_BESIDE = 20  # million rows that the other ways have memory for
END = pd.Timestamp("2026-01-01", tz="UTC")
NAMES = np.array(["view_item", "view_item", "view_item", "add_to_cart", "search", "begin_checkout", "purchase"])


def run() -> Iterator[dict[str, Any]]:
    """Rows per CPU-second and peak memory, for Parquet and CSV."""
    rows = _events()
    for times in MILLIONS:
        for kind in ("parquet", "csv"):
            with tempfile.TemporaryDirectory(prefix="ingest-bench-") as name:
                _shop(rows.head(100), name, kind, "few")
                shop = _shop(rows, name, kind, "shop", times)
                size = f"ingest of {times * ROWS:,} events, {kind}"
                found, ours, peak = _apart(_our_way, shop, Path(name, "home"))
                rate = {"value": round(times * ROWS / ours), "unit": "rows/s"}
                memory = {"value": peak, "unit": "MB"}
                if times > MOST_BESIDE:
                    yield {"name": f"{size}, per CPU", **rate}
                    yield {"name": f"{size}: peak", **memory}
                    continue
                others = {"pandas": _in_pandas, "one query": _in_one_query}
                for other, way in others.items():
                    expected, naive, naive_peak = _apart(way, shop, Path(name, way.__name__))
                    if found != expected:
                        raise AssertionError(f"{other} differs: {found} and {expected} (loaded, duplicates, bad)")
                    yield {"name": f"{size}, per CPU (naive: {other})", **rate, "naive": round(times * ROWS / naive)}
                    yield {"name": f"{size}: peak (naive: {other})", **memory, "naive": naive_peak}


def _events() -> pd.DataFrame:
    """Events of ninety days; 1 % repeated ids, 0.1 % each without a name, in the future, negative."""
    rng = np.random.default_rng(1)
    days = pd.Timestamp("2025-10-01", tz="UTC") + pd.to_timedelta(rng.uniform(0, 90 * 86400, ROWS).round(3), unit="s")
    ids = np.arange(ROWS)
    ids[rng.random(ROWS) < 0.01] = 7
    values = rng.gamma(2.0, 20.0, ROWS).round(2)
    values[rng.random(ROWS) < 0.001] *= -1
    rows = pd.DataFrame(
        {
            "event_id": pd.Series(ids).map("e{:09d}".format),
            "occurred_at": days,
            "received_at": days + pd.to_timedelta(rng.integers(0, 60, ROWS), unit="s"),
            "event_name": rng.choice(NAMES, ROWS),
            "customer_id": rng.integers(0, 100_000, ROWS).astype("float64"),
            "session_id": pd.Series(rng.integers(0, 300_000, ROWS)).map("s{}".format),
            "product_id": pd.Series(rng.integers(0, 5_000, ROWS)).map("p{}".format),
            "value": values,
            "quantity": rng.integers(1, 4, ROWS).astype("float64"),
            "channel": rng.choice(["web", "app"], ROWS),
        }
    ).sort_values("occurred_at")
    rows.loc[rng.random(ROWS) < 0.001, "event_name"] = None
    rows.loc[rng.random(ROWS) < 0.001, "received_at"] = pd.Timestamp("2099-01-01", tz="UTC")
    return rows


def _shop(rows: pd.DataFrame, folder: str, kind: str, name: str, times: int = 1) -> Path:
    """A shop of these events so many times over, with ids of their own but for the repeated ones."""
    shop = Path(folder, name)
    shop.mkdir()
    writer = None
    for copy in range(times):
        chunk = rows.assign(event_id=f"{copy:02}" + rows["event_id"])
        if kind == "csv":
            chunk.to_csv(
                shop / "events.csv", index=False, date_format="%Y-%m-%dT%H:%M:%S.%fZ", mode="a", header=not copy
            )
            continue
        table = pa.Table.from_pandas(chunk, preserve_index=False)
        writer = writer or pa.parquet.ParquetWriter(shop / "events.parquet", table.schema)
        writer.write_table(table)
    if writer:
        writer.close()
    return shop


def _apart(work: Callable[[Path, Path], Counts], shop: Path, home: Path) -> tuple[Counts, float, float]:
    """Counts, CPU-seconds and peak MB of the work in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, shop, home))


def _measured(work: Callable[[Path, Path], Counts], shop: Path, home: Path) -> tuple[Counts, float, float]:
    work(shop.with_name("few"), home.with_name(f"{home.name}-few"))  # imports, and what is loaded at first use
    began = time.process_time()
    counts = work(shop, home)
    return counts, time.process_time() - began, round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _our_way(shop: Path, home: Path) -> Counts:
    with patch.dict(os.environ, {"CONTROLTOWER_HOME": str(home), "CONTROLTOWER_NOW": END.isoformat()}):
        report = ingest_data(str(shop), end=END.isoformat())["tables"]["events"]
    return report["loaded"], report["duplicates"], report["quarantined"]


def _in_one_query(shop: Path, home: Path) -> Counts:
    """DuckDB with the memory that ours has."""
    file = next(shop.glob("events.*"))
    read = f"read_parquet('{file}')" if file.suffix == ".parquet" else f"read_csv('{file}', all_varchar = true)"
    key, text, when, number = (
        lambda name: rf"regexp_replace(trim(CAST({name} AS VARCHAR)), '^(-?\d+)\.0+$', '\1') AS {name}",
        lambda name: f"trim({name}) AS {name}",
        lambda name: f"TRY_CAST({name} AS TIMESTAMPTZ) AS {name}",
        lambda name: f"TRY_CAST({name} AS DECIMAL(18, 4)) AS {name}",
    )
    columns = [
        *map(key, ("event_id", "customer_id", "session_id", "product_id")), *map(text, ("event_name", "channel")),
        *map(when, ("occurred_at", "received_at")), *map(number, ("value", "quantity")),
    ]  # fmt: skip
    latest = f"TIMESTAMPTZ '{END.isoformat()}' + INTERVAL 5 MINUTE"
    checked = f"""
        SELECT rows.* EXCLUDE given, CASE
            WHEN rows.event_id IS NULL OR rows.occurred_at IS NULL OR rows.event_name IS NULL THEN 'required'
            WHEN rows.received_at IS NULL AND given.received_at IS NOT NULL THEN 'time'
            WHEN greatest(rows.occurred_at, rows.received_at) > {latest} THEN 'future'
            WHEN NOT regexp_full_match(rows.event_name, '[A-Za-z][A-Za-z0-9_]{{0,39}}') THEN 'event_name'
            WHEN rows.value IS NULL AND given.value IS NOT NULL THEN 'number'
            WHEN rows.quantity IS NULL AND given.quantity IS NOT NULL THEN 'number'
            WHEN rows.value < 0 AND rows.event_name <> 'refund' THEN 'negative' END AS rule
        FROM (SELECT row_number() OVER () + 1 AS line, given, {", ".join(columns)} FROM {read} AS given) AS rows"""
    home.mkdir()
    config = {"memory_limit": "1GB", "threads": 2, "temp_directory": str(home / "spill")}
    with duckdb.connect(config=config) as con:
        con.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET enable_progress_bar = false")
        con.execute(f"CREATE TEMP TABLE checked AS {checked}")
        con.execute(f"COPY (FROM checked WHERE rule IS NOT NULL) TO '{home / 'quarantine.parquet'}'")
        newest = "row_number() OVER (PARTITION BY event_id ORDER BY received_at, line) = 1"
        con.execute(
            f"COPY (SELECT * EXCLUDE (rule, line), CAST(occurred_at AS DATE) AS day FROM checked"
            f" WHERE rule IS NULL QUALIFY {newest}) TO '{home / 'events'}' (FORMAT parquet, PARTITION_BY day)"
        )
        ((good, bad),) = con.execute("SELECT count(*) FILTER (rule IS NULL), count(rule) FROM checked").fetchall()
        ((kept,),) = con.execute(f"SELECT count(*) FROM read_parquet('{home}/events/*/*.parquet')").fetchall()
    return kept, good - kept, bad


def _in_pandas(shop: Path, home: Path) -> Counts:
    file = next(shop.glob("events.*"))
    raw = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, dtype=str)
    raw["line"] = np.arange(2, len(raw) + 2)
    rows = pd.DataFrame({"line": raw["line"]})
    for name in ("event_id", "customer_id", "session_id", "product_id"):
        rows[name] = raw[name].astype("string").str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    for name in ("event_name", "channel"):
        rows[name] = raw[name].astype("string").str.strip()
    for name in ("occurred_at", "received_at"):
        rows[name] = pd.to_datetime(raw[name], utc=True, errors="coerce", format="ISO8601")
    for name in ("value", "quantity"):
        rows[name] = pd.to_numeric(raw[name], errors="coerce")
    broken = {
        "required": rows[["event_id", "occurred_at", "event_name"]].isna().any(axis=1),
        "time": rows["received_at"].isna() & raw["received_at"].notna(),
        "future": (rows[["occurred_at", "received_at"]] > END + pd.Timedelta(minutes=5)).any(axis=1),
        "event_name": ~rows["event_name"].str.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,39}").fillna(True).astype(bool),
        "number": (rows["value"].isna() & raw["value"].notna()) | (rows["quantity"].isna() & raw["quantity"].notna()),
        "negative": (rows["value"] < 0) & (rows["event_name"] != "refund").fillna(True).astype(bool),
    }
    rows["rule"] = pd.Series(pd.NA, index=rows.index, dtype="string")
    for rule, where in broken.items():
        rows.loc[where & rows["rule"].isna(), "rule"] = rule
    bad = rows[rows["rule"].notna()]
    good = rows[rows["rule"].isna()].sort_values("received_at", kind="stable")
    kept = good.drop_duplicates("event_id")
    home.mkdir()
    bad.to_parquet(home / "quarantine.parquet", index=False)
    for day, part in kept.drop(columns=["rule", "line"]).groupby(kept["occurred_at"].dt.date):
        money = pa.array(part["value"].round(4).map("{:.4f}".format, na_action="ignore")).cast(pa.decimal128(18, 4))
        table = pa.Table.from_pandas(part, preserve_index=False)
        table = table.set_column(table.column_names.index("value"), "value", money)
        pa.parquet.write_table(table, home / f"{day}.parquet")
    return len(kept), len(good) - len(kept), len(bad)
