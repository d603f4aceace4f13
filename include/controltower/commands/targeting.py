"""`controltower target`: set the goal, and see who brings most of it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from controltower.commands.options import AsOfDay, Out
from controltower.commands.showing import columns, plain, write_table

_Several = list[str] | None


def target(
    goal: Annotated[
        str, typer.Option(help="clicks, conversions, revenue, margin, retention, incremental or acquire")
    ] = "conversions",
    within: Annotated[float, typer.Option(help="days in which it is to come; clicks and incremental mind none")] = 7,
    size: Annotated[int | None, typer.Option(help="most customers; default: all of whom something is expected")] = None,
    budget: Annotated[float | None, typer.Option(help="most that contacts may cost in all; needs --cost")] = None,
    cost: Annotated[float, typer.Option(help="of one contact, in the shop's currency")] = 0.0,
    product: Annotated[_Several, typer.Option(help="about this product; may be repeated, as those below")] = None,
    category: Annotated[
        _Several, typer.Option(help='about this category and all below it, as "Home > Kitchen"')
    ] = None,
    brand: Annotated[_Several, typer.Option(help="about this brand")] = None,
    collection: Annotated[_Several, typer.Option(help="about this exhibition, offer or event (collection_id)")] = None,
    coupon: Annotated[_Several, typer.Option(help="about what this coupon, or pool of coupons, is good for")] = None,
    as_of: AsOfDay = None,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="the report for programs")] = False,
) -> None:
    """Who brings most of a goal, best first, what is expected of them and how sure that is; stores nothing."""
    from controltower.audiences.about import About
    from controltower.jobs import exports
    from controltower.jobs.targeting import Wanted, target_customers

    told = (tuple(values or ()) for values in (product, category, brand, collection, coupon))
    report, table = target_customers(
        goal, About(*told), within, Wanted(size, budget, cost), as_of, products=out is not None
    )
    if as_json:
        print(json.dumps(report, ensure_ascii=False, indent=1))
        if out:
            exports.write(table, out)  # says nothing: what is printed is JSON
        return
    _show(report)
    if out:
        write_table(table, out)


def _show(report: dict[str, Any]) -> None:
    from controltower.jobs.targeting import reason

    chosen, unit, whole = report["chosen"], report["unit"], report["curve"][-1]
    print(f"{report['goal']} within {report['within']:g} days after {report['as_of']}, about {plain(report['about'])}")
    print(f"{chosen['size']:,} chosen of {report['people']:,}")
    share = f" ({chosen['expected'] / whole['expected']:.0%} of what all would bring)" if whole["expected"] else ""
    print(f"expected: {_with_interval(chosen)} {unit}{share}; cost {_figure(chosen['cost'])}")
    rows = [
        [f"{p['size']:,}", f"{p['size'] / whole['size']:.0%}", _figure(p["expected"]),
         f"{_figure(p['low'])} - {_figure(p['high'])}", _figure(p["cost"])]
        for p in report["curve"]
    ]  # fmt: skip
    print(*columns(["size", "share", "expected", "95 %", "cost"], rows, 40), sep="\n")
    for code, number in report["left_out"].items():
        if number:
            print(f"left out: {number:,} {reason(code)}")
    off = report["calibration_error"]
    print(
        "the interval holds chance only: no past date tells how far totals are off besides" if off is None else
        f"the interval holds chance, and that totals were {off:.0%} off beyond it on past dates"
    )  # fmt: skip
    print(*report["said"], sep="\n")
    print(f"models: {plain(report['models'])}")


def _with_interval(result: dict[str, float]) -> str:
    return f"{_figure(result['expected'])} (95 %: {_figure(result['low'])} to {_figure(result['high'])})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"
