"""`controltower segments|lifecycle`: what became of the scores' segments, and who moves between stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from controltower.commands.options import AsOf, Out
from controltower.commands.showing import columns, write_table

AsJson = Annotated[bool, typer.Option("--json", help="the report for programs")]

_FIGURES = {"converted": "int64", **dict.fromkeys(("rate", "low", "high", "lift"), "float64")}
_ROWS = {
    "scored": "string", "until": "string", "horizon": "int64", "model": "string", "segment": "string",
    "customers": "int64", **_FIGURES, **{f"recency_{name}": kind for name, kind in _FIGURES.items()},
}  # fmt: skip
_MOVES = {"from": "string", "to": "string", "customers": "int64"}
_WHY = {
    "no_scores": "Nobody was scored by then: `controltower score` does it.",
    "not_over": "The days of no scores are over yet.",
    "orders_unknown": "The days are over, but the orders of them aren't loaded yet: `controltower ingest` does it.",
    "not_ranked": "The scores tell nobody apart, as there was too little to learn from.",
}


def segments(
    horizon: Annotated[int, typer.Option(help="days: the segments of the chance to buy within 1, 7 or 28")] = 7,
    as_of: AsOf = None,
    scored: Annotated[
        str | None, typer.Option(help="which scoring, by its date; default: the newest whose days are over")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="how many scorings, the newest first, whose days don't overlap")] = 1,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How many customers of each AI segment bought in the days after they were scored, and by recency alone."""
    from controltower.jobs.segments import segment_conversions

    report = segment_conversions(horizon, as_of, scored=scored, most=most)
    if as_json:
        print(json.dumps(report, ensure_ascii=False, indent=1))
    else:
        _show_segments(report)
    if out:
        about = ("scored", "until", "model")
        rows = [
            {"horizon": horizon, **{name: t[name] for name in about}, **row}
            for t in report["tables"]
            for row in t["rows"]
        ]
        _write(rows, _ROWS, out, as_json)


def lifecycle(
    days: Annotated[int, typer.Option(help="moves since so many days before")] = 7,
    as_of: AsOf = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How many customers are in each stage, moved between stages lately, and are expected to within 28 days."""
    from controltower.jobs.lifecycle import lifecycle_moves

    report = lifecycle_moves(as_of, days)
    if as_json:
        print(json.dumps(report, ensure_ascii=False, indent=1))
    else:
        _show_lifecycle(report)
    if out:
        _write(report["moves"], _MOVES, out, as_json)


def _show_segments(report: dict[str, Any]) -> None:
    for t in report["tables"]:
        print(f"scored as of {t['scored']} by {t['model']}, judged until {t['until']}")
        print(f"{t['bought']:,} of {t['customers']:,} customers bought ({t['rate']:.2%})")
        header = ["segment", "customers", "bought", "rate", "95 %", "lift", "recency", "rate", "95 %", "lift"]
        rows = [
            [row["segment"], f"{row['customers']:,}", *_cells(row, ""), *_cells(row, "recency_")] for row in t["rows"]
        ]
        print(*columns(header, rows, 40, width=120), sep="\n")
    if report["why"]:
        print(_WHY[report["why"]])
        if coming := report["next"]:
            print(f"The scores as of {coming['scored']} can be judged from {coming['until']} on;", end=" ")
            print(f"orders are known until {report['orders_known_until'] or '-'}.")


def _cells(row: dict[str, Any], of: str) -> list[str]:
    if row[f"{of}rate"] is None:
        return ["0", "-", "-", "-"]
    lift = row[f"{of}lift"]
    interval = f"{row[f'{of}low']:.2%}-{row[f'{of}high']:.2%}"
    return [f"{row[f'{of}converted']:,}", f"{row[f'{of}rate']:.2%}", interval, "-" if lift is None else f"{lift:.1f}"]


def _show_lifecycle(report: dict[str, Any]) -> None:
    print(f"as of {report['as_of']}: " + ", ".join(f"{n:,} {stage}" for stage, n in report["stages"].items()))
    if report["before"]:
        print(f"moves since {report['before']}, from the rows to the columns:")
        print(*_matrix(report["moves"], lambda move: f"{move['customers']:,}"), sep="\n")
    else:
        print(f"There are no features of {report['days']} days before, so no moves can be told.")
    said = report["expected"]
    if said is None:
        print("There are no scores of that date, so nothing is expected.")
        return
    print(f"expected until {said['until']}, with the 95 % interval:")
    print(
        *_matrix(said["moves"], lambda move: f"{move['expected']:,.0f} ({move['low']:,.0f}-{move['high']:,.0f})"),
        sep="\n",
    )
    if said["unknown"]:
        print(f"Of {said['unknown']:,} customers the chance isn't known: train and score again.")
    if said["error"] is None:
        print("The interval holds chance only: no scores of 28 days before can be judged yet.")
    else:
        past = f"past dates ({said['dates']})"
        print(f"The interval holds chance, and that beyond it buyers were {said['error']:.0%} off on {past}.")


def _matrix(moves: list[dict[str, Any]], shown: Any) -> list[str]:
    from controltower.profiles.lifecycle import STAGES

    cells = {(move["from"], move["to"]): shown(move) for move in moves}
    froms, tos = ([s for s in (*STAGES, None) if any(pair[n] == s for pair in cells)] for n in (0, 1))
    header = ["", *(to or "merged" for to in tos)]
    return columns(header, [[one or "not known then", *(cells.get((one, to), "") for to in tos)] for one in froms], 40)


def _write(rows: list[dict[str, Any]], kinds: dict[str, str], out: Path, silent: bool) -> None:
    import pyarrow as pa

    from controltower.jobs import exports

    table = pa.Table.from_pylist(rows, schema=pa.schema(kinds))
    if silent:
        exports.write(table, out)
    else:
        write_table(table, out)
