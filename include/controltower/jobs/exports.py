"""Results as tables, and into files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.errors import ControlTowerError

if TYPE_CHECKING:
    import pyarrow as pa


def derived(table: str, as_of: str) -> pa.Table:
    """`features`, `scores` or `recommendations` as of a moment."""
    from controltower.data.lake import Lake

    conf = settings.load()
    with Lake(conf).read(clock.parse(as_of, settings.load_shop(conf))) as lake:
        return lake.arrow(lake.derived(table).order_by("customer_id"))


def decisions(run_id: int) -> pa.Table:
    """A run's frozen audience: who gets what, and who gets nothing and why."""
    import pyarrow as pa

    from controltower.ledger import reports
    from controltower.ledger.database import reading

    text = ("customer_id", "outcome", "reason", "arm", "channel", "algorithm")
    schema = pa.schema(
        [(name, pa.string()) for name in text] + [("probability", pa.float64()), ("due_at", pa.timestamp("us", "UTC"))]
    )
    with reading(settings.load()) as ledger:
        return pa.Table.from_pylist(reports.audience(ledger, run_id), schema=schema)


def export_top_customers(as_of: str | None = None, at_most: int = 100) -> dict[str, Any]:
    """Write the customers most likely to buy within a week to HOME/exports/top_customers-<as of>.csv.

    Ids, scores and model versions, the likeliest first. Returns {as_of, file, customers}.
    """
    from controltower.data.lake import Lake, interval_key

    conf = settings.load()
    moment = clock.parse(as_of, settings.load_shop(conf)) if as_of else clock.now(conf)
    with Lake(conf).read(moment) as lake:
        scores = lake.derived("scores")
        top = scores.order_by(scores.propensity_7d.desc(), "customer_id").limit(at_most)
        table = lake.arrow(top.select("customer_id", "propensity_7d", "model_version"))
    out = conf.home / "exports" / f"top_customers-{interval_key(moment)}.csv"
    out.parent.mkdir(exist_ok=True)
    write(table, out)
    return {"as_of": moment.isoformat(), "file": out.name, "customers": table.num_rows}


def check(out: Path) -> None:
    """Raise, before any work is done, where a result could not be written there."""
    if out.suffix not in {".csv", ".parquet", ".json"}:
        raise ControlTowerError(f"{out.name} has no known form.", "Use a name that ends in .csv, .parquet or .json.")
    if not out.parent.is_dir():
        raise ControlTowerError(f"There is no folder {out.parent}.", "Make it first.")
    if not os.access(out.parent, os.W_OK):
        raise ControlTowerError(f"{out.parent} can't be written to.", "Choose another folder.")


def write(table: pa.Table, out: Path) -> None:
    """Write a table as .csv, .parquet or .json (a list of objects); whole or not at all.

    In a CSV file no text is a formula to a spreadsheet; the others keep every text as it is.
    """
    import pyarrow.csv
    import pyarrow.parquet

    from controltower.data.spreadsheet import plain_texts

    check(out)
    fresh = out.with_name(f".{out.name}-{os.getpid()}")
    try:
        if out.suffix == ".csv":
            pyarrow.csv.write_csv(plain_texts(table), fresh)
        elif out.suffix == ".parquet":
            pyarrow.parquet.write_table(table, fresh)
        else:
            fresh.write_text(json.dumps(table.to_pylist(), ensure_ascii=False, default=str), encoding="utf-8")
        fresh.replace(out)
    finally:
        fresh.unlink(missing_ok=True)
