"""build_profiles: what is known of every customer as of a date."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower import clock, settings

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
    import pyarrow.compute as pc

    from controltower.data.lake import interval_key
    from controltower.profiles.facts import gather, uncounted_orders
    from controltower.profiles.features import assemble

    log.info("features as of %s", as_of.isoformat())
    with lake.read(as_of) as reading:
        facts = gather(reading.table, as_of, shop)
        rows = reading.arrow(assemble(facts))
        uncounted = uncounted_orders(facts).to_pyarrow().as_py()
    lake.publish("features", interval_key(as_of), rows)
    counts = {str(c["values"]): int(c["counts"].as_py()) for c in pc.value_counts(rows["lifecycle"])}
    log.info("features: %d customers", rows.num_rows)
    return {
        "as_of": as_of.isoformat(),
        "customers": rows.num_rows,
        "lifecycle": counts,
        "orders_in_other_currencies_without_a_rate": int(uncounted),
    }
