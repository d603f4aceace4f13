"""`controltower identity list|show|undo`: which customer ids are one person, why, and that they aren't."""

from __future__ import annotations

from typing import Annotated

import typer

from controltower.commands.options import AsOf, By
from controltower.commands.showing import show as show_report
from controltower.jobs.control import COMMAND_LINE

app = typer.Typer(no_args_is_help=True, help="Which customer ids are one person; undo a merge.")


@app.command("list")
def list_(as_of: AsOf = None) -> None:
    """The newest merges, and the keys and customers that weren't merged, with why."""
    from controltower.jobs.identity import list_identity

    show_report(list_identity(as_of))


@app.command()
def show(customer: Annotated[str, typer.Argument(help="a customer's id")], as_of: AsOf = None) -> None:
    """Whose a customer id is, and by which keys."""
    from controltower.jobs.identity import show_identity

    show_report(show_identity(customer, as_of))


@app.command()
def undo(merge: Annotated[str, typer.Argument(help="as `list` names it")], by: By = COMMAND_LINE) -> None:
    """Part what a merge united. Only what becomes known later may unite the two again."""
    from controltower.jobs.identity import undo_merge

    show_report(undo_merge(merge, by))
