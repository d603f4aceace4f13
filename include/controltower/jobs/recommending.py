"""recommend: the best products of every customer, as of a date."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from controltower import settings
from controltower.jobs.profiles import moment

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.models.recommend.batch import Lists

log = logging.getLogger("controltower")


def recommend(placement: str, k: int = 12, repeat: bool | None = None, as_of: str | None = None) -> pa.Table:
    """k rows a customer, best first, with the columns of the derived table `recommendations`.

    By the newest model trained as of a date not later than as_of, on the customers' history of as_of. repeat: whether
    products bought before may come again (None: as the placement, and where that leaves it open, the validation, says).
    """
    from threadpoolctl import threadpool_limits

    from controltower.data.lake import Lake
    from controltower.errors import BadSettings
    from controltower.models.recommend import batch, placements
    from controltower.models.recommend.today import Today
    from controltower.models.registry import Registry

    placements.check(placement, repeat)
    if k < 1:
        raise BadSettings(f"{k} is no number of products.", "Ask for 1 or more with --k.")
    config = settings.load()
    shop = settings.load_shop(config)
    at = moment(as_of, config, shop)
    with threadpool_limits(limits=1), Lake(config).read(at) as reading:
        registry = Registry(config.home / "models")
        lists = batch.recommend(registry, Today(reading.table, at, shop), placement, k, repeat)
        tell_unmatched(lists)
        return lists.rows()


def tell_unmatched(lists: Lists) -> None:
    for rule in lists.unmatched:
        log.warning("shop.yaml, recommendations: %s of %s fits no product", rule, lists.placement)
