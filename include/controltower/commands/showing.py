"""How a job's report is printed."""

from __future__ import annotations

from typing import Any


def show(report: dict[str, Any]) -> None:
    """Print a job's report, a line a figure."""
    for name, value in report.items():
        if isinstance(value, dict):
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
    return f"{value:.4f}" if isinstance(value, float) else str(value)
