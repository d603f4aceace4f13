"""`controltower suppressions list|lift|sync`: who isn't written to, why, letting an address be written to again, and
SendGrid's unsubscribe group."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from controltower.commands.options import By
from controltower.commands.showing import show
from controltower.errors import ControlTowerError
from controltower.jobs.control import COMMAND_LINE

app = typer.Typer(no_args_is_help=True, help="Who isn't written to and why; lift it.")

Customer = Annotated[str | None, typer.Option(help="a customer's id: their address, devices and push tokens of now")]
Address = Annotated[bool, typer.Option("--address", help="read an e-mail address or push token from standard input")]


@app.command("list")
def list_(customer: Customer = None, address: Address = False) -> None:
    """Count what is suppressed, or list it for one customer or address."""
    from controltower.jobs.suppressions import count_suppressions, list_suppressions

    if customer is None and not address:
        show(count_suppressions())
    else:
        show(list_suppressions(**_whose(customer, address)))


@app.command()
def lift(
    reason: Annotated[str, typer.Option(help="which to lift, as `list` names it")],
    customer: Customer = None,
    address: Address = False,
    by: By = COMMAND_LINE,
) -> None:
    """Let them be written to again. The rows stay, and no consent changes."""
    from controltower.jobs.suppressions import lift_suppressions

    report = lift_suppressions(reason, by, **_whose(customer, address))
    show(report)
    if any(row["kind"] == "address" and row["channel"] == "email" for row in report["lifted"]):
        print(
            "SendGrid keeps lists of its own (Suppressions): remove the address there too, or it drops the next mail."
        )


@app.command()
def sync() -> None:
    """Bring SendGrid's unsubscribe group and our consents and suppressions to one word."""
    from controltower.jobs.unsubscribe_group import sync_asm_group

    show(sync_asm_group())


def _whose(customer: str | None, address: bool) -> dict[str, str]:
    """The customer or the address; this one isn't an argument, which every user of the machine could see."""
    if (customer is None) == (not address):
        raise ControlTowerError("Whose?", "Give either --customer or --address.")
    if customer is not None:
        return {"customer": customer}
    given = getpass.getpass("Address (not shown): ") if sys.stdin.isatty() else sys.stdin.readline()
    if not given.strip():
        raise ControlTowerError("There is no address on standard input.", "Pipe one line to this command.")
    return {"address": given.strip()}
