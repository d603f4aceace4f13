"""`controltower lake versions|files|restore|export-delta`: the lake's versions, and its tables for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controltower.commands.options import AsOf
from controltower.commands.showing import show

app = typer.Typer(no_args_is_help=True, help="The lake's versions, and its tables for other programs.")

Table = Annotated[str, typer.Argument(help="of the contract or derived: orders, features")]
Version = Annotated[
    str | None, typer.Option("--version", help="a number of `lake versions`, or a moment; default: the newest")
]


@app.command()
def versions(table: Annotated[str | None, typer.Argument(help="only what changed it")] = None) -> None:
    """List the versions that can be read, newest first: when each was published, by which load, with how many rows."""
    from controltower.jobs.lake import list_versions

    show(list_versions(table))


@app.command()
def files(table: Table, version: Version = None) -> None:
    """Print the table's Parquet files, a line each, for programs that read them: with every version of each row."""
    from controltower.jobs.lake import list_files

    for file in list_files(table, version):
        print(file)


@app.command()
def restore(
    version: Annotated[int, typer.Argument(help="a number of `lake versions`")],
    interval: Annotated[str, typer.Argument(help="of the load that was replaced, as `lake versions` shows it")],
) -> None:
    """Let a load hold again what it held in an earlier version; all other loads stay."""
    from controltower.jobs.lake import restore_interval

    show(restore_interval(version, interval))


@app.command("export-delta")
def export_delta(
    table: Table,
    folder: Annotated[Path, typer.Argument(help="a new one, or that of an earlier export, which is replaced")],
    as_of: AsOf = None,
    version: Version = None,
) -> None:
    """Write the table as a Delta table: the last version of each row, customers merged; personal data."""
    from controltower.jobs.lake import export_delta

    show(export_delta(table, folder, as_of, version))
