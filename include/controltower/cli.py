"""The command line: every stage without Airflow, on the home that CONTROLTOWER_HOME names."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from sqlalchemy.exc import SQLAlchemyError

from controltower.commands import (
    campaigns,
    customers,
    data,
    evaluation,
    home,
    identity,
    lake,
    privacy,
    providers,
    quarantine,
    reports,
    sandbox,
    serve,
    simulation,
    sources,
    stages,
    suppressions,
)
from controltower.errors import ControlTowerError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Open marketing automation."
)


@app.callback()
def _home(
    home: Annotated[
        Path | None, typer.Option(help="the shop's folder", envvar="CONTROLTOWER_HOME", show_envvar=True)
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="say more")] = False,
) -> None:
    if home:
        os.environ["CONTROLTOWER_HOME"] = str(home)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("controltower").setLevel(logging.DEBUG if verbose else logging.INFO)


for _command in (
    stages.ingest, stages.ingest_events, stages.features, stages.train, stages.score, stages.profiles, stages.recommend,
    evaluation.evaluate, stages.dispatch, stages.feedback, stages.reconcile, reports.measure, home.summary, home.doctor,
    home.migrate, home.new_key, serve.serve, serve.customer_token, sandbox.sandbox, sandbox.sandbox_credentials,
    simulation.simulate, simulation.simulate_answers,
):  # fmt: skip
    app.command()(_command)
app.command("clock")(home.set_clock)
campaigns.app.command()(reports.report)
app.add_typer(campaigns.app, name="campaign")
app.add_typer(customers.app, name="customer")
app.add_typer(identity.app, name="identity")
app.add_typer(lake.app, name="lake")
app.add_typer(privacy.app, name="privacy")
app.add_typer(providers.app, name="provider")
app.add_typer(data.app, name="data")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(sources.app, name="source")
app.add_typer(suppressions.app, name="suppressions")


def main() -> None:
    """The entry point: an error that the user can mend is one line and exit 1. What it writes is its user's alone."""
    os.umask(0o077)
    try:
        app()
    except ControlTowerError as e:
        _fail(str(e))
    except OSError as e:
        _fail(f"{e.filename or 'a file'}: {e.strerror or e}.")
    except SQLAlchemyError as e:  # its own text holds the statement's values
        reason = str(e.__cause__).splitlines()[0] if e.__cause__ else type(e).__name__
        _fail(f"The ledger's database failed: {reason}. Run `controltower doctor`.")


def _fail(text: str) -> NoReturn:
    print(f"controltower: {text}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
