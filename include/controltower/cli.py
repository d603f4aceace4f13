"""The command line: every stage without Airflow, on the home that CONTROLTOWER_HOME names."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from sqlalchemy.exc import SQLAlchemyError

from controltower import clock, settings
from controltower.commands import control, reports
from controltower.commands.feedback import feedback
from controltower.commands.sandbox import sandbox_credentials
from controltower.commands.serve import serve
from controltower.commands.showing import show as _show
from controltower.commands.simulation import simulate_answers
from controltower.errors import ControlTowerError

if TYPE_CHECKING:
    from controltower.sandbox.credentials import Credentials

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Open marketing automation."
)
campaign_app = typer.Typer(no_args_is_help=True, help="List, preview, plan and run campaigns.")
app.add_typer(campaign_app, name="campaign")


def _can_write(out: Path | None) -> Path | None:
    """Checked before any work is done."""
    if out:
        from controltower.jobs.exports import check

        check(out)
    return out


def _is_json(out: Path | None) -> Path | None:
    if out and out.suffix != ".json":
        raise ControlTowerError(f"{out.name} can't hold rendered messages.", "Use a name that ends in .json.")
    return _can_write(out)


AsOf = Annotated[
    str | None,
    typer.Option("--as-of", help="a date (its midnight in the shop's zone) or a time; default: today's midnight"),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="write the result here: .csv, .parquet or .json", callback=_can_write)
]
Name = Annotated[str, typer.Argument(help="the campaign's name")]
Occasion = Annotated[str | None, typer.Option(help="which day's occurrence; default: today in the shop's zone")]


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


@app.command()
def ingest(
    source: Annotated[
        str | None, typer.Option(help="simulated, null-shop, online-retail, or a folder in the contract's form")
    ] = None,
    start: Annotated[str | None, typer.Option(help="only what became known from here on")] = None,
    end: Annotated[str | None, typer.Option(help="only what became known before; default: now")] = None,
) -> None:
    """Load a shop's data into the lake; rows that break a rule go to quarantine."""
    from controltower.jobs.ingest import ingest_data

    _show(ingest_data(source, start, end))


@app.command()
def features(as_of: AsOf = None, out: Out = None) -> None:
    """Build the customers' features as of a moment."""
    from controltower.jobs.profiles import build_profiles

    report = build_profiles(as_of)
    _show(report)
    _write_derived("features", report["as_of"], out)


@app.command()
def train(as_of: AsOf = None) -> None:
    """Train every model as of a moment; one that doesn't beat its baseline isn't published."""
    from controltower.jobs.training import train_models

    _show(train_models(as_of))


@app.command()
def score(as_of: AsOf = None, out: Out = None) -> None:
    """Score every customer with the models trained as of then or earlier."""
    from controltower.jobs.scoring import score_customers

    report = score_customers(as_of)
    _show(report)
    _write_derived("scores", report["as_of"], out)


@app.command()
def recommend(
    placement: Annotated[str, typer.Option(help="where the list is shown")] = "for_you",
    k: Annotated[int, typer.Option(min=1, max=100, help="items per customer")] = 10,
    repeat: Annotated[
        bool | None,
        typer.Option(
            "--repeat/--no-repeat", help="whether bought items may come again; default: as the placement says"
        ),
    ] = None,
    as_of: AsOf = None,
    out: Out = None,
) -> None:
    """The best products for every customer."""
    from controltower.jobs.recommending import recommend as recommend_job

    table = recommend_job(placement, k, repeat, as_of)
    _show({"placement": placement, "rows": table.num_rows, "customers": len(table["customer_id"].unique())})
    if out:
        _write(table, out)


@campaign_app.command("list")
def campaign_list() -> None:
    """Every campaign spec, with the error of a broken one."""
    from controltower.jobs.campaigns import list_campaigns

    for spec in list_campaigns():
        what = f"! {spec['error']}" if spec["error"] else f"{spec['title']} ({', '.join(spec['channels'])})"
        print(f"{spec['name']:24} {what}")


@campaign_app.command("preview")
def campaign_preview(
    name: Name,
    customers: Annotated[int, typer.Option(min=1, max=50, help="how many messages to render")] = 3,
    as_of: reports.AsOf = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="write the rendered messages here (.json)", callback=_is_json)
    ] = None,
) -> None:
    """What a campaign would do now, with rendered messages; nothing is written or sent."""
    from controltower.jobs.campaigns import preview_campaign

    report = preview_campaign(name, customers, as_of)
    samples = report.pop("samples")
    _show(report)
    for sample in samples:
        print(f"  {sample['customer_id']:>12} {sample['channel']:6} {sample['variant']:16} "
              f"{sample.get('subject') or sample.get('title')}")  # fmt: skip
    if out:
        _write_json(report | {"samples": samples}, out)


