"""`controltower summary|doctor|migrate|clock`: what a home holds, whether it works, and its clock."""

from __future__ import annotations

from typing import Annotated

import typer

from controltower import clock, settings
from controltower.commands.showing import show


def summary() -> None:
    """What the home holds: customers, campaign runs, models in service."""
    from controltower.jobs.summary import summarise

    show(summarise())


def doctor() -> None:
    """Check settings, shop file, ledger, campaigns, templates and credentials; exits 1 if anything is amiss."""
    from controltower.jobs.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok ' if finding['ok'] else 'BAD'}  {finding['name']:12} {finding['text']}")
    if not all(f["ok"] for f in findings):
        raise typer.Exit(1)


def migrate() -> None:
    """Bring the ledger's tables to this version."""
    from controltower.ledger.database import migrate as migrate_ledger

    print(f"the ledger is at revision {migrate_ledger(settings.load())}")


def set_clock(
    moment: Annotated[str | None, typer.Argument(help="what the home's clock shows from now on; none: read it")] = None,
    speed: Annotated[float, typer.Option(min=0, max=1e6, help="how many seconds it moves in one")] = 1.0,
    real: Annotated[bool, typer.Option("--real", help="back to the wall clock")] = False,
) -> None:
    """Read or set the home's clock, for rehearsals and demos."""
    conf = settings.load()
    if real:
        clock.reset(conf)
    elif moment:
        clock.set_clock(conf, clock.parse(moment, settings.load_shop(conf)), speed)
    now = clock.now(conf)
    if conf.shop_file.is_file():
        now = now.astimezone(settings.load_shop(conf).zone)
    print(now.isoformat(timespec="seconds"))
