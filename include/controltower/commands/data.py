"""`controltower data anomalies|accept`: loads that are too odd for campaigns to go on with."""

from __future__ import annotations

from typing import Annotated

import typer

from controltower.commands.options import By
from controltower.commands.showing import show
from controltower.jobs.control import COMMAND_LINE

app = typer.Typer(no_args_is_help=True, help="What is odd about the loaded data and stops campaigns; accept it.")


@app.command()
def anomalies() -> None:
    """List what stops campaigns: odd loads that nobody mended or accepted, and stale tables."""
    from controltower.jobs.anomalies import list_anomalies

    show(list_anomalies())


@app.command()
def accept(
    table: Annotated[str, typer.Argument(help="of the contract, as orders")],
    why: Annotated[str, typer.Option(help="why it is right: kept with who said so")],
    interval: Annotated[str | None, typer.Option(help="only of this load; default: all that stand")] = None,
    by: By = COMMAND_LINE,
) -> None:
    """Say that what was loaded is right: campaigns go on."""
    from controltower.jobs.anomalies import accept_data

    show(accept_data(table, why, by, interval))
