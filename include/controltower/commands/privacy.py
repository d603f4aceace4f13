"""`controltower privacy export|erase|retention`: what is held about a person, and its end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controltower.commands.customers import Customer
from controltower.commands.options import By
from controltower.commands.showing import show

app = typer.Typer(no_args_is_help=True, help="What is held about a person, and its end.")


@app.command()
def export(
    customer: Customer,
    out: Annotated[Path, typer.Option("--out", help="a .json file, or a folder: a file a table")],
) -> None:
    """Write all that is held about a customer, in every table and every version."""
    from controltower.jobs.privacy import export_person

    show(export_person(customer, out))


@app.command()
def erase(
    customer: Customer,
    by: By,
    yes: Annotated[bool, typer.Option("--yes", help="don't show what was found and ask first")] = False,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="also the lake's replaced files, now; jobs that read meanwhile may fail")
    ] = False,
) -> None:
    """Erase a customer everywhere in this home, under all ids of the person, for good, and write a certificate."""
    from controltower.jobs.privacy import erase_person, look_up_person

    ids = None
    if not yes:
        found = look_up_person(customer)
        show(found)
        ids = found["ids"]
        typer.confirm(f"Erase this person, {len(ids)} {'id' if len(ids) == 1 else 'ids'}, for good?", abort=True)
    report = erase_person(customer, by, at_once=at_once, ids=ids)
    show(report)
    if report["files_until_the_grace_ends"]:
        print("Replaced files of the lake are deleted by later loads, after an hour; --at-once deletes them now.")


@app.command()
def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only tell what would be removed")] = False,
) -> None:
    """Remove what is older than `retention_days` of the shop file. Airflow does so daily."""
    from controltower.jobs.retention import keep_to_retention

    show(keep_to_retention(dry_run=dry_run))
