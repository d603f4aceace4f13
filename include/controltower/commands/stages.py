"""`controltower ingest|features|train|score|profiles|recommend|dispatch|feedback`: the stages of a day."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controltower.commands.options import AsOf, AsOfDay, Out
from controltower.commands.showing import columns, plain, show, write_table
from controltower.errors import BadSettings


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
    from controltower.jobs import exports
    from controltower.jobs.profiles import build_profiles

    report = build_profiles(as_of, rescan=rescan)
    show(report)
    if out:
        write_table(exports.derived("features", report["as_of"]), out)


def train(as_of: AsOfDay = None) -> None:
    """Train every model as of a moment; one that doesn't beat its baseline isn't published."""
    from controltower.jobs.training import train_models

    show(train_models(as_of))


def score(
    as_of: AsOfDay = None,
    out: Out = None,
    rescan: Annotated[
        bool, typer.Option("--rescan", help="make all recommendation lists anew, take over none of an earlier day")
    ] = False,
) -> None:
    """Score every customer with the models trained as of then or earlier."""
    from controltower.jobs import exports
    from controltower.jobs.scoring import score_customers

    report = score_customers(as_of, rescan=rescan)
    show(report)
    if out:
        write_table(exports.scores(report["as_of"]), out)


def profiles(as_of: AsOf = None, out: Out = None) -> None:
    """What customers told, what is inferred of those who agree to it, and what they prefer, as last scored."""
    from controltower.jobs.inference import profiles as newest

    table = newest(as_of)
    counted = ("told_gender", "inferred_gender", "told_age", "inferred_age", "preferred_category", "rfm_cell")
    show({"customers": table.num_rows} | {name: table.num_rows - table[name].null_count for name in counted})
    if out:
        write_table(table, out)


def recommend(
    placement: Annotated[
        str | None, typer.Option(help="where the list is shown; default: as --cart or --query says, else for_you")
    ] = None,
    k: Annotated[int, typer.Option(min=1, max=100, help="items per list")] = 10,
    repeat: Annotated[
        bool | None,
        typer.Option(
            "--repeat/--no-repeat", help="whether bought items may come again; default: as the placement says"
        ),
    ] = None,
    as_of: AsOfDay = None,
    customer: Annotated[str | None, typer.Option(help="one customer, as the public app answers now")] = None,
    product: Annotated[str | None, typer.Option(help="what is shown, for --placement similar and the like")] = None,
    cart: Annotated[str | None, typer.Option(help="what is in the cart: ids, parted by commas")] = None,
    query: Annotated[str | None, typer.Option(help="what is searched for")] = None,
    out: Out = None,
) -> None:
    """The best products for every customer; or for a customer, product, cart or search, as they are served now."""
    from controltower.jobs import recommending
    from controltower.models.recommend.placements import OF_PRODUCTS
    from controltower.models.recommend.version import POPULAR, SEARCH

    of_all = (customer, product, cart, query) == (None,) * 4 and placement not in (*OF_PRODUCTS, POPULAR, SEARCH)
    if of_all:
        table = recommending.recommend(placement or "for_you", k, repeat, as_of)
        show({
            "placement": placement or "for_you", "rows": table.num_rows,
            "customers": len(table["customer_id"].unique()),
        })  # fmt: skip
    else:
        if repeat is not None or as_of is not None:
            raise BadSettings("What is served is asked as of now.", "Leave out --as-of, --repeat and --no-repeat.")
        ids = [i.strip() for i in (cart or "").split(",") if i.strip()]
        if cart is not None and not ids:
            raise BadSettings("--cart names no product.", "Write ids, parted by commas: --cart A-7,B-2.")
        report, table = recommending.recommend_now(
            placement, k, customer=customer, product=product, cart=ids, query=query
        )
        _show_list(report, table.to_pylist())
    if out:
        write_table(table, out)


def _show_list(report: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    show({name: value for name, value in report.items() if value or name == "fallback"})
    header = ["rank", "collection_id" if report["placement"] == "offer" else "product_id"]
    header += ["title", "algorithm", "reason", "rules"]
    print(*columns(header, [["" if row[n] is None else plain(row[n]) for n in header] for row in rows], 40), sep="\n")


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
    from controltower.jobs.engagement import publish_engagement
    from controltower.jobs.feedback import ingest_feedback
    from controltower.jobs.reconcile import reconcile

    show(ingest_feedback())
    show({"unknown": reconcile()})
    show({"engagement": publish_engagement()})


def reconcile() -> None:
    """Settle messages whose answer was lost: by what came back, else by their campaign's policy."""
    from controltower.jobs import reconcile as job

    show(job.reconcile())
