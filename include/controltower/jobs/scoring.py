"""score_customers: what the models expect of every customer, what they recommend, and the customers' profiles."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.jobs.inference import profile_rows
from controltower.jobs.ingest import erased_people, publish
from controltower.jobs.predictions import PREDICTIONS, Now
from controltower.jobs.predictions.past import framed
from controltower.jobs.profiles import moment, publish_features
from controltower.jobs.recommending import known_today, tell_unmatched
from controltower.jobs.segments import segment_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.data.lake import Lake
    from controltower.data.reading import Reading
    from controltower.models.recommend.batch import Lists
    from controltower.models.recommend.today import Today
    from controltower.models.recommend.version import Artefacts
    from controltower.models.registry import Registry
    from controltower.settings import Settings
    from controltower.shop import Shop

log = logging.getLogger("controltower")

K = 12  # recommendations stored a customer and placement


def score_customers(as_of: str | None = None, *, rescan: bool = False) -> dict[str, Any]:
    """Publish `scores`, `recommendations` and `profiles` together as of a date, by the newest models not trained later.

    Lists of an earlier day are taken over for who did nothing since, unless `rescan`; `lists` says how many were made
    anew, and how many weren't. Features of that date are built first where they are missing. Raises NoData where no
    model was trained yet; but where one of gender or age lacks, `not_inferred` says so, and nothing is inferred. What
    fails in profiles is raised once scores and recommendations are published.
    """
    import pyarrow as pa
    from threadpoolctl import threadpool_limits

    from controltower.data.lake import BATCH, Lake, interval_key
    from controltower.models import propensity  # noqa: F401 - loaded before their threads are limited
    from controltower.models.recommend import batch
    from controltower.models.recommend.artefacts import artefacts
    from controltower.models.registry import Registry

    config = settings.load()
    shop = settings.load_shop(config)
    at = moment(as_of, config, shop)
    lake, registry = Lake(config), Registry(config.home / "models")
    if interval_key(at) not in lake.intervals("features") or not _complete(lake, at):
        publish_features(lake, at, shop)
    report: dict[str, Any] = {"as_of": at.isoformat()}
    failed: Exception | None = None
    with threadpool_limits(limits=1), lake.read(at) as reading:
        scores, served = _scores(config, reading, registry, at, shop)
        customers = scores.num_rows
        log.info("scores: %d customers", customers)
        pieces = pa.RecordBatchReader.from_batches(scores.schema, scores.to_batches(max_chunksize=BATCH))
        tables = {"scores": lake.write("scores", pieces)}
        del pieces, scores  # half a gigabyte a million customers
        today = known_today(config, reading, at, shop)
        lists = _recommendations(lake, registry, today, served, rescan)
        rows = pa.RecordBatchReader.from_batches(batch.SCHEMA, chain.from_iterable(x.batches() for x in lists.values()))
        tables["recommendations"] = lake.write("recommendations", rows)
        recommendations = sum(len(one) for one in lists.values())
        counts = {name: sum(getattr(one, name) for one in lists.values()) for name in ("made", "taken_over")}
        log.info("recommendations: %d rows; %d lists made, %d taken over", recommendations, *counts.values())
        report |= {"customers": customers, "recommendations": recommendations, "lists": counts, "served": served}
        try:
            profiles = profile_rows(config, reading, registry, at, shop)
            tables["profiles"] = lake.write("profiles", profiles.rows)
            served |= profiles.served
            report |= {"not_inferred": profiles.lacking} if profiles.lacking else {}
        except Exception as e:
            failed = e  # the scores need not be lost
        publish(lake, interval_key(at), tables)  # in one step: nobody sees new scores with older lists
        if interval_key(at) == max(lake.intervals("recommendations")):  # a backfill of earlier days isn't served
            report["serving"] = serve(config, artefacts(registry, today, lists))
    if failed:
        raise failed
    return report


def _complete(lake: Lake, as_of: datetime) -> bool:
    """Whether the features hold all of this version's: an earlier one may have made them."""
    from controltower.profiles.features import NAMES

    with lake.read(as_of) as reading:
        return set(NAMES) <= set(reading.derived("features").columns)


def _scores(
    config: Settings, reading: Reading, registry: Registry, as_of: datetime, shop: Shop
) -> tuple[pa.Table, dict[str, str]]:
    """The rows of `scores`, and which model served for each."""
    import numpy as np
    import pyarrow as pa

    from controltower.profiles.features import NAMES

    features = reading.derived("features")
    rows = int(reading.arrow(features.aggregate(rows=features.count()))["rows"][0].as_py())
    ordered = reading.sql(features.select("customer_id", *NAMES).order_by("customer_id"))
    frame = framed(reading.batches(ordered), rows)
    customers = frame.index.to_numpy(dtype=np.str_)
    now = Now(config, shop, reading, registry, as_of, customers, frame)
    moment_type = pa.timestamp("us", tz="UTC")
    columns: dict[str, Any] = {"customer_id": pa.array(customers, pa.string())}
    columns["as_of"] = pa.array([as_of] * len(customers), moment_type)
    for prediction in PREDICTIONS:
        columns |= prediction.score(now)
    columns |= segment_columns(customers, columns)
    columns["model_version"] = pa.array([" ".join(now.versions)] * len(customers), pa.string())
    columns["scored_at"] = pa.array([clock.now(config)] * len(customers), moment_type)
    return pa.table(columns), now.served


def _recommendations(
    lake: Lake, registry: Registry, today: Today, served: dict[str, str], rescan: bool
) -> dict[str, Lists]:
    from controltower.errors import NoData
    from controltower.models.recommend import batch
    from controltower.models.recommend.placements import OFFER, PLACEMENTS
    from controltower.models.recommend.taken_over import Earlier

    made = {}
    with lake.read(today.as_of - timedelta(seconds=1)) as before:  # not of this moment: so twice gives the same rows
        earlier = None if rescan else Earlier.of(before)
        for placement in PLACEMENTS:
            try:
                one = made[placement] = batch.recommend(registry, today, placement, K, earlier=earlier)
            except NoData:
                if placement != OFFER:
                    raise
                log.info("no offers: no collection ran when the models were trained")
                continue
            served[placement] = one.card.serves
            tell_unmatched(one)
            log.info(
                "recommendations for %s: %d; %d lists made, %d taken over",
                placement,
                len(one),
                one.made,
                one.taken_over,
            )
    return made


def serve(config: Settings, made: Artefacts) -> str:
    """Let the public app answer from it; returns the version's id."""
    from controltower.models.recommend import published

    root = config.home / "serving"
    version = published.publish(root, made)
    # who was erased since the lists were made; whoever is from now on is erased from this version, too
    erased = erased_people(config)
    visits = erased.visits(dict.fromkeys(made.visitors, made.as_of))
    published.erase(root, erased.among(made.customers), visits)
    return version
