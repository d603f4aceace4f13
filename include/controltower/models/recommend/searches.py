"""What people searched for, and what they looked at and bought because of it; and the shop's collections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from controltower.models.recommend.interactions import CART, ORDER, VIEW, positions
from controltower.models.recommend.text import MOST_QUERY, clean, key
from controltower.profiles.facts.tables import Tables
from controltower.profiles.local_time import epoch
from controltower.profiles.portable import DAY, one_if, seconds

ASKED = 3  # a search itself, beside ORDER, CART and VIEW
SEARCH = ["search", "view_search_results"]
STEPS = {"purchase": ORDER, "add_to_cart": CART, "view_item": VIEW, "select_item": VIEW}
HISTORY_DAYS = 180
WITHIN = 1800  # seconds after a search in which what is done counts for it


@dataclass(frozen=True)
class Searches:
    """One entry per person, query and product, with the furthest step (VIEW, CART, ORDER); and one, of product -1 and
    kind ASKED, per person and query.

    `query` and `product` are positions in the distinct `texts` (as typed) and the sorted `product_ids`; `person` is a
    number that tells customers and visitors apart and no more; `second` is the last time (epoch); `until` is as_of.
    """

    texts: np.ndarray
    product_ids: np.ndarray
    query: np.ndarray
    person: np.ndarray
    product: np.ndarray
    kind: np.ndarray
    second: np.ndarray
    until: int


@dataclass(frozen=True)
class Collections:
    """Exhibitions, offers and events with their products: `collection` and `product_ids` are aligned pairs."""

    collection_ids: np.ndarray
    titles: np.ndarray
    collection: np.ndarray  # position in collection_ids
    product_ids: np.ndarray


def searches_from(
    queries: Sequence[str], people: Sequence[Any], products: Sequence[str | None], kind: np.ndarray,
    second: np.ndarray, until: int,
) -> Searches:  # fmt: skip
    """Searches from aligned values; where there is no product, the kind is ASKED."""
    texts, query = _numbered(pa.array(queries, pa.string()))
    ids, product = _numbered(pa.array(products, pa.string()))
    _, person = _numbered(pa.array(people))
    return _aligned(texts, ids, query, person, product, kind, second, until)


def read_searches(tables: Tables, as_of: datetime) -> Searches:
    """The searches of the last 180 days known as of a date.

    What follows a search in the same person's session counts for it, until the next search and for 30 minutes; a
    purchase counts for the products of its order. People are customers, and visitors where no customer is known.
    Nothing is corrected for what the search page showed first: a cart or an order says more than a click.
    """
    events = tables("events")
    named = ibis.ifelse(
        events.customer_id.notnull(), ibis.literal("c") + events.customer_id, ibis.literal("v") + events.visitor_id
    )
    steps = events.filter(
        events.occurred_at <= as_of,
        events.occurred_at > as_of - timedelta(days=HISTORY_DAYS),
        events.event_name.isin([*SEARCH, *STEPS]),
        named.notnull(),
    ).select(
        "event_id", "event_name", "product_id", "order_id", "occurred_at",
        person=named, session=events.session_id.fill_null(""), query=events.query.substr(0, MOST_QUERY),
        second=seconds(events.occurred_at), is_search=one_if(events.event_name.isin(SEARCH)),
    )  # fmt: skip
    so_far = ibis.cumulative_window(
        group_by=["person", "session"], order_by=[steps.occurred_at, steps.is_search.desc(), steps.event_id]
    )
    steps = steps.mutate(number=steps.is_search.sum().over(so_far))
    asked = steps.filter(steps.is_search == 1, steps.query.notnull())
    asked = asked.select("person", "session", "number", "query", "second")
    after = steps.filter(steps.is_search == 0, steps.number > 0)
    after = after.select("person", "session", "number", "event_name", "product_id", "order_id", at=after.second)
    after = after.inner_join(asked, ["person", "session", "number"])
    after = after.filter(after.at - after.second <= WITHIN)
    lines = tables("order_lines")
    lines = lines.filter(lines.quantity > 0).select("order_id", line_product=lines.product_id).distinct()
    bought = after.filter(after.event_name == "purchase", after.order_id.notnull()).inner_join(lines, "order_id")
    kind = after.event_name.cases(*((name, ibis.literal(k, "int64")) for name, k in STEPS.items()))
    done = ibis.union(
        after.filter(after.product_id.notnull()).select("person", "query", "product_id", kind=kind, second=after.at),
        bought.select(
            "person", "query", product_id=bought.line_product, kind=ibis.literal(ORDER, "int64"), second=bought.at
        ),
    )
    done = done.group_by("person", "query", "product_id").aggregate(kind=done.kind.min(), second=done.second.max())
    known = asked.group_by("person", "query").aggregate(second=asked.second.max())
    known = known.select(
        "person", "query", product_id=ibis.null("string"), kind=ibis.literal(ASKED, "int64"), second=known.second
    )
    rows = ibis.union(done.select("person", "query", "product_id", "kind", "second"), known).to_pyarrow()
    texts, query = _numbered(rows["query"])
    ids, product = _numbered(rows["product_id"])
    _, person = _numbered(rows["person"])
    kind_of, second_of = rows["kind"].to_numpy(), rows["second"].to_numpy()
    return _aligned(texts, ids, query, person, product, kind_of, second_of, epoch(as_of))


def read_collections(tables: Tables, as_of: datetime, ahead: timedelta = timedelta(0)) -> Collections:
    """The collections that run as of a date, or begin in the time after it."""
    table = tables("collections")
    running = table.filter(
        table.starts_at.isnull() | (table.starts_at <= as_of + ahead), table.ends_at.isnull() | (table.ends_at > as_of)
    )
    rows = running.select("collection_id", "title").order_by("collection_id").to_pyarrow()
    ids = np.array(rows["collection_id"].to_pylist(), dtype=np.str_)
    pairs = tables("collection_products").select("collection_id", "product_id").to_pyarrow()
    at = positions(ids, np.array(pairs["collection_id"].to_pylist(), dtype=np.str_))
    products = np.array(pairs["product_id"].to_pylist(), dtype=np.str_)
    return Collections(ids, np.array(rows["title"].to_pylist(), dtype=object), at[at >= 0], products[at >= 0])


@dataclass(frozen=True)
class Demand:
    """What was chosen for queries: those of one key (see text.key) are one query, sorted by the hash of it.

    `clicks` (queries x products): weighted, older ones less. `texts` are for fitting only; `public` and `people` are
    the most usual spelling and how many people asked in it, "" and 0 where fewer than may be shown.
    """

    hashes: np.ndarray
    clicks: sp.csr_matrix
    texts: np.ndarray
    public: np.ndarray
    people: np.ndarray


def demand(
    searches: Searches, product_ids: np.ndarray, steps: dict[int, float], half_life: float, people: int, most: int
) -> Demand:
    """What was chosen for each query; each person counts once per query and product, by the furthest step.

    steps: weight by kind; half_life: days; people: fewest who asked before a text may be shown; most: queries kept,
    those with the most clicks
    """
    cleaned = np.array([clean(text, MOST_QUERY) for text in searches.texts.tolist()], dtype=object)
    hashes, query_of = np.unique(np.array([hashed(key(t)) for t in cleaned], np.int64), return_inverse=True)
    spelt, spelling_of = np.unique(cleaned.astype(np.str_), return_inverse=True)
    query, spelling = query_of[searches.query], spelling_of[searches.query]

    askers = np.bincount(_distinct(spelling, searches.person)[0], minlength=len(spelt))
    first = np.unique(spelling_of, return_index=True)[1]
    usual = np.lexsort((spelt, -askers, query_of[first]))  # of each query the spelling that most people used
    usual = usual[np.unique(query_of[first][usual], return_index=True)[1]]

    product = np.r_[positions(product_ids, searches.product_ids), -1][searches.product]  # -1, asked only, stays -1
    done = np.flatnonzero(product >= 0)
    done = done[np.lexsort((searches.kind[done], searches.person[done], product[done], query[done]))]
    done = done[_distinct(query[done], product[done], searches.person[done])[-1]]
    age = (searches.until - searches.second[done]) / DAY
    by_kind = np.zeros(max(steps) + 1)
    by_kind[list(steps)] = list(steps.values())
    weight = by_kind[searches.kind[done]] * np.exp2(-age / half_life)
    shape = len(hashes), len(product_ids)
    clicks = sp.csr_matrix((weight.astype(np.float32), (query[done], product[done])), shape)

    total = np.asarray(clicks.sum(axis=1)).ravel() * (hashes != hashed(""))
    kept = np.sort(np.lexsort((hashes, -total))[: min(most, int((total > 0).sum()))])
    asked = askers[usual][kept]
    texts = spelt[usual][kept]
    shown = asked >= people
    return Demand(hashes[kept], clicks[kept], texts, np.where(shown, texts, ""), np.where(shown, asked, 0))


def hashed(key: str) -> int:
    """63 bits that stand for a query whose text isn't kept."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


def _distinct(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """The distinct rows of columns, and after them the position of the first of each (in order for sorted columns)."""
    order = np.lexsort(columns[::-1])
    new = np.ones(len(order), dtype=bool)
    if len(order):
        new[1:] = np.any([c[order][1:] != c[order][:-1] for c in columns], axis=0)
    first = order[new]
    return (*(c[first] for c in columns), first)


def _aligned(
    texts: np.ndarray, ids: np.ndarray, query: np.ndarray, person: np.ndarray, product: np.ndarray, kind: np.ndarray,
    second: np.ndarray, until: int,
) -> Searches:  # fmt: skip
    order = np.lexsort((kind, person, product, query))
    return Searches(
        texts, ids.astype(np.str_), query[order], person[order], product[order], kind[order], second[order], until
    )


def _numbered(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values (sorted), and the position of each among them; -1 where null."""
    chunks = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    coded = chunks.dictionary_encode()
    values = np.array(coded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(values)
    place = np.empty(len(values), np.int64)
    place[order] = np.arange(len(values))
    at = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return values[order], np.where(at >= 0, place[at], -1) if len(values) else np.full(len(at), -1)