@campaign_app.command("plan")
def campaign_plan(
    name: Name,
    occasion: Occasion = None,
    replan: Annotated[
        bool, typer.Option(help="plan afresh while nothing was sent, else cancel what is unsent")
    ] = False,
    by: Annotated[str | None, typer.Option(help="who asks for it; they can't approve it")] = None,
    out: Out = None,
) -> None:
    """Freeze today's audience with its reasons; planning again returns the frozen plan."""
    from controltower.jobs.campaigns import plan_campaign
    from controltower.jobs.exports import decisions

    report = plan_campaign(name, occasion, replan=replan, asked_by=by)
    _show(report)
    if out and not report["rehearsed"]:
        _write(decisions(report["run_id"]), out)


@campaign_app.command("cancel")
def campaign_cancel(name: Name, occasion: Occasion = None) -> None:
    """Cancel what is unsent of today's occurrence; planning it again adds none."""
    from controltower.jobs.campaigns import cancel_campaign

    _show(cancel_campaign(name, occasion))


for _command in (control.pause, control.resume, control.approve, control.reject, reports.report):
    campaign_app.command()(_command)


@campaign_app.command("run")
def campaign_run(name: Name, occasion: Occasion = None) -> None:
    """Plan today's occurrence and send what is due already."""
    from controltower.jobs.campaigns import plan_campaign
    from controltower.jobs.dispatch import dispatch_messages

    _show(plan_campaign(name, occasion))
    _show(dispatch_messages())


@app.command()
def dispatch() -> None:
    """Send every message that is due."""
    from controltower.jobs.dispatch import dispatch_messages

    _show(dispatch_messages())


app.command()(feedback)
app.command()(reports.measure)
app.command()(sandbox_credentials)
app.command()(serve)
app.command()(simulate_answers)


@app.command()
def summary() -> None:
    """What the home holds: customers, campaign runs, models in service."""
    from controltower.jobs.summary import summarise

    _show(summarise())


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("--out", help="the folder to write the shop into")],
    until: Annotated[str, typer.Option(help="the shop's last day, as a date")] = "2026-06-15",
    customers: Annotated[int | None, typer.Option(min=1, help="how many customers")] = None,
    seed: Annotated[int, typer.Option(help="another seed, another shop")] = 1,
) -> None:
    """Write a simulated shop as a folder in the contract's form."""
    from controltower.jobs.simulation import simulate_shop

    _show(simulate_shop(out, until, customers, seed))


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="0: any free one")] = 8025,
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    url: Annotated[str | None, typer.Option(help="where others reach it; default: at that host and port")] = None,
) -> None:
    """A local SendGrid and FCM with an inbox page; runs until Ctrl-C."""
    from controltower.sandbox.serve import serve

    def announce(url: str, made: Credentials) -> None:
        print(f"sandbox: {url} (Ctrl-C ends it). To send to it:")
        print(f"  export CONTROLTOWER_SENDGRID_URL={url} CONTROLTOWER_FCM_URL={url}")
        print(f"  export CONTROLTOWER_SENDGRID_API_KEY=$(cat {made.service_account_path.with_name('sendgrid.key')})")
        print(f"  export CONTROLTOWER_FCM_CREDENTIALS={made.service_account_path}")
        print(f"  export CONTROLTOWER_SENDGRID_WEBHOOK_KEYS={made.webhook_public_key}", flush=True)

    serve(settings.load(), host, port, announce, url)


@app.command()
def doctor() -> None:
    """Check settings, shop file, ledger, campaigns, templates and credentials; exits 1 if anything is amiss."""
    from controltower.jobs.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok ' if finding['ok'] else 'BAD'}  {finding['name']:12} {finding['text']}")
    if not all(f["ok"] for f in findings):
        raise typer.Exit(1)


@app.command()
def migrate() -> None:
    """Bring the ledger's tables to this version."""
    from controltower.ledger.database import migrate as migrate_ledger

    print(f"the ledger is at revision {migrate_ledger(settings.load())}")


@app.command("clock")
def clock_command(
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
    print(clock.now(conf).isoformat())


def _write_derived(table: str, as_of: str, out: Path | None) -> None:
    from controltower.jobs.exports import derived

    if out:
        _write(derived(table, as_of), out)


def _write(table: Any, out: Path) -> None:
    from controltower.jobs.exports import write

    write(table, out)
    print(f"{table.num_rows} rows -> {out}")


def _write_json(value: Any, out: Path) -> None:
    out.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    print(f"-> {out}")


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
