"""Validated ingest of a million events into the lake, beside the same checks in plain pandas.

Both read the files, find what is required and missing, parse and bound times, make keys of floats, refuse negative
values and bad names, drop repeated event ids, put bad rows aside with their rule, and write Parquet by date. The rate
is per second of CPU of this process, DuckDB's threads included.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from controltower.jobs.ingest import ingest_data

Counts = tuple[int, int, int]  # loaded, duplicates, bad

ROWS = 1_000_000
END = pd.Timestamp("2026-01-01", tz="UTC")
NAMES = np.array(["view_item", "view_item", "view_item", "add_to_cart", "search", "begin_checkout", "purchase"])


def run() -> list[dict[str, Any]]:
    """Rows per CPU-second, for Parquet and CSV."""
    results = []
    with tempfile.TemporaryDirectory(prefix="ingest-bench-") as name:
        rows = _events()
        few = _shop(rows.head(100), name, "parquet", "warm-up")
        for kind in ("parquet", "csv"):
            _our_way(few, Path(name, f"home-{kind}"))  # imports, and the home's ledger
            shop = _shop(rows, name, kind, f"shop-{kind}")
            found, ours = _timed(_our_way, shop, Path(name, f"home-{kind}"))
            expected, naive = _timed(_naive_way, shop / f"events.{kind}", Path(name, f"naive-{kind}"))
            if found != expected:
                raise AssertionError(f"the two ways differ: {found} and {expected} (loaded, duplicates, bad)")
            results.append(
                {
                    "name": f"ingest of a million events, {kind}, per CPU",
                    "value": round(ROWS / ours),
                    "unit": "rows/s",
                    "naive": round(ROWS / naive),
                }
            )
    return results


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


def _shop(rows: pd.DataFrame, folder: str, kind: str, name: str) -> Path:
    shop = Path(folder, name)
    shop.mkdir()
    if kind == "parquet":
        rows.to_parquet(shop / "events.parquet", index=False)
    else:
        rows.to_csv(shop / "events.csv", index=False, date_format="%Y-%m-%dT%H:%M:%S.%fZ")
    return shop


def _timed(work: Callable[[Path, Path], Counts], given: Path, home: Path) -> tuple[Counts, float]:
    began = time.process_time()
    return work(given, home), time.process_time() - began


def _our_way(shop: Path, home: Path) -> Counts:
    with patch.dict(os.environ, {"CONTROLTOWER_HOME": str(home), "CONTROLTOWER_NOW": END.isoformat()}):
        report = ingest_data(str(shop), end=END.isoformat())["tables"]["events"]
    return report["loaded"], report["duplicates"], report["quarantined"]


def _naive_way(file: Path, home: Path) -> Counts:
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
