"""train_models: recommenders, predictions (jobs/predictions), gender and age, each against its baseline."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.jobs.inference import train_traits
from controltower.jobs.predictions import PREDICTIONS, Past
from controltower.jobs.profiles import moment

if TYPE_CHECKING:
    from controltower.models.base import Outcome
    from controltower.models.registry import Card, Registry

log = logging.getLogger("controltower")


def train_models(as_of: str | None = None, unless_newer_than_days: float = 0) -> dict[str, Any]:
    """Train all models as of a date, and store which serve: the challenger, or the baseline that it didn't beat.

    Where models as of at most `unless_newer_than_days` earlier serve already, all of this version of the code, nothing
    is trained and a `note` says so. Returns per model: version, published (the challenger won), serves, metric, value,
    baseline, baseline_value.
    """
    from threadpoolctl import threadpool_limits

    from controltower.models import propensity  # noqa: F401 - loaded before their threads are limited
    from controltower.models.recommend import choose  # noqa: F401
    from controltower.models.registry import Registry

    config = settings.load()
    shop = settings.load_shop(config)
    at = moment(as_of, config, shop)
    registry = Registry(config.home / "models")
    report: dict[str, Any] = {"as_of": at.isoformat(), "models": {}}
    newest = _trained_as_of(registry, at)
    if unless_newer_than_days and newest and at - newest <= timedelta(days=unless_newer_than_days):
        note = f"skipped: the models as of {newest.isoformat()} serve"
        log.info("training is %s", note)
        return report | {"note": note}
    with threadpool_limits(limits=1), Past.of(config, shop, at) as past:
        # each is stored before the next is trained, so that what fails takes nothing of the others away
        for outcome in chain(
            _recommenders(past),
            *(p.train(past) for p in PREDICTIONS),
            train_traits(config, past.lake, at, shop, past.in_service),
        ):
            card = store(registry, outcome, at, clock.now(config))
            log.info("%s: %s serves. %s", card.name, card.serves, card.why)
            report["models"][card.name] = {
                "version": card.version,
                "published": card.published,
                "serves": card.serves,
                "metric": card.metric,
                "value": card.metrics.get(card.metric),
                "baseline": card.baseline,
                "baseline_value": card.baseline_metrics.get(card.metric),
                "metrics": card.metrics,
                "baseline_metrics": card.baseline_metrics,
                "why": card.why,
            }
    return report


def store(registry: Registry, outcome: Outcome, as_of: datetime, now: datetime) -> Card:
    """Keep the model that serves, with its card."""
    from controltower.models.registry import Card

    card = Card(
        name=outcome.name,
        as_of=as_of,
        trained_at=now,
        window=outcome.window,
        challenger=outcome.challenger,
        serves=outcome.model.name,
        published=outcome.published,
        why=outcome.why,
        metric=outcome.metric,
        metrics=outcome.metrics,
        baseline=outcome.baseline,
        baseline_metrics=outcome.baseline_metrics,
        rows=outcome.rows,
        seed=outcome.model.config.seed,
        details=outcome.details,
    )
    return registry.store(outcome.model, card)


def _trained_as_of(registry: Registry, at: datetime) -> datetime | None:
    """The date as of which the models that serve at a moment were trained: the oldest of them. None where one lacks, or
    is of an earlier version of the code, which this one may not read."""
    from controltower.errors import NoData
    from controltower.models.recommend import choose
    from controltower.models.registry import code_version
    from controltower.models.traits import training

    names = [*(task.name for task in choose.TASKS), *chain(*(p.NAMES for p in PREDICTIONS)), *training.NAMES]
    try:
        cards = [registry.card(name, at) for name in names]
    except NoData:
        return None
    return min(card.as_of for card in cards) if {card.code_version for card in cards} == {code_version()} else None


def _recommenders(past: Past) -> Iterator[Outcome]:
    import numpy as np

    from controltower.errors import NoData
    from controltower.models.recommend import choose, history
    from controltower.models.recommend.offers import Offers
    from controltower.models.recommend.tasks import OF_COLLECTIONS
    from controltower.models.recommend.today import Today

    as_of, shop = past.as_of, past.shop
    with past.lake.read(as_of) as reading:
        known = history.read(reading.table, as_of, shop)
        if not len(known.customer_ids):
            raise NoData(
                f"Nobody is known as of {as_of.isoformat()}.", "Load data first, or choose a later date with --as-of."
            )
        shown = history.catalogue_mask(reading.table, as_of, known.product_ids, in_stock=False)
        offers = Offers.of(Today(reading.table, as_of, shop))
        offered = offers.customers if len(offers.product_ids) else None
    log.info("training recommenders on %d interactions", len(known))
    yield from choose.train(known, shown)
    if offered is not None:
        log.info("training offers of %d collections on %d interactions", len(offers.product_ids), len(offered))
        everything = np.ones(len(offers.product_ids), dtype=bool)
        yield from choose.train(offered, everything, OF_COLLECTIONS)
