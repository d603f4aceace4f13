"""`controltower evaluate`: how good what is trained would have been, on the past."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from controltower.commands.options import AsOfDay, Out
from controltower.commands.showing import columns, write_table
from controltower.jobs.evaluating import TASKS

_ACCURACY = ("ndcg@10", "recall@10", "mrr@10")
_OF_LISTS = ("coverage", "novelty", "diversity", "popularity", "popularity_bias", "cold_share")


def evaluate(
    task: Annotated[str, typer.Option(help=f"what is evaluated: {', '.join(TASKS)}")] = "recommend",
    as_of: AsOfDay = None,
    days: Annotated[
        int | None,
        typer.Option(help="train as of so many days before, judge by what was done since; default: 28, of clv 30"),
    ] = None,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="the report for programs")] = False,
) -> None:
    """Train on what was known some days ago, and judge by what customers did since; stores nothing."""
    from controltower.jobs import exports
    from controltower.jobs.evaluating import evaluate as evaluate_job

    report, table = evaluate_job(task, as_of, days)
    if as_json:
        print(json.dumps(report, ensure_ascii=False, indent=1))
        if out:
            exports.write(table, out)  # says nothing: what is printed is JSON
        return
    print(f"trained as of {report['split']}, judged by what was done until {report['as_of']}")
    if task == "recommend":
        _show_recommend(report)
    else:
        print(*report["said"], sep="\n")
        if table.num_rows:
            cells = [[_plain(v) for v in row.values()] for row in table.to_pylist()]
            print(*columns(table.column_names, cells, 40), sep="\n")
    print(f"{report['cpu_seconds']:.0f} CPU-seconds")
    if out:
        write_table(table, out)


def _plain(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_recommend(report: dict[str, Any]) -> None:
    print(
        f"{report['customers']:,} customers, {report['products']:,} products ({report['products_allowed']:,} may be "
        f"shown), {report['interactions']:,} interactions; {_share(report['unknown_share'])} of the orders since then "
        "are of products not known before"
    )
    for name, about in report["models"].items():
        if not about["cases"]:
            print(f"\n== {name}: no cases")
            continue
        print(
            f"\n== {name}: {about['cases']:,} cases of {about['customers']:,} customers, "
            f"{_share(about['cold_customers'])} of them cold"
        )
        served = [row for row in report["served"] if row["task"] == name]
        compared = [row for row in report["regret"] if row["task"] == name]
        best = {row["group"]: row for row in compared if not row["site"]}
        print(*columns(*_accuracy(served, best), 40), sep="\n")
        print(*columns(*_of_lists(served), 40), sep="\n")
        if of_sites := [row for row in compared if row["site"]]:
            print(*columns(*_of_sites(of_sites), 40), sep="\n")
    print(f"\ndiversity by {report['diversity_by']}")
    for name, why in report["not_tried"].items():
        print(f"not tried: {name}: {why}")
    print(_verdict(report["regret"]))


def _accuracy(served: list[dict[str, Any]], best: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for row in served:
        cells = [row["group"], f"{row['cases']:,}", row["chosen"]]
        cells += [_figure(row["ndcg@10"]), f"{_figure(row['low'])}-{_figure(row['high'])}"]
        cells += [_figure(row[name]) for name in _ACCURACY[1:]]
        than = best.get(row["group"])
        rows.append([*cells, *(_than(than) if than else ("", ""))])
    return ["group", "cases", "serves", "ndcg@10", "95 %", *_ACCURACY[1:], "best of all", "relative"], rows


def _of_sites(compared: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [row["site"], row["group"], f"{row['cases']:,}", row["chosen"], _figure(row["ndcg@10"]), *_than(row)]
        for row in compared
    ]
    return ["site", "group", "cases", "serves", "ndcg@10", "best of all", "relative"], rows


def _than(row: dict[str, Any]) -> tuple[str, str]:
    """The best algorithm of all, and what who serves has of its NDCG@10."""
    return f"{row['best']} {_figure(row['best_ndcg@10'])}", f"{row['relative']:.3f}{'' if row['ok'] else ' !'}"


def _of_lists(served: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [[row["group"], *(_figure(row[name], 3) for name in _OF_LISTS)] for row in served]
    return ["group", *(name.replace("_", " ") for name in _OF_LISTS)], rows


def _verdict(regret: list[dict[str, Any]]) -> str:
    if not regret:
        return "no group has cases enough to be compared with the best algorithm"
    below = [
        " ".join(filter(None, (row["task"], row["site"], row["group"]))) + f" ({row['relative']:.3f} of {row['best']})"
        for row in regret
        if not row["ok"]
    ]
    return f"! below the best algorithm by more than 2 %: {', '.join(below)}" if below else (
        f"at most 2 % below the best algorithm in all {len(regret)} groups with cases enough"
    )  # fmt: skip


def _figure(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"
