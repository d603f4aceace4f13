"""`controltower provider list|resume`: how the providers fare, and letting one be called again."""

from __future__ import annotations

from typing import Annotated

import typer

from controltower.commands.options import By
from controltower.commands.showing import show
from controltower.jobs.control import COMMAND_LINE

app = typer.Typer(no_args_is_help=True, help="How the providers fare; let one be called again.")


@app.command("list")
def list_() -> None:
    """Show which providers are paused, why, and how much is asked of them at once."""
    from controltower.jobs.providers import list_providers

    show(list_providers())


@app.command()
def resume(name: Annotated[str, typer.Argument(help="as `list` names it")], by: By = COMMAND_LINE) -> None:
    """End a provider's pause, whatever it is for."""
    from controltower.jobs.providers import resume_provider

    show(resume_provider(name, by))
