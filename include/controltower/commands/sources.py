"""`controltower source list|check`: which sources there are, and what one would bring, before anything is loaded."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from controltower.commands.showing import columns

app = typer.Typer(no_args_is_help=True, help="Where a shop's data comes from.")

_CELL = 30  # columns of the terminal


@app.command("list")
def list_() -> None:
    """Every source that `ingest --source` knows by name, and its file."""
    from controltower.jobs.sources import list_sources

    for found in list_sources():
        print(f"{found['name']} ({found['kind']}): {found['about'] or 'says nothing of itself'}")
        if found["file"]:
            print(f"  {found['file']}")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="a source's name, a folder, or a URL prefix")],
    rows: Annotated[int, typer.Option(min=0, max=1000, help="how many rows to show of each table")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="the same for programs")] = False,
) -> None:
    """Show the mapping on real rows, null shares and broken rules; exit 1 where a load would be refused."""
    from controltower.jobs.sources import check_source

    report = check_source(name, rows)
    if as_json:
        print(json.dumps(report, ensure_ascii=False, indent=1))
    else:
        _show(report)
    if not report["ok"]:
        sys.exit(1)


def _show(report: dict[str, Any]) -> None:
    print(f"source {report['source']}, naive times in {report['zone']}")
    for name, table in report["tables"].items():
        _show_table(name, table)
    for note in report["notes"]:
        print(f"note: {note}")
    refused = [name for name, table in report["tables"].items() if not table["ok"]]
    print("\n" + (f"A load would be refused: {', '.join(refused)}." if refused else "A load would be taken."))


def _show_table(name: str, table: dict[str, Any]) -> None:
    part = "all" if table["whole"] else "a sample of"
    print(f"\n== {name}: {len(table['files'])} files; {part} {table['read']:,} rows read, {table['bad']:,} bad")
    if table["error"]:
        print(f"  ERROR {table['error']}")
    mapped = []
    for column in table["columns"]:
        told = f"= {column['expression']}" if column["expression"] else column["from"] or "MISSING"
        null = "" if column["null"] is None else f"{column['null']:.1%}"
        mapped.append([column["column"] + " *" * column["required"], told, column["type"], null])
    print(*columns(["ours (* required)", "from", "type", "empty"], mapped, 45), sep="\n")
    if table["kept"]:
        print(f"  kept in attributes: {', '.join(table['kept'])}")
    if table["broken"]:
        print("  rules broken:")
        bad = [[str(b["rows"]), f"{b['rule']}{' of ' + b['column'] if b['column'] else ''}",
                f"{b['file']} line {b['line']}", str(b["value"])] for b in table["broken"]]  # fmt: skip
        print(*columns(["rows", "rule", "for example", "value"], bad, _CELL), sep="\n")
    for note in table["notes"]:
        print(f"  note: {note}")
    if table["rows"]:
        print("  rows as they would be stored (personal values masked):")
        names = list(dict.fromkeys(name for row in table["rows"] for name in row))
        print(*columns(names, [[row.get(name, "") for name in names] for row in table["rows"]], _CELL), sep="\n")
