"""The models' cards, to look at."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from controltower import clock, settings

if TYPE_CHECKING:
    from controltower.models.registry import Card, Registry


def model_cards(as_of: str | None = None) -> list[Card]:
    """The card of each model as of a moment: of the newest version trained as of then or earlier. NoData: no model."""
    from controltower.errors import NoData

    registry, at = _registry(as_of)
    found = []
    for name in registry.names():
        try:
            found.append(registry.card(name, at))
        except NoData:
            continue  # trained later only
    if not found:
        raise NoData("There is no model yet.", "Run `controltower train` (with --as-of) first.")
    return found


def model_card(name: str, as_of: str | None = None) -> Card:
    """The card of one model. NoData, which names those there are, where it is none of them."""
    from controltower.errors import NoData

    registry, at = _registry(as_of)
    if name not in registry.names():
        there = ", ".join(registry.names()) or "none"
        raise NoData(f"There is no model {name}.", f"There are: {there}.")
    return registry.card(name, at)


FEWEST_DATES = 3  # past dates, on which a model ought to be judged


def too_few_dates(card: Card) -> int | None:
    """On how many past dates a model was judged, where that is fewer than it ought to be; recommenders are judged by
    customers, and have none."""
    rows = card.details.get("backtest")
    return len(rows) if rows is not None and len(rows) < FEWEST_DATES else None


def compared(card: Card) -> dict[str, float | None]:
    """The deciding metric of the challenger, of the baseline, and of what was in service; None: not judged."""
    beside = card.details.get("in_service", {})
    return {
        "challenger": card.metrics.get(card.metric),
        "baseline": card.baseline_metrics.get(card.metric),
        "in_service": beside.get(card.metric) if isinstance(beside, dict) else None,
    }


def _registry(as_of: str | None) -> tuple[Registry, datetime]:
    from controltower.models.registry import Registry

    config = settings.load()
    at = clock.parse(as_of, settings.load_shop(config)) if as_of else clock.now(config)
    return Registry(config.home / "models"), at
