"""The command line: every stage without Airflow, on the home that CONTROLTOWER_HOME names."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from sqlalchemy.exc import SQLAlchemyError
from typer.core import TyperGroup

from controltower.commands import (
    campaigns,
    customers,
    data,
    evaluation,
    home,
    identity,
    lake,
    models,
    privacy,
    providers,
    quarantine,
    reports,
    sandbox,
    segments,
    serve,
    simulation,
    sources,
    stages,
    suppressions,
    targeting,
)
from controltower.errors import ControlTowerError

_pressed = Event()


class _Stopped(ControlTowerError):
    """Somebody pressed Ctrl-C."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Tells Ctrl-C as an error of ours, before Typer makes it exit 1. DuckDB makes a RuntimeError of it."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, Exception) as e:
            if not isinstance(e, KeyboardInterrupt) and not _pressed.is_set():
                raise
            raise _Stopped("Stopped.", "What was not finished isn't used; run the same command again.") from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Open marketing automation.",
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
    evaluation.evaluate, models.models, segments.segments, segments.lifecycle, targeting.target,
    stages.dispatch, stages.feedback, stages.reconcile, reports.measure, home.summary, home.doctor,
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
    """The entry point: an error that the user can mend is one line and exit 1. What it writes is its user's alone.

    Ctrl-C is one line and exit 130, as shells have it.
    """
    os.umask(0o077)
    _pressed.clear()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    try:
        app()
    except _Stopped as e:
        _fail(str(e), 130)
    except ControlTowerError as e:
        _fail(str(e))
    except OSError as e:
        _fail(f"{e.filename or 'a file'}: {e.strerror or e}.")
    except SQLAlchemyError as e:  # its own text holds the statement's values
        reason = str(e.__cause__).splitlines()[0] if e.__cause__ else type(e).__name__
        _fail(f"The ledger's database failed: {reason}. Run `controltower doctor`.")


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - what Python hands over
    _pressed.set()
    raise KeyboardInterrupt


def _fail(text: str, code: int = 1) -> NoReturn:
    print(f"controltower: {text}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
