"""What a published version is made of, and what must fit what."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from controltower.models.recommend.history import Allowed
from controltower.models.recommend.rules import EVERYWHERE
from controltower.models.recommend.search import Search
from controltower.models.recommend.shown import ON_PAGES

POPULAR, SEARCH = "popular", "search"  # placements that need no lists
SHOWN = (*ON_PAGES, "category", "brand", "margin_rate")
EXHIBITION = ("collection_id", "title", "url", "image_url", "kind")
ITEM_PARTS = ("start", "product", "score")
PARTS = ("product", "algorithm", "code", "about")

PIECE = 100_000  # ids compared at a time

Seeds = Literal["product", "cart", "recent"]


@dataclass(frozen=True)
class ItemLists:
    """What goes with one product, best first.

    start: products + 1, int64: where each product's list begins in the two others, and ends; product: int32 positions;
    score: float32, above 0, comparable between lists: several seeds add up
    reason: the code that content words with the seed's title
    seeds: what of a request it is about first: the product shown, the cart, or what was viewed lately
    """

    start: np.ndarray
    product: np.ndarray
    score: np.ndarray
    algorithm: str
    model_version: str
    reason: str = "because_you_viewed"
    seeds: Seeds = "product"

    def entries(self, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The entries of some products' lists, in their order, and of each the place in `seeds` it belongs to."""
        begin = self.start[seeds]
        count = self.start[seeds + 1] - begin
        of = np.repeat(np.arange(len(seeds)), count)
        return np.arange(len(of)) + (begin - count.cumsum() + count)[of], of


@dataclass(frozen=True)
class PersonalLists:
    """Each person's own list, best first. All arrays are people x width, in the order of customers, then visitors.

    product: int32 positions, -1 behind the last; algorithm, code: uint8 positions in `algorithms` and `codes` (reason
    codes); about: int32 position of the product that the reason names, -1 where none
    session: the ItemLists through which this session's clicks join in; None: they don't
    fill: whether popular products fill up a list that is short or lacks
    """

    product: np.ndarray
    algorithm: np.ndarray
    code: np.ndarray
    about: np.ndarray
    algorithms: Sequence[str]
    codes: Sequence[str]
    model_version: str
    session: str | None = None
    fill: bool = True


@dataclass(frozen=True)
class Artefacts:
    """What a version is made of; products are positions in `products`, which is sorted by product_id.

    products: product_id, and title, url, image_url (text), price (number), currency, category ("a > b"), brand (text)
    and margin_rate (number) where known; starts_at and ends_at (time): it is shown only between them; other columns are
    left out
    sold, in_stock: masks of the products that may be shown at all, and that aren't out of stock
    popularity: by product, any scale, the higher the better
    items, personal: lists by placement; personal ones have a row for each of customers, then of visitors (ids)
    bought: people x products: when each ordered a product last (epoch seconds, UTC); None: nobody did
    repeats: the placements where it may come again at once, unless the rules say after how many days
    search: over the same product_ids; None: the placement `search` shows popular products
    exhibitions: what is shown of the search's collections, by the names of EXHIBITION (text), where known with their
    site (text; null: all), starts_at and ends_at; None: their ids alone
    listed: sold and in_stock of the sites that list products of their own; sites: of each person the site's name
    offers: the same of collections instead of products, with the one placement `offer`
    rules: as declared and checked (`rules.parse`), by placement and everywhere; those of other placements are left out
    """

    as_of: datetime
    zone: ZoneInfo
    products: pa.Table
    sold: np.ndarray
    in_stock: np.ndarray
    popularity: np.ndarray
    items: Mapping[str, ItemLists] = field(default_factory=dict)
    customers: Sequence[str] = ()
    visitors: Sequence[str] = ()
    personal: Mapping[str, PersonalLists] = field(default_factory=dict)
    bought: sp.csr_matrix | None = None
    repeats: Collection[str] = ()
    search: Search | None = None
    search_version: str = ""
    exhibitions: pa.Table | None = None
    listed: Mapping[str, Allowed] = field(default_factory=dict)
    sites: np.ndarray | None = None
    offers: Artefacts | None = None
    rules: Mapping[str, Any] | None = None

    def site_names(self) -> list[str]:
        """The sites that matter: those of `listed` first, then others that have exhibitions of their own."""
        told = self.exhibitions
        sites = told["site"].to_pylist() if told is not None and "site" in told.column_names else ()
        return list(dict.fromkeys([*self.listed, *sorted({site for site in sites if site})]))

    def has_one_site(self) -> bool:
        """Whether nobody is, and nothing is listed or exhibited, at a second site: then it is where everybody is."""
        people = () if self.sites is None else np.unique(self.sites).tolist()
        return len({*self.site_names(), *people} - {""}) < 2


