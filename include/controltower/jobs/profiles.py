"""build_profiles: what is known of every customer as of a date."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.jobs.ingest import publish

if TYPE_CHECKING:
    from controltower.data.lake import Lake
    from controltower.settings import Settings
    from controltower.shop import Shop

log = logging.getLogger("controltower")


def moment(as_of: str | None, config: Settings, shop: Shop) -> datetime:
    """The as_of date of a job: as given, by default today's midnight in the shop's zone; in UTC."""
    return clock.parse(as_of, shop) if as_of else clock.start_of(clock.today(config, shop), shop)


def build_profiles(as_of: str | None = None) -> dict[str, Any]:
    """Publish `features` as of a date. Returns as_of, counts of customers by lifecycle, and orders without a rate."""
    from controltower.data.lake import Lake

    config = settings.load()
    shop = settings.load_shop(config)
    return publish_features(Lake(config), moment(as_of, config, shop), shop)


def publish_features(lake: Lake, as_of: datetime, shop: Shop) -> dict[str, Any]:
    from collections import Counter

    import pyarrow as pa

    from controltower.data.lake import interval_key
    from controltower.profiles.facts import gather, uncounted_orders
    from controltower.profiles.features import assemble

    log.info("features as of %s", as_of.isoformat())
    with lake.read(as_of) as reading:
        facts = gather(reading.table, as_of, shop)
        rows = assemble(facts)
        stages: Counter[str] = Counter()

        def counted() -> Iterator[pa.RecordBatch]:
            for batch in reading.batches(rows):
                stages.update(batch["lifecycle"].to_pylist())
                yield batch

        batches = pa.RecordBatchReader.from_batches(rows.schema().to_pyarrow(), counted())
        parts = lake.write("features", batches)
        uncounted = uncounted_orders(facts).to_pyarrow().as_py()
    publish(lake, interval_key(as_of), {"features": parts})
    log.info("features: %d customers", stages.total())
    return {
        "as_of": as_of.isoformat(),
        "customers": stages.total(),
        "lifecycle": dict(sorted(stages.items())),
        "orders_in_other_currencies_without_a_rate": int(uncounted),
    }
