"""What serves, made of the day's lists and of what the models say goes with each product."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from controltower.models.recommend.base import CHUNK, Recommender, Scorer, barred, chunks, popularity
from controltower.models.recommend.batch import Lists, of_offers
from controltower.models.recommend.choose import KINDS
from controltower.models.recommend.history import strings
from controltower.models.recommend.interactions import ORDER, Interactions, positions
from controltower.models.recommend.item_to_item import MOST_PAIRS
from controltower.models.recommend.placements import FOR_YOU, OF_PRODUCTS, OFFER, PLACEMENTS
from controltower.models.recommend.running import DATES
from controltower.models.recommend.search import Search
from controltower.models.recommend.searches import read_collections, read_searches
from controltower.models.recommend.today import Known, Today
from controltower.models.recommend.version import EXHIBITION, Artefacts, ItemLists, PersonalLists
from controltower.models.registry import Registry

log = logging.getLogger("controltower")

WIDTH = 48  # products that go with one, at most
AHEAD = timedelta(days=2)  # exhibitions that begin by then are searched, too: the next scoring may be late


def artefacts(registry: Registry, today: Today, lists: Mapping[str, Lists]) -> Artefacts:
    """A version to publish. lists: of customers, by placement; all over the products of FOR_YOU's."""
    known = lists[FOR_YOU].known
    history, everywhere = known.customers, known.allowed[""]
    items = _items(registry, today, known, everywhere.sold)
    searched = popularity(history)
    collections = read_collections(today.tables, today.as_of, AHEAD)
    search = Search().fit(known.catalogue, read_searches(today.tables, today.as_of), collections, searched)
    visitors = lists[FOR_YOU].visitors
    return Artefacts(
        as_of=today.as_of,
        zone=today.shop.zone,
        products=_shown(today, known.product_ids),
        sold=everywhere.sold,
        in_stock=everywhere.in_stock,
        popularity=searched,
        items=items,
        customers=history.customer_ids.tolist(),
        visitors=visitors.tolist(),
        personal={name: _personal(one, known, items) for name, one in lists.items() if name != OFFER},
        bought=last_orders(history, len(visitors)),
        repeats=_repeats(lists),
        search=search,
        search_version=f"search@{today.as_of:%Y%m%dT%H%M%SZ}",
        exhibitions=_exhibitions(today, search.collection_ids),
        listed={site: allowed for site, allowed in known.allowed.items() if site},
        sites=_sites(known),
        rules=today.shop.recommendations,
        offers=_offers(lists[OFFER]) if OFFER in lists and len(lists[OFFER].known.product_ids) else None,
    )


def _sites(known: Known) -> np.ndarray:
    """The site of each customer, then visitor."""
    segments = (known.customers.segments, known.visitors.segments)
    return np.concatenate([s[:, 0] for s in segments if s is not None])


def _offers(lists: Lists) -> Artefacts:
    """The same of collections."""
    known, today = lists.known, lists.known.today
    everywhere = known.allowed[""]
    shown = today.tables("collections").select(*EXHIBITION, *DATES).to_pyarrow()
    shown = shown.rename_columns({"collection_id": "product_id"})
    every = pa.table({"product_id": pa.array(known.product_ids, pa.string())})
    return Artefacts(
        as_of=today.as_of,
        zone=today.shop.zone,
        products=every.join(shown, "product_id", join_type="left outer").sort_by("product_id"),
        sold=everywhere.sold,
        in_stock=everywhere.in_stock,
        popularity=popularity(known.customers),
        customers=lists.customers.tolist(),
        visitors=lists.visitors.tolist(),
        personal={OFFER: _personal(lists, known, {})},
        repeats=[OFFER],
        listed={site: allowed for site, allowed in known.allowed.items() if site},
        sites=_sites(known),
        rules=of_offers(today.shop),
    )


def _items(registry: Registry, today: Today, known: Known, allowed: np.ndarray) -> dict[str, ItemLists]:
    """The lists that go with products, by placement."""
    made: dict[str, ItemLists] = {}
    items: dict[str, ItemLists] = {}
    for placement, name in OF_PRODUCTS.items():
        if name not in made:
            model, card = registry.load(name, today.as_of, KINDS)
            if not np.array_equal(model.product_ids, known.product_ids):
                log.warning("%s isn't published: %s was trained on other products; train again", placement, name)
                continue
            made[name] = ItemLists(
                *with_each(model, known.customers, allowed),
                algorithm=card.serves,
                model_version=f"{name}@{card.version}",
            )
        together = placement in ("bought_together", "cart")
        items[placement] = replace(
            made[name],
            seeds="cart" if placement == "cart" else "product",
            reason="bought_together" if together else "because_you_viewed",
        )
    return items


