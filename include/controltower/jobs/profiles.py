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


def build_profiles(as_of: str | None = None, *, rescan: bool = False) -> dict[str, Any]:
    """Publish `features` as of a date; see publish_features."""
    from controltower.data.lake import Lake

    config = settings.load()
    shop = settings.load_shop(config)
    return publish_features(Lake(config), moment(as_of, config, shop), shop, rescan=rescan)


def publish_features(lake: Lake, as_of: datetime, shop: Shop, *, rescan: bool = False) -> dict[str, Any]:
    """Publish `features` as of a moment: from those of an earlier day where that may be, unless `rescan`.

    Returns as_of, counts of customers by lifecycle, orders without a rate; `counted`: how many customers were counted
    anew, and `rescanned`: why all were, None where not.
    """
    from collections import Counter

    import pyarrow as pa

    from controltower.data.lake import interval_key
    from controltower.data.scratch import scratch
    from controltower.profiles.rolling import basis, build

    log.info("features as of %s", as_of.isoformat())
    with lake.read(as_of) as reading, scratch(lake.settings) as folder:
        built = build(reading, folder, as_of, shop, rescan=rescan)
        stages: Counter[str] = Counter()

        def counted() -> Iterator[pa.RecordBatch]:
            for batch in built.rows:
                stages.update(batch["lifecycle"].to_pylist())
                yield batch

        parts = {
            "features": lake.write("features", pa.RecordBatchReader.from_batches(built.schema, counted())),
            basis.TABLE: lake.write(basis.TABLE, built.basis),
        }
    publish(lake, interval_key(as_of), parts)
    made = lake.manifest().loads(basis.TABLE)
    if old := sorted(made, key=lambda key: made[key].number)[: -basis.KEPT]:  # whatever day is made last stays
        lake.drop({basis.TABLE: {key: made[key].parts for key in old}})
    how = f"all counted: {built.rescanned}" if built.rescanned else f"{built.counted} counted, the others taken over"
    log.info("features: %d customers, %s", stages.total(), how)
    return {
        "as_of": as_of.isoformat(),
        "customers": stages.total(),
        "lifecycle": dict(sorted(stages.items())),
        "orders_in_other_currencies_without_a_rate": built.without_rate,
        "counted": built.counted,
        "rescanned": built.rescanned,
    }
