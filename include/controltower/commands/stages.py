"""`controltower ingest|features|train|score|profiles|recommend|dispatch|feedback`: the stages of a day."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controltower.commands.options import AsOf, AsOfDay, Out
from controltower.commands.showing import show, write_table


def ingest(
    source: Annotated[
        str | None, typer.Option(help="a name of `source list`, a folder, or a URL prefix such as s3://bucket/export")
    ] = None,
    start: Annotated[str | None, typer.Option(help="only what became known from here on")] = None,
    end: Annotated[str | None, typer.Option(help="only what became known before; default: now")] = None,
) -> None:
    """Load a shop's data into the lake; rows that break a rule go to quarantine."""
    from controltower.jobs.ingest import ingest_data

    show(ingest_data(source, start, end))


def features(
    as_of: AsOfDay = None,
    out: Out = None,
    rescan: Annotated[bool, typer.Option("--rescan", help="count everybody, don't go on from an earlier day")] = False,
) -> None:
    """Build the customers' features as of a moment."""
    from controltower.jobs.profiles import build_profiles

    report = build_profiles(as_of, rescan=rescan)
    show(report)
    _write_derived("features", report["as_of"], out)


def train(as_of: AsOfDay = None) -> None:
    """Train every model as of a moment; one that doesn't beat its baseline isn't published."""
    from controltower.jobs.training import train_models

    show(train_models(as_of))


def score(as_of: AsOfDay = None, out: Out = None) -> None:
    """Score every customer with the models trained as of then or earlier."""
    from controltower.jobs.scoring import score_customers

    report = score_customers(as_of)
    show(report)
    _write_derived("scores", report["as_of"], out)


def profiles(as_of: AsOf = None, out: Out = None) -> None:
    """What customers told, what is inferred of those who agree to it, and what they prefer, as last scored."""
    from controltower.jobs.inference import profiles as newest

    table = newest(as_of)
    counted = ("told_gender", "inferred_gender", "told_age", "inferred_age", "preferred_category", "rfm_cell")
    show({"customers": table.num_rows} | {name: table.num_rows - table[name].null_count for name in counted})
    if out:
        write_table(table, out)


def recommend(
    placement: Annotated[str, typer.Option(help="where the list is shown")] = "for_you",
    k: Annotated[int, typer.Option(min=1, max=100, help="items per customer")] = 10,
    repeat: Annotated[
        bool | None,
        typer.Option(
            "--repeat/--no-repeat", help="whether bought items may come again; default: as the placement says"
        ),
    ] = None,
    as_of: AsOfDay = None,
    out: Out = None,
) -> None:
    """The best products for every customer."""
    from controltower.jobs.recommending import recommend as recommend_job

    table = recommend_job(placement, k, repeat, as_of)
    show({"placement": placement, "rows": table.num_rows, "customers": len(table["customer_id"].unique())})
    if out:
        write_table(table, out)


def dispatch(
    stay: Annotated[float, typer.Option(help="wait up to so many seconds for limits and short pauses")] = 0.0,
) -> None:
    """Send every message that is due."""
    from controltower.jobs.dispatch import dispatch_messages

    show(dispatch_messages(stay))


def ingest_events() -> None:
    """Bring what was posted to /v1/events into the lake."""
    from controltower.jobs import events

    show(events.ingest_events())


def feedback() -> None:
    """Read the stored webhooks (delivery events, suppressions, withdrawals) and settle what is unknown by them.

    Tomorrow's features know of them.
    """
    from controltower.jobs.feedback import ingest_feedback
    from controltower.jobs.learning import publish_engagement
    from controltower.jobs.reconcile import reconcile

    show(ingest_feedback())
    show({"unknown": reconcile()})
    show({"engagement": publish_engagement()})


def reconcile() -> None:
    """Settle messages whose answer was lost: by what came back, else by their campaign's policy."""
    from controltower.jobs import reconcile as job

    show(job.reconcile())


def _write_derived(table: str, as_of: str, out: Path | None) -> None:
    from controltower.jobs.exports import derived

    if out:
        write_table(derived(table, as_of), out)
