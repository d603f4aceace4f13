"""How a job's report is printed, and its result written."""

from __future__ import annotations

import json
import unicodedata
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
    if isinstance(value, float):
        return f"{value:.4f}"
    # a row's own text may hold what a terminal obeys
    return "".join(repr(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in str(value))


def write_table(table: pa.Table, out: Path) -> None:
    from controltower.jobs.exports import write

    write(table, out)
    print(f"{table.num_rows} rows -> {out}")


def write_json(value: Any, out: Path) -> None:
    out.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    print(f"-> {out}")


def columns(header: list[str], rows: list[list[str]], longest: int, width: int = 100) -> list[str]:
    """Lines of a table, no wider than `width`: columns that don't fit go into a block below. Longer values are cut."""
    texts = [[_cut(value.replace("\n", " "), longest) for value in row] for row in [header, *rows]]
    widths = [max(_width(row[i]) for row in texts) for i in range(len(header))]
    lines: list[str] = []
    block: list[int] = []
    for i in range(len(header) + 1):
        if i == len(header) or (block and 2 + sum(widths[j] + 2 for j in [*block, i]) > width + 2):
            lines += [("  " + "  ".join(_padded(row[j], widths[j]) for j in block)).rstrip() for row in texts]
            block = []
        block.append(i)
    return lines


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _cut(text: str, longest: int) -> str:
    if _width(text) <= longest:
        return text
    while _width(text) > longest - 1:
        text = text[:-1]
    return text + "…"