def with_each(
    model: Recommender, history: Interactions, allowed: np.ndarray, most: int = MOST_PAIRS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What goes with each product and how much, as ItemLists' start, product and score; nothing that only fills up.

    Lists are as long as `most` entries of all products allow for, WIDTH at the longest.
    """
    count = len(model.product_ids)
    each, leading = np.arange(count), np.flatnonzero(model.leads())
    width = max(1, min(WIDTH, most // max(1, len(leading))))
    seconds, kind = np.full(count, history.until - 1), np.full(count, ORDER)
    asked = Interactions(each, model.product_ids, each, each, seconds, kind, history.until, history.catalogue)
    found = np.zeros(count + 1, np.int64)
    products, scores = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    # each chunk takes some arrays as wide as the catalogue; a blend, what all its members propose for each product
    for _, rows in chunks(leading, max(CHUNK, count // 256) if isinstance(model, Scorer) else CHUNK):
        ranking = model.rank(asked, rows, width, barred(asked, rows, False, allowed))
        ranking = ranking.where((ranking.part != "popularity") & (ranking.score > 0))
        found[1 + rows] = np.bincount(ranking.customer, minlength=len(rows))
        products.append(ranking.product.astype(np.int32))
        scores.append(ranking.score.astype(np.float32))
    return found.cumsum(), np.concatenate(products), np.concatenate(scores)


def _repeats(lists: Mapping[str, Lists]) -> list[str]:
    """Where what was bought may come again: by its own lists, and with products as it is for the customer."""
    found = [name for name, one in lists.items() if name != OFFER and one.repeat]
    return [*found, *OF_PRODUCTS] if FOR_YOU in found else found


def _personal(lists: Lists, known: Known, items: Mapping[str, ItemLists]) -> PersonalLists:
    """The lists over the products of `known`: models of another training have others, and what is gone leaves a gap."""
    product, about = lists.product, lists.about
    if lists.known is not known:
        where = np.r_[positions(known.product_ids, lists.known.product_ids), -1]
        product, about = where[product].astype(np.int32), where[about].astype(np.int32)
    return PersonalLists(
        product,
        lists.algorithm,
        lists.code,
        about,
        algorithms=lists.algorithms or ["popularity"],
        codes=lists.codes or ["popular"],
        model_version=f"{lists.card.name}@{lists.card.version}",
        session="similar" if lists.placement == FOR_YOU and "similar" in items else None,
        fill=not PLACEMENTS[lists.placement].only_own,
    )


def last_orders(history: Interactions, visitors: int) -> sp.csr_matrix:
    """People x products: when customers ordered each last (epoch seconds, UTC); visitors follow, who have none."""
    orders = history.where(history.kind == ORDER)
    order = np.lexsort((orders.second, orders.product, orders.customer))
    customer, product, second = orders.customer[order], orders.product[order], orders.second[order]
    last = np.ones(len(order), dtype=bool)  # not ordered once more later
    last[:-1] = (np.diff(customer) != 0) | (np.diff(product) != 0)
    shape = len(history.customer_ids) + visitors, len(history.product_ids)
    return sp.csr_matrix((second[last], (customer[last], product[last])), shape)


def _shown(today: Today, product_ids: np.ndarray) -> pa.Table:
    """What pages show of the products, in the order of their ids; of one that is in no catalogue its id alone."""
    columns = ["title", "url", "image_url", "price", "currency", "category", "brand", "margin_rate"]
    rows = today.tables("products").select("product_id", *columns).to_pyarrow()
    at = positions(product_ids, strings(rows["product_id"]))
    row = np.full(len(product_ids), -1)
    row[at[at >= 0]] = np.flatnonzero(at >= 0)
    found = rows.select(columns).take(pa.array(row, mask=row < 0))  # a join of millions would take several gigabytes
    return found.add_column(0, "product_id", pa.array(product_ids, pa.string()))


def _exhibitions(today: Today, collection_ids: np.ndarray) -> pa.Table:
    """What pages show of the collections that the search knows."""
    rows = today.tables("collections").select(*EXHIBITION, "site", *DATES).to_pyarrow()
    return rows.filter(pc.is_in(rows["collection_id"], pa.array(collection_ids, pa.string())))
