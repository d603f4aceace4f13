"""`python -m bench [module ...]`: what each stage costs, beside the naive way.

A unit that ends in /s is a rate (more is better), any other a cost (less is better).
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from pathlib import Path
from typing import Any

FORM = "{:<66} {:>12} {:<8} {:>12} {:>9}"


def main(wanted: list[str]) -> int:
    known = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))
    if unknown := set(wanted) - set(known):
        print(f"There is no benchmark {', '.join(sorted(unknown))}; known: {', '.join(known)}.", file=sys.stderr)
        return 2
    print(FORM.format("", "ours", "unit", "naive", "times"), flush=True)
    for module in wanted or known:
        begun = time.monotonic()
        for result in importlib.import_module(f"bench.{module}").run():
            print(line(result), flush=True)
        print(f"  ({module}: {time.monotonic() - begun:.0f} s)", flush=True)
    return 0


def line(result: dict[str, Any]) -> str:
    """A row of the table; `times` says how many times better than naive we are."""
    value, naive, unit = result["value"], result.get("naive"), result["unit"]
    times = ""
    if naive:
        times = f"{value / naive if unit.endswith('/s') else naive / value:.1f} x"
    return FORM.format(result["name"], _number(value), unit, _number(naive) if naive else "-", times)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
