"""`controltower simulate|simulate-answers`: a simulated shop, and its customers' answers to what the sandbox caught."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from controltower import clock, settings
from controltower.commands.showing import plain, show


def simulate(
    out: Annotated[Path, typer.Option("--out", help="the folder to write the shop into")],
    until: Annotated[str, typer.Option(help="the shop's last day, as a date")] = "2026-06-15",
    customers: Annotated[int | None, typer.Option(min=1, help="how many customers")] = None,
    seed: Annotated[int, typer.Option(help="another seed, another shop")] = 1,
) -> None:
    """Write a simulated shop as a folder in the contract's form."""
    from controltower.jobs.simulation import simulate_shop

    show(simulate_shop(out, until, customers, seed))


def simulate_answers(
    until: Annotated[str | None, typer.Option(help="only what was to happen by then; default: now")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="go on until Ctrl-C")] = False,
) -> None:
    """Let the customers of the simulated shop answer the sandbox's mails and pushes, through the public app."""
    from controltower.sandbox import answers

    conf = settings.load()
    if follow:
        with suppress(KeyboardInterrupt):
            answers.follow(conf, _tell)
    else:
        show(answers.answer_messages(conf, clock.parse(until, settings.load_shop(conf)) if until else None))


def _tell(report: dict[str, Any]) -> None:
    print(", ".join(f"{name} {plain(value)}" for name, value in report.items() if value), flush=True)
