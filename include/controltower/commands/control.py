"""`controltower campaign pause|resume|approve|reject`: holding a planned run back and letting it go."""

from __future__ import annotations

from typing import Annotated

import typer

from controltower.commands.showing import show

Name = Annotated[str, typer.Argument(help="the campaign's name")]
Occasion = Annotated[str | None, typer.Option(help="which day's occurrence; default: today in the shop's zone")]
By = Annotated[str, typer.Option("--by", help="who decides; not whoever asked for the plan")]


def pause(name: Name, occasion: Occasion = None) -> None:
    """Hold an occurrence back: no message of it leaves until it is resumed."""
    from controltower.jobs.control import pause_campaign

    show(pause_campaign(name, occasion))


def resume(name: Name, occasion: Occasion = None) -> None:
    """Let a paused occurrence go on."""
    from controltower.jobs.control import resume_campaign

    show(resume_campaign(name, occasion))


def approve(
    name: Name,
    by: By,
    occasion: Occasion = None,
    plan: Annotated[str | None, typer.Option(help="the plan's hash, as shown; default: the one that waits")] = None,
) -> None:
    """Let a run that waits for a second person go."""
    from controltower.jobs.approvals import approve_campaign, newest_run

    run = newest_run(name, occasion)
    show(approve_campaign(run["run_id"], plan or run["plan_hash"], by))


def reject(name: Name, by: By, occasion: Occasion = None) -> None:
    """Cancel a run that waits for a second person."""
    from controltower.jobs.approvals import newest_run, reject_campaign

    show(reject_campaign(newest_run(name, occasion)["run_id"], by))
