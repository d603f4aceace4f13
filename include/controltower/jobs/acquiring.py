"""The goal `acquire`: visitors and prospects, how likely they become customers, and products for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from controltower.jobs.aiming import Aimed, calibration
from controltower.jobs.predictions import Past

if TYPE_CHECKING:
    import numpy as np

PRODUCTS = 6


def aim(past: Past, within: float) -> Aimed:
    """Everybody known who never bought. NoData where no model was trained yet."""
    import numpy as np

    from controltower.audiences import targeting
    from controltower.errors import NoData
    from controltower.models.acquisition import model as acquisition
    from controltower.models.acquisition import people, training

    served, card = past.registry.load(training.NAME, past.as_of, acquisition.KINDS)
    with past.lake.read(past.as_of) as reading:
        there = people.read_people(reading.table, reading.frame, past.as_of, past.shop, reading.computed)
    if not len(there):
        raise NoData(
            "Everybody known has bought, and no visitor was here in the last 30 days.",
            "Load the shop's events, with visitor_id, to find people who could become customers.",
        )
    p = targeting.within({float(served.DAYS): served.predict(there)}, within)
    ids, visitor = there["person"].to_numpy(dtype=np.str_), there["visitor"].to_numpy(bool)
    return Aimed(
        targeting.Customers(ids, p=p),
        [f"{training.NAME}@{card.version}"],
        calibration(past, training.NAME),
        {"visitor": visitor, "likeness": there["likeness"].to_numpy(float)},
        [f"{int((~visitor).sum()):,} customers without an order and {int(visitor.sum()):,} visitors; {card.why}"],
    )


def products_for(past: Past, ids: np.ndarray, visitor: np.ndarray) -> tuple[list[str], list[str]]:
    """For each of these people, as JSON: `interests`, [category, share] of what they looked at in 90 days, the most
    first; `products`, up to PRODUCTS ids that sell best in these categories now, by share; without any, of all."""
    import numpy as np
    import pyarrow as pa

    from controltower.models.acquisition import people
    from controltower.models.recommend.history import catalogue_mask
    from controltower.profiles.facts import gather
    from controltower.profiles.portable import DAY

    who = pa.table({"person": pa.array(ids.tolist(), pa.string()), "visitor": pa.array(visitor.astype(np.int64)),
                    "place": pa.array(np.arange(len(ids)))})  # fmt: skip
    with past.lake.read(past.as_of) as reading:
        looked = people.read_interests(reading.table, reading.frame, past.as_of, past.shop, who)
        lines = gather(reading.table, past.as_of, past.shop).lines
        lines = lines.filter(lines.bought, ~lines.returned, lines.age < people.DAYS * DAY)
        sold = lines.group_by("product_id", "category").aggregate(number=lines.count())
        rows = reading.frame(sold.order_by("product_id"))
        shown = catalogue_mask(reading.table, past.as_of, rows["product_id"].to_numpy(dtype=np.str_))
    best = rows[shown].sort_values(["number", "product_id"], ascending=[False, True])
    of_category = {str(name): group["product_id"].head(PRODUCTS).tolist() for name, group in best.groupby("category")}
    anything = json.dumps(best["product_id"].head(PRODUCTS).tolist())
    interests, products = ["[]"] * len(ids), [anything] * len(ids)
    places, starts = np.unique(looked["place"].to_numpy(), return_index=True)
    pairs = list(zip(looked["category"].tolist(), looked["share"].tolist(), strict=True))
    for place, start, end in zip(places.tolist(), starts, [*starts[1:], len(pairs)], strict=True):
        liked = pairs[start:end]
        interests[place] = json.dumps([[c, round(share, 4)] for c, share in liked], ensure_ascii=False)
        if found := _filled(liked, of_category):
            products[place] = json.dumps(found)
    return interests, products


def _filled(liked: list[tuple[str, float]], of_category: dict[str, list[str]]) -> list[str]:
    """The best of each category, as many as its share of PRODUCTS, rounded up, until there are PRODUCTS."""
    found: list[str] = []
    for category, share in liked:
        most = min(-int(-share * PRODUCTS // 1), PRODUCTS - len(found))
        found += of_category.get(category, [])[:most]
    return found
