"""`controltower summary|doctor|migrate|new-key|clock`: what a home holds, whether it works, its key and clock."""

from __future__ import annotations

from typing import Annotated

import typer

from controltower import clock, settings
from controltower.commands.options import By
from controltower.commands.showing import show
from controltower.jobs.control import COMMAND_LINE


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
    from controltower.ledger.database import check_key
    from controltower.ledger.database import migrate as migrate_ledger

    conf = settings.load()
    print(f"the ledger is at revision {migrate_ledger(conf)}")
    check_key(conf)


def new_key(by: By = COMMAND_LINE) -> None:
    """Start anew with the key that is there, or a fresh one, where the ledger's is lost for good; says what is void."""
    from controltower.jobs.signing_key import start_key

    show(start_key(by))


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
