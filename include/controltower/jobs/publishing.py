"""What the public app answers /v1/recommendations from: the newest lists, and what goes with each product."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from controltower.jobs.ingest import erased_people

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from controltower.models.recommend.base import Recommender
    from controltower.models.recommend.batch import Lists
    from controltower.models.recommend.interactions import Interactions
    from controltower.models.recommend.published import ItemLists, PersonalLists
    from controltower.models.registry import Registry
    from controltower.profiles.facts.tables import Tables
    from controltower.settings import Settings
    from controltower.shop import Shop

log = logging.getLogger("controltower")

WIDTH = 48  # products that go with one
BOUGHT = 100  # of a customer's latest products, those that new lists leave out


def publish_lists(
    config: Settings, tables: Tables, registry: Registry, as_of: datetime, shop: Shop, lists: Mapping[str, Lists]
) -> str:
    """Write a version for serving, of customers' lists by placement and what the models say of products; its id."""
    from controltower.models.recommend import published
    from controltower.models.recommend.base import popularity
    from controltower.models.recommend.choose import KINDS
    from controltower.models.recommend.interactions import catalogue_mask, read
    from controltower.models.recommend.placements import FOR_YOU, OF_PRODUCTS
    from controltower.models.recommend.search import Search
    from controltower.models.recommend.searches import read_collections, read_searches

    product_ids = lists[FOR_YOU].product_ids
    history = read(tables, as_of, shop, product_ids)
    assert history.catalogue is not None  # `read` brings it
    allowed = catalogue_mask(tables, as_of, product_ids, in_stock=False)
    items: dict[str, ItemLists] = {}
    made: dict[str, ItemLists] = {}
    for placement, name in OF_PRODUCTS.items():
        if name not in made:
            model, card = registry.load(name, as_of, KINDS)
            if len(model.product_ids) != len(product_ids) or (model.product_ids != product_ids).any():
                log.warning("%s isn't published: %s was trained on other products; train again", placement, name)
                continue
            product, score = _with_each(model, history, allowed)
            made[name] = published.ItemLists(product, score, card.serves, f"{name}@{card.version}")
        together = placement in ("bought_together", "cart")
        items[placement] = replace(
            made[name],
            seeds="cart" if placement == "cart" else "product",
            reason="bought_together" if together else "because_you_viewed",
        )
    searched = popularity(history)
    version = published.publish(
        config.home / "serving",
        published.Artefacts(
            as_of=as_of,
            zone=shop.zone,
            products=_shown(tables, product_ids),
            sold=allowed,
            in_stock=catalogue_mask(tables, as_of, product_ids),
            popularity=searched,
            items=items,
            customers=history.customer_ids.tolist(),
            personal={name: _personal(name, one, history, items) for name, one in lists.items()},
            barred=_bought(history),
            repeats=_repeats(lists),
            search=Search().fit(
                history.catalogue, read_searches(tables, as_of), read_collections(tables, as_of), searched
            ),
            search_version=f"search@{as_of:%Y%m%dT%H%M%SZ}",
            rules=shop.recommendations,
        ),
    )
    # who was erased since the lists were made; whoever is from now on is erased from this version, too
    published.erase(config.home / "serving", erased_people(config).among(history.customer_ids.tolist()))
    return version


