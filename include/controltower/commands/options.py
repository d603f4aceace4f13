"""Arguments and options that several commands have, and their checks, made before any work is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controltower.errors import ControlTowerError


def _can_write(out: Path | None) -> Path | None:
    if out:
        from controltower.jobs.exports import check

        check(out)
    return out


def _is_json(out: Path | None) -> Path | None:
    if out and out.suffix != ".json":
        raise ControlTowerError(f"{out.name} can't hold rendered messages.", "Use a name that ends in .json.")
    return _can_write(out)


def _can_hold_report(out: Path | None) -> Path | None:
    if out:
        from controltower.jobs.measurement import check_format

        check_format(out)
    return out


_MOMENT = "a date (its midnight in the shop's zone) or a time; default: "
AsOf = Annotated[str | None, typer.Option("--as-of", help=f"{_MOMENT}now")]
AsOfDay = Annotated[str | None, typer.Option("--as-of", help=f"{_MOMENT}today's midnight")]
Name = Annotated[str, typer.Argument(help="the campaign's name")]
Occasion = Annotated[str | None, typer.Option(help="which day's occurrence; default: today in the shop's zone")]
By = Annotated[str, typer.Option("--by", help="who does it: kept with what was done")]
Out = Annotated[
    Path | None, typer.Option("--out", help="write the result here: .csv, .parquet or .json", callback=_can_write)
]
OutMessages = Annotated[
    Path | None, typer.Option("--out", help="write the rendered messages here (.json)", callback=_is_json)
]
OutReport = Annotated[
    Path | None, typer.Option("--out", help="write the report here: .html, .json or .csv", callback=_can_hold_report)
]
