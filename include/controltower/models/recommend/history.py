"""What the lake tells recommenders: who had to do with which product, and which products may be shown."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from controltower.models.recommend.catalogue import read_catalogue
from controltower.models.recommend.interactions import CART, ORDER, VIEW, Interactions, from_positions, positions
from controltower.profiles.facts import gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.local_time import epoch
from controltower.profiles.portable import DAY, seconds
from controltower.profiles.told import told
from controltower.shop import Shop

log = logging.getLogger("controltower")

KINDS = {"add_to_cart": CART, "view_item": VIEW}
EVENT_DAYS = 180  # older carts and views tell nothing about what comes next
VISITOR_DAYS = 30  # who wasn't seen for longer hardly comes back as the same visitor
PART = 100_000  # texts that are made into an array at a time
MOST_VISITORS = 200_000  # those who were here last: a crawler is a new visitor at each page


@dataclass(frozen=True)
class Allowed:
    """Masks over product_ids: what may be shown at all, and what isn't out of stock."""

    sold: np.ndarray
    in_stock: np.ndarray


def read(tables: Tables, as_of: datetime, shop: Shop, product_ids: np.ndarray | None = None) -> Interactions:
    """The interactions known as of a date.

    The products are those of the catalogue and of all orders, unless `product_ids` (sorted) gives them: then what else
    was bought or viewed is left out. Customers are all known ones. Returned and cancelled lines don't count.
    """
    facts = gather(tables, as_of, shop)
    lines = facts.lines.filter(facts.lines.bought, ~facts.lines.returned)
    orders = lines.select("customer_id", "product_id", "second", kind=ibis.literal(ORDER, "int64")).distinct()
    looked = _looked_at(tables, as_of, EVENT_DAYS)
    daily = _daily(looked.filter(looked.customer_id.notnull()), "customer_id")
    rows = ibis.union(orders, daily).to_pyarrow()
    customers = np.unique(strings(facts.customers.select("customer_id").to_pyarrow()["customer_id"]))
    if product_ids is None:
        catalogue = strings(tables("products").select("product_id").to_pyarrow()["product_id"])
        bought = pc.unique(rows.filter(pc.equal(rows["kind"], ORDER))["product_id"])
        product_ids = np.unique(np.concatenate([catalogue, strings(bought)]))
    found = _from_rows(rows, customers, product_ids, as_of)
    return replace(
        found, catalogue=read_catalogue(tables, product_ids), segments=read_segments(tables, as_of, customers)
    )


def read_visitors(tables: Tables, as_of: datetime, product_ids: np.ndarray) -> Interactions:
    """Carts and views of visitors who aren't known to be customers, and were here in the last 30 days; 200,000 at most.

    `customer_ids` are visitors' ids, their segment is the site that they visited last.
    """
    looked = _looked_at(tables, as_of, VISITOR_DAYS)
    looked = looked.filter(looked.customer_id.isnull(), looked.visitor_id.notnull())
    last = looked.group_by("visitor_id").aggregate(last=looked.second.max())
    latest = last.order_by(ibis.desc("last"), "visitor_id").limit(MOST_VISITORS)
    looked = looked.semi_join(latest, "visitor_id")
    rows = _daily(looked, "visitor_id").to_pyarrow()
    sites = (
        looked.filter(looked.site.notnull()).group_by("visitor_id").aggregate(site=looked.site.argmax(looked.second))
    )
    told = sites.to_pyarrow()
    visitors = np.unique(strings(pc.unique(rows["customer_id"])))
    found = _from_rows(rows, visitors, product_ids, as_of)
    site = strings(told["site"])
    segments = np.full((len(visitors), 2), "", dtype=site.dtype if len(site) else "<U1")
    segments[positions(visitors, strings(told["visitor_id"])), 0] = site
    return replace(found, segments=segments)


def read_segments(tables: Tables, as_of: datetime, customer_ids: np.ndarray) -> np.ndarray:
    """customers x 2: the site, and site, gender and decade of age, as the customers told them."""
    given = tables("customers")
    rows = given.select("customer_id", "site").join(told(given, as_of), "customer_id").to_pyarrow()
    at = positions(customer_ids, strings(rows["customer_id"]))
    site = [s or "" for s in rows["site"].to_pylist()]
    decades = [f"{age // 10 * 10}" if age is not None else "" for age in rows["told_age"].to_pylist()]
    genders = [gender or "" for gender in rows["told_gender"].to_pylist()]
    closer = ["|".join(parts) if any(parts[1:]) else "" for parts in zip(site, genders, decades, strict=True)]
    segments = np.full((len(customer_ids), 2), "", dtype=f"<U{max(map(len, [*site, *closer]), default=0) or 1}")
    known = at >= 0
    segments[at[known]] = np.array([site, closer], dtype=np.str_).T.reshape(-1, 2)[known]
    return segments


