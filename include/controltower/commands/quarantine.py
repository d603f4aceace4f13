"""`controltower quarantine list|export|replay`: rows that broke a rule, mended and loaded after all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controltower.commands.showing import show

app = typer.Typer(no_args_is_help=True, help="Rows that broke a rule: list, mend, load them after all.")

Table = Annotated[str, typer.Argument(help="of the contract, as orders")]


@app.command("list")
def list_(
    table: Annotated[str | None, typer.Option(help="only of this table")] = None,
    rule: Annotated[str | None, typer.Option(help="only what broke this rule")] = None,
    load: Annotated[str | None, typer.Option(help="only of this load: its interval, as `ingest` prints it")] = None,
    at_most: Annotated[int, typer.Option(min=0, help="so many rows are shown; all are counted")] = 50,
) -> None:
    """Count what waits in quarantine, and show the rows with their masked values."""
    from controltower.jobs.quarantine import list_quarantine

    show(list_quarantine(table, rule, load, at_most))


@app.command()
def export(
    table: Table,
    out: Annotated[Path, typer.Option("--out", help="a .csv file; it will hold personal data, for your eyes only")],
) -> None:
    """Write a table's rows as they came, to be mended."""
    from controltower.jobs.quarantine import export_quarantine

    show(export_quarantine(table, out))


@app.command()
def replay(
    table: Table,
    file: Annotated[
        Path | None,
        typer.Argument(help="what `export` wrote, mended; none: all rows as they are, which may pass by now"),
    ] = None,
    encoding: Annotated[str, typer.Option(help="of the file")] = "utf-8",
) -> None:
    """Load mended rows through the same rules; those that still break one stay. Again, it adds nothing."""
    from controltower.jobs.quarantine import replay_quarantine

    show(replay_quarantine(table, file, encoding))