def _with_each(model: Recommender, history: Interactions, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """products x WIDTH: what goes with each, and how much; nothing that only fills up."""
    import numpy as np

    from controltower.models.recommend.base import barred, chunks
    from controltower.models.recommend.interactions import ORDER, Interactions

    count = len(model.product_ids)
    each = np.arange(count)
    ids = np.array([f"{n:09}" for n in each], dtype=np.str_)
    seconds, kind = np.full(count, history.until - 1), np.full(count, ORDER)
    asked = Interactions(ids, model.product_ids, each, each, seconds, kind, history.until, history.catalogue)
    product, score = np.full((count, WIDTH), -1, np.int32), np.zeros((count, WIDTH), np.float32)
    for start, rows in chunks(each):
        ranking = model.rank(asked, rows, WIDTH, barred(asked, rows, False, allowed))
        ranking = ranking.where((ranking.part != "popularity") & (ranking.score > 0))
        at = start + ranking.customer, ranking.rank - 1
        product[at], score[at] = ranking.product, ranking.score
    return product, score


def _repeats(lists: Mapping[str, Lists]) -> list[str]:
    """Where what was bought may come again: by its own lists, and with products as it is for the customer."""
    from controltower.models.recommend.placements import FOR_YOU, OF_PRODUCTS

    found = [name for name, one in lists.items() if "buy_again" in one.reasons.code]
    return [*found, *OF_PRODUCTS] if FOR_YOU in found else found


def _personal(placement: str, lists: Lists, history: Interactions, items: Mapping[str, ItemLists]) -> PersonalLists:
    """The lists in the order of the history's customers: somebody who was erased since has none."""
    import numpy as np

    from controltower.models.recommend.interactions import positions
    from controltower.models.recommend.placements import FOR_YOU, PLACEMENTS
    from controltower.models.recommend.published import PersonalLists
    from controltower.models.recommend.reasons import Reasons

    # models of another training have other products; what is gone leaves a list shorter
    where = np.r_[positions(history.product_ids, lists.product_ids), -1]
    row = history.rows_of(lists.customers)
    kept = (row[lists.ranking.customer] >= 0) & (where[lists.ranking.product] >= 0)
    r, reasons = lists.ranking.where(kept), Reasons(lists.reasons.code[kept], where[lists.reasons.product[kept]])
    shape = len(history.customer_ids), int(r.rank.max(initial=1))
    algorithms, algorithm = np.unique(r.algorithm, return_inverse=True)
    codes, code = np.unique(reasons.code, return_inverse=True)
    product, about = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    by, why = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    at = row[r.customer], r.rank - 1
    product[at], about[at], by[at], why[at] = where[r.product], reasons.product, algorithm, code
    return PersonalLists(
        product,
        by,
        why,
        about,
        algorithms=algorithms.tolist() or ["popularity"],
        codes=codes.tolist() or ["popular"],
        model_version=f"{lists.card.name}@{lists.card.version}",
        session="similar" if placement == FOR_YOU and "similar" in items else None,
        fill=not PLACEMENTS[placement].only_own,
    )


def _bought(history: Interactions) -> np.ndarray:
    """customers x BOUGHT: the products that they ordered last, each once, -1 behind the last."""
    import numpy as np

    from controltower.models.recommend.interactions import ORDER

    orders = history.where(history.kind == ORDER)
    order = np.lexsort((orders.second, orders.product, orders.customer))
    again = np.zeros(len(order), dtype=bool)  # ordered once more later
    again[:-1] = (np.diff(orders.customer[order]) == 0) & (np.diff(orders.product[order]) == 0)
    last = np.ones(len(order), dtype=bool)
    last[order] = ~again
    orders = orders.where(last)
    left = np.searchsorted(orders.customer, orders.customer, side="right") - np.arange(len(orders)) - 1
    latest = left < BOUGHT
    products = np.full((len(history.customer_ids), BOUGHT), -1, np.int32)
    products[orders.customer[latest], left[latest]] = orders.product[latest]
    return products


def _shown(tables: Tables, product_ids: np.ndarray) -> pa.Table:
    """What pages show of the products, in the order of their ids; of one that is in no catalogue its id alone."""
    import pyarrow as pa

    columns = ["title", "url", "image_url", "price", "currency", "category", "brand", "margin_rate"]
    rows = tables("products").select("product_id", *columns).to_pyarrow()
    every = pa.table({"product_id": pa.array(product_ids, pa.string())})
    return every.join(rows, "product_id", join_type="left outer").sort_by("product_id")
