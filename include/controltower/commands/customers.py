"""`controltower customer show`: all that is known of one customer, as of a moment."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from controltower.commands.options import AsOf
from controltower.commands.showing import plain

app = typer.Typer(no_args_is_help=True, help="What is known of one customer.")

Customer = Annotated[str, typer.Argument(help="the customer's id")]


@app.callback()
def _group() -> None:
    """What is known of one customer."""


@app.command()
def show(
    customer: Customer,
    as_of: AsOf = None,
    most: Annotated[int, typer.Option("--most", min=1, help="entries of the timeline; the rest is counted")] = 50,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="with addresses, telephones and push tokens")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="as one JSON object")] = False,
) -> None:
    """Who they are, consents, timeline, profile, features, scores, and every message with why it was or wasn't sent."""
    from controltower.jobs.customer import show_customer

    report = show_customer(customer, as_of, shown=most, unmasked=unmasked)
    if as_json:
        print(json.dumps(report, ensure_ascii=False, indent=1))
    else:
        for line in _lines(report):
            print(line)


def _lines(report: dict[str, Any]) -> list[str]:
    identity = report["identity"]
    lines = [f"customer {report['customer']}, as of {report['as_of']}"]
    lines += [f"ids: {plain(identity['ids'])}", f"visitors: {plain(identity['visitors'])}"]
    for title, rows in (
        ("attributes", identity["attributes"]),
        ("devices", identity["devices"]),
        ("consents", report["consents"]),
        ("suppressions", report["suppressions"]),
        ("lifted suppressions", report["lifted"]),
        ("timeline", report["timeline"]["shown"]),
    ):
        lines += _section(title, rows)
    if report["timeline"]["more"]:
        lines.append(f"  and earlier: {plain(report['timeline']['more'])}")
    lines += ["", "profile:", *(f"  {name} {plain(value)}" for name, value in report["profile"].items())]
    lines += ["", f"features, as of {report['features_as_of']}:" if report["features"] else "features: none"]
    lines += [f"  {row['name']} {plain(row['value'])}" + (f"  ({row['means']})" if row["means"] else "")
              for row in report["features"]]  # fmt: skip
    for title in ("scores", "recommendations", "messages"):
        lines += _section(title, report[title])
    return lines


def _section(title: str, rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["", f"{title}: none"]
    return ["", f"{title}:", *("  - " + ", ".join(f"{k} {plain(v)}" for k, v in row.items()) for row in rows)]