def catalogue_mask(tables: Tables, as_of: datetime, product_ids: np.ndarray, *, in_stock: bool = True) -> np.ndarray:
    """Which products may be shown: in the catalogue, available, in stock, not a service, not opted out.

    A product is left out by `in_stock` false, `available_from` later than as_of, a category "service" (or below it:
    postage, fees, vouchers), or `{"recommend": false}` in its attributes. Unknown stock counts as in stock; with
    `in_stock` false the stock of today doesn't matter, as in validation. Where the reading knows no catalogue, whatever
    was bought may be shown: also as of a day before the shop's first one, as on that day itself.
    """
    products = tables("products")
    if not products.limit(1).to_pyarrow().num_rows:
        log.warning("no catalogue is known as of %s: all products that were bought may be shown", as_of.isoformat())
        return np.ones(len(product_ids), dtype=bool)
    category = products.category.fill_null("").lower()
    service = (category == "service") | category.startswith("service >")
    opted_out = products.attributes.fill_null("").re_search('"recommend": *false')
    shown: ir.Table = products.filter(
        products.in_stock.fill_null(True) | (not in_stock),
        products.available_from.isnull() | (products.available_from <= as_of),
        ~service,
        ~opted_out,
    )
    return _mask(product_ids, shown.select("product_id").to_pyarrow()["product_id"])


def read_allowed(tables: Tables, as_of: datetime, product_ids: np.ndarray) -> dict[str, Allowed]:
    """What may be shown, by site; "" is everywhere. Sites without listings show what is sold everywhere.

    A site that has listings shows the products that are listed there, by the latest listing not later than as_of.
    """
    everywhere = Allowed(
        catalogue_mask(tables, as_of, product_ids, in_stock=False), catalogue_mask(tables, as_of, product_ids)
    )
    listings = tables("listings")
    listings = listings.filter(listings.valid_from <= as_of)
    latest = listings.group_by("site", "product_id").aggregate(
        in_stock=listings.in_stock.argmax(listings.valid_from)  # None where the latest doesn't tell
    )
    rows = latest.to_pyarrow()
    found = {"": everywhere}
    for site in pc.unique(rows["site"]).to_pylist():
        mine = rows.filter(pc.equal(rows["site"], site))
        out = mine.filter(pc.equal(mine["in_stock"], False))
        there = everywhere.sold & _mask(product_ids, mine["product_id"])
        told = mine.filter(pc.equal(mine["in_stock"], True))
        stock = everywhere.in_stock | _mask(product_ids, told["product_id"])  # the site's own word counts
        found[str(site)] = Allowed(there, there & stock & ~_mask(product_ids, out["product_id"]))
    return found


def _looked_at(tables: Tables, as_of: datetime, days: int) -> ir.Table:
    """Carts and views of the last days: customer_id, visitor_id, product_id, site, second, kind."""
    events = tables("events")
    events = events.filter(
        events.product_id.notnull(),
        events.event_name.isin(list(KINDS)),
        events.occurred_at <= as_of,
        events.occurred_at > as_of - timedelta(days=days),
    )
    kind = ibis.ifelse(events.event_name == "view_item", VIEW, CART).cast("int64")
    return events.select(
        "customer_id", "visitor_id", "product_id", "site", second=seconds(events.occurred_at), kind=kind
    )


def _daily(looked: ir.Table, who: str) -> ir.Table:
    """One row per person, product, kind and day: the latest. The person is called customer_id."""
    named = looked.select("product_id", "second", "kind", customer_id=looked[who])
    return (
        named.group_by("customer_id", "product_id", "kind", day=named.second // DAY)
        .aggregate(second=named.second.max())
        .select("customer_id", "product_id", "second", "kind")
    )


def _from_rows(rows: pa.Table, customers: np.ndarray, product_ids: np.ndarray, as_of: datetime) -> Interactions:
    return from_positions(
        customers, product_ids, _positions(customers, rows["customer_id"]), _positions(product_ids, rows["product_id"]),
        rows["second"].to_numpy(), rows["kind"].to_numpy(), epoch(as_of),
    )  # fmt: skip


def _positions(ids: np.ndarray, column: pa.ChunkedArray) -> np.ndarray:
    """Where each value stands in the sorted ids, -1 where it doesn't; each different value is looked up once."""
    coded = column.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    return positions(ids, strings(coded.dictionary))[coded.indices.to_numpy(zero_copy_only=False)]


def _mask(product_ids: np.ndarray, column: pa.ChunkedArray) -> np.ndarray:
    at = positions(product_ids, strings(column))
    mask = np.zeros(len(product_ids), dtype=bool)
    mask[at[at >= 0]] = True
    return mask


def strings(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """The texts as an array; by chunks, since Python's own strings take three times as much."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [np.array(chunk[i : i + PART].to_pylist(), np.str_) for chunk in chunks for i in range(0, len(chunk), PART)]
    return np.concatenate(parts) if parts else np.zeros(0, np.str_)
