"""How a job's report is printed, and its result written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def show(report: dict[str, Any]) -> None:
    """Print a job's report, a line a figure."""
    for name, value in report.items():
        if isinstance(value, dict) and value:
            print(f"{name}:")
            for key, inner in value.items():
                print(f"  {key}: {plain(inner)}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{name}:")
            for row in value:
                print("  - " + ", ".join(f"{k} {plain(v)}" for k, v in row.items()))
        else:
            print(f"{name}: {plain(value)}")


def plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def write_table(table: pa.Table, out: Path) -> None:
    from controltower.jobs.exports import write

    write(table, out)
    print(f"{table.num_rows} rows -> {out}")


def write_json(value: Any, out: Path) -> None:
    out.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    print(f"-> {out}")
