"""`controltower campaign ...`: listing, previewing and planning campaigns, and what people decide about their runs."""

from __future__ import annotations

from typing import Annotated

import typer

from controltower.commands.options import AsOf, By, Name, Occasion, Out, OutMessages
from controltower.commands.showing import show, write_json, write_table
from controltower.errors import ControlTowerError
from controltower.jobs.control import COMMAND_LINE
from controltower.ledger.holds import APPROVAL

app = typer.Typer(no_args_is_help=True, help="Preview, plan, approve, hold and cancel campaigns, and report on them.")
Decider = Annotated[str, typer.Option("--by", help="who decides; not whoever asked for the plan")]


@app.command("list")
def list_() -> None:
    """Every campaign spec, with the error of a broken one."""
    from controltower.jobs.campaigns import list_campaigns

    for spec in list_campaigns():
        what = f"! {spec['error']}" if spec["error"] else f"{spec['title']} ({', '.join(spec['channels'])})"
        print(f"{spec['name']:24} {what}")


@app.command()
def preview(
    name: Name,
    customers: Annotated[int, typer.Option(min=1, max=50, help="how many messages to render")] = 3,
    as_of: AsOf = None,
    out: OutMessages = None,
) -> None:
    """What a campaign would do now, with rendered messages; nothing is written or sent."""
    from controltower.jobs.campaigns import preview_campaign

    report = preview_campaign(name, customers, as_of)
    samples = report.pop("samples")
    show(report)
    for sample in samples:
        print(f"  {sample['customer_id']:>12} {sample['channel']:6} {sample['variant']:16} "
              f"{sample.get('subject') or sample.get('title')}")  # fmt: skip
    if out:
        write_json(report | {"samples": samples}, out)


@app.command()
def test(
    name: Name,
    to: Annotated[
        list[str] | None, typer.Option(help="an e-mail address instead of the shop's seed_list; again for more")
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(help="only this variant; again for more")] = None,
    customer: Annotated[str | None, typer.Option(help="as whose, and in whose language, to render it")] = None,
    sandbox_mode: Annotated[
        bool, typer.Option("--sandbox-mode", help="let the provider check it, without sending")
    ] = False,
    by: By = COMMAND_LINE,
) -> None:
    """Send each variant in each language to the shop's seed list, marked as a test and out of every figure."""
    from controltower.jobs.test_sends import send_test

    show(send_test(name, to or (), variant or (), customer, sandbox_mode, by))


@app.command()
def plan(
    name: Name,
    occasion: Occasion = None,
    replan: Annotated[
        bool, typer.Option(help="plan afresh while nothing was sent, else cancel what is unsent")
    ] = False,
    by: Annotated[str | None, typer.Option(help="who asks for it; they can't approve it")] = None,
    out: Out = None,
) -> None:
    """Freeze today's audience with its reasons; again, it returns the frozen plan. Another day is only rehearsed."""
    from controltower.jobs.campaigns import plan_campaign
    from controltower.jobs.exports import decisions

    report = plan_campaign(name, occasion, replan=replan, asked_by=by)
    show(report)
    if out and not report["rehearsed"]:
        write_table(decisions(report["run_id"]), out)


@app.command()
def channels(
    name: Name,
    after: Annotated[str, typer.Option(help="the campaign that is done: its newest run's customers")],
    as_of: AsOf = None,
    out: Out = None,
) -> None:
    """By which channel and variant a campaign would best go to those whom another one wrote to; nothing is sent."""
    from controltower.jobs.channels import following_channels

    report, table = following_channels(after, name, as_of)
    show(report)
    if out:
        write_table(table, out)


@app.command()
def pause(name: Name, occasion: Occasion = None, by: By = COMMAND_LINE) -> None:
    """Hold an occurrence back: no message of it leaves until it is resumed."""
    from controltower.jobs.control import pause_campaign

    show(pause_campaign(name, occasion, by))


@app.command()
def resume(name: Name, occasion: Occasion = None, by: By = COMMAND_LINE) -> None:
    """Let a paused occurrence go on."""
    from controltower.jobs.control import resume_campaign

    show(resume_campaign(name, occasion, by))


@app.command()
def cancel(name: Name, occasion: Occasion = None, by: By = COMMAND_LINE) -> None:
    """Cancel what is unsent of an occurrence, for good: planning it again adds none."""
    from controltower.jobs.control import cancel_campaign

    show(cancel_campaign(name, occasion, by))


@app.command()
def approve(
    name: Name,
    by: Decider,
    occasion: Occasion = None,
    plan: Annotated[str | None, typer.Option(help="the hash of the plan that you have read, as shown without")] = None,
) -> None:
    """Let a run that waits for a second person go; without --plan only show what waits."""
    from controltower.jobs.approvals import approve_campaign, newest_run

    run = newest_run(name, occasion)
    if plan is None:
        show(run)
        if run["hold"] != APPROVAL:
            raise ControlTowerError(f"Run {run['run_id']} doesn't wait for approval.")
        raise ControlTowerError("Nothing is approved yet.", f"To approve just this, add --plan {run['plan_hash']}")
    show(approve_campaign(run["run_id"], plan, by))


@app.command()
def reject(name: Name, by: Decider, occasion: Occasion = None) -> None:
    """Cancel a run that waits for a second person."""
    from controltower.jobs.approvals import newest_run, reject_campaign

    show(reject_campaign(newest_run(name, occasion)["run_id"], by))


@app.command()
def run(name: Name, occasion: Occasion = None) -> None:
    """Plan today's occurrence and send what is due already."""
    from controltower.jobs.campaigns import plan_campaign
    from controltower.jobs.dispatch import dispatch_messages

    show(plan_campaign(name, occasion))
    show(dispatch_messages())
