"""The pages on models: which serve and why, and each one's card."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response

from controltower import clock
from controltower.errors import NoData
from controltower.settings import load_shop
from controltower.web.tower.refusals import Shown
from controltower.web.tower.views import Here, Home, Name

routes = APIRouter(route_class=Shown, default_response_class=Response)


@routes.get("/models")
def show_models(here: Here, desk: Home) -> Response:
    from controltower.jobs.cards import compared, model_cards

    try:
        cards = model_cards()
    except NoData:
        cards = []
    rows = [(card, compared(card)) for card in cards]
    return here.page.show("models.html", load_shop(desk.settings), now=clock.now(desk.settings), rows=rows)


@routes.get("/models/{model}")
def show_model(here: Here, desk: Home, model: Name) -> Response:
    from controltower.jobs.cards import compared, model_card, too_few_dates
    from controltower.measurement.charts import calibration

    try:
        card = model_card(model)
    except NoData:
        raise HTTPException(404) from None
    table = card.details.get("calibration", {}).get("table")
    backtest = card.details.get("backtest") or []
    return here.page.show(
        "model.html",
        load_shop(desk.settings),
        now=clock.now(desk.settings),
        card=card,
        compared=compared(card),
        metrics=list(dict.fromkeys([*card.metrics, *card.baseline_metrics])),
        backtest=backtest,
        columns=list(dict.fromkeys(name for row in backtest for name in row)),
        few=too_few_dates(card),
        chart=calibration(table) if table else None,
        drift=card.details.get("drift", {}).get("score_stability"),
    )