def _same(ids: pa.Array, others: np.ndarray) -> bool:
    """By pieces: of millions pyarrow would make several arrays."""
    pieces = range(0, len(ids), PIECE)
    return len(ids) == len(others) and all(
        ids[i : i + PIECE].equals(pa.array(others[i : i + PIECE], pa.string())) for i in pieces
    )


def check(made: Artefacts) -> None:
    """ValueError where the parts don't fit each other, or a name can't be one."""
    ids = made.products["product_id"].combine_chunks()
    products, people = len(ids), len(made.customers) + len(made.visitors)
    if pc.any(pc.greater_equal(ids[:-1], ids[1:])).as_py():  # UTF-8 is in the order of its characters
        raise ValueError("products must be sorted by product_id, each once")
    if not len(made.sold) == len(made.in_stock) == len(made.popularity) == products:
        raise ValueError(f"sold, in_stock and popularity need an entry for each of {products} products")
    if made.search is not None and not _same(ids, made.search.product_ids):
        raise ValueError("the search model must be fitted on these product_ids")
    if (many := len(made.site_names())) > np.iinfo(np.uint16).max:
        raise ValueError(f"{many} sites have products or exhibitions of their own: at most 65535 can")
    if made.offers is not None:
        check(made.offers)
    for site, masks in made.listed.items():
        if not len(masks.sold) == len(masks.in_stock) == products:
            raise ValueError(f"the site {site} needs an entry for each of {products} products")
    if made.sites is not None and len(made.sites) != people:
        raise ValueError(f"sites needs an entry for each of {people} people")
    if made.bought is not None and made.bought.shape != (people, products):
        raise ValueError(f"bought must be {people} people x {products} products")
    for name in (*made.items, *made.personal, *made.repeats):
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or name in (POPULAR, SEARCH, EVERYWHERE):
            raise ValueError(f"{name!r} can't be the name of a placement's lists")
    if both := set(made.items) & set(made.personal):
        raise ValueError(f"{', '.join(sorted(both))}: lists of products or of people, not both")
    all_lists: dict[str, ItemLists | PersonalLists] = {**made.items, **made.personal}
    for name, lists in all_lists.items():
        if isinstance(lists, ItemLists):
            ends = np.diff(lists.start, prepend=0, append=len(lists.product))
            if len(lists.start) != products + 1 or ends.min() < 0 or ends[0] or ends[-1]:
                raise ValueError(f"{name}: start must tell where the lists of {products} products begin and end")
        rows = len(lists.product) if isinstance(lists, ItemLists) else people
        parts = [lists.score] if isinstance(lists, ItemLists) else [getattr(lists, part) for part in PARTS]
        if len(lists.product) != rows or any(part.shape != lists.product.shape for part in parts):
            raise ValueError(f"{name}: the arrays must have {rows} rows and one shape")
        if lists.product.size and not -1 <= lists.product.min() <= lists.product.max() < products:
            raise ValueError(f"{name}: products must be positions in the table of {products}, or -1")
        if isinstance(lists, ItemLists):
            continue
        if lists.product.size and (
            lists.algorithm.max() >= len(lists.algorithms) or lists.code.max() >= len(lists.codes)
            or not -1 <= lists.about.min() <= lists.about.max() < products
        ):  # fmt: skip
            raise ValueError(f"{name}: algorithm, code and about must be positions in what they name")
        if lists.session is not None and lists.session not in made.items:
            raise ValueError(f"{name}: there are no item lists {lists.session!r} for the session")
