"""The pages on all customers: what became of the scores' segments, and who moves between the stages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Response

from controltower import clock
from controltower.errors import NoData
from controltower.settings import load_shop
from controltower.web.tower.refusals import Shown
from controltower.web.tower.views import Here, Home

routes = APIRouter(route_class=Shown, default_response_class=Response)

DATES = 30  # scorings to choose from
_BESIDE = ("", "recency_")  # what begins the names of a row's figures


@routes.get("/segments")
def show_segments(
    here: Here,
    desk: Home,
    horizon: Literal["1", "7", "28"] = "7",
    scored: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    from controltower.jobs.segments import HORIZONS, segment_conversions
    from controltower.measurement.charts import rates

    shop = load_shop(desk.settings)
    try:
        with desk.one_at_a_time():
            report = segment_conversions(int(horizon), scored=scored or None)
    except NoData:
        raise HTTPException(404) from None
    table = report["tables"][0] if report["tables"] else None
    chart = None
    if table:
        groups = [(_word(here, row["segment"]), [_share(row, of) for of in _BESIDE]) for row in table["rows"]]
        chart = rates([group for group in groups if group[1] != [None, None]])
    return here.page.show(
        "segments.html",
        shop,
        now=clock.now(desk.settings),
        report=report,
        table=table,
        chart=chart,
        beside=_BESIDE,
        horizons=HORIZONS,
        dates=report["over"][:DATES],
        asked=scored,
    )


@routes.get("/lifecycle")
def show_lifecycle(here: Here, desk: Home, days: Literal["7", "28", "91"] = "7") -> Response:
    from controltower.jobs.lifecycle import lifecycle_moves
    from controltower.profiles.lifecycle import STAGES

    shop = load_shop(desk.settings)
    try:
        with desk.one_at_a_time():
            report = lifecycle_moves(days=int(days))
    except NoData:
        report = None
    return here.page.show(
        "lifecycle.html",
        shop,
        now=clock.now(desk.settings),
        report=report,
        stages=(*STAGES, None),  # the last: not known then, or now
        moves=_cells(report["moves"]) if report else {},
        expected=_cells(report["expected"]["moves"]) if report and report["expected"] else {},
        spans=(7, 28, 91),
    )


def _word(here: Any, segment: str) -> str:
    word: str = here.page.word("segment_7d", segment)
    return word


def _share(row: dict[str, Any], of: str) -> tuple[float, float, float] | None:
    rate = row[f"{of}rate"]
    return None if rate is None else (rate, row[f"{of}low"], row[f"{of}high"])


def _cells(moves: list[dict[str, Any]]) -> dict[tuple[str | None, str | None], dict[str, Any]]:
    return {(move["from"], move["to"]): move for move in moves}
