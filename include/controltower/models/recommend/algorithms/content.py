"""Like what you have, by what is written about it: for products that nobody has taken yet, and as substitutes.

Cosine of the titles' TF-IDF (Pazzani and Billsus, "Content-based recommendation systems", 2007), the categories' common
path, the same brand, and how near the prices are.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.compiled import compiled
from controltower.models.recommend.interactions import Interactions
from controltower.models.recommend.item_to_item import ItemToItem
from controltower.models.recommend.kernels import offer
from controltower.models.recommend.text import MOST_FIELD, Text, clean, terms_of, unit_rows

LEVELS = 4  # of a category that are compared


class Content(ItemToItem):
    """Similarity of products by text, category, brand and price; says nothing without a catalogue."""

    name: ClassVar[str] = "content"
    most_products: ClassVar[int | None] = 500_000

    class Config(ItemToItem.Config):
        keep: int = 50
        text: float = 0.55
        category: float = 0.3
        brand: float = 0.15
        least: float = 0.1  # what is less similar is left out
        price: float = 1.0  # what a price e times as high leaves: exp(-price) of half the similarity
        most_common: int = 500  # words that more products have don't lead to candidates and weigh nothing

    config: Config

    def _fit(self, interactions: Interactions) -> None:
        count, catalogue = len(self.product_ids), interactions.catalogue
        if catalogue is None or count > (self.most_products or count):
            self.similarity = sp.csr_matrix((count, count), dtype=np.float32)
        else:
            self.similarity = alike(catalogue, self.config)


def alike(catalogue: Catalogue, config: Content.Config) -> sp.csr_matrix:
    """products x products: 0..1, the `keep` most similar of each row.

    Candidates are products that share a rare enough part of the title, and the nearest in price of the same category.
    """
    c, count = config, len(catalogue)
    terms = terms_of((catalogue.title, 1.0))
    text = Text.fit(terms)
    matrix = text.matrix(terms)
    common = np.bincount(matrix.indices, minlength=matrix.shape[1])
    weight = np.where((common > 1) & (common <= c.most_common), text.rarity, 0)
    whole = unit_rows(matrix @ sp.diags(text.rarity))  # what is too common still counts for the length
    told = (whole @ sp.diags((weight > 0).astype(np.float32))).tocsr().astype(np.float32)
    told.eliminate_zeros()
    by_term = told.T.tocsr()
    paths = [_levels(category) for category in catalogue.category]
    level = np.stack([_numbers(["\x1f".join(p[: n + 1]) if len(p) > n else "" for p in paths]) for n in range(LEVELS)])
    brand = _numbers([clean(b, MOST_FIELD) for b in catalogue.brand])
    with np.errstate(divide="ignore", invalid="ignore"):
        price = np.where(catalogue.price > 0, np.log(catalogue.price), np.nan).astype(np.float32)
    leaf = _numbers(["\x1f".join(p) for p in paths])
    shelf = np.lexsort((np.nan_to_num(price), leaf)).astype(np.int32)  # same category, by price
    indptr, indices, data = nearest(
        told.indptr, told.indices, told.data, by_term.indptr, by_term.indices, by_term.data,
        np.ascontiguousarray(level.T), leaf, brand, price, shelf, c.text, c.category, c.brand, c.price, c.least, c.keep,
    )  # fmt: skip
    return sp.csr_matrix((data, indices, indptr), (count, count))


def _levels(category: str) -> list[str]:
    return [clean(part, MOST_FIELD) for part in category.split(">")[:LEVELS] if part.strip()]


def _numbers(values: list[str]) -> np.ndarray:
    """A number for each distinct value, -1 for ""."""
    known: dict[str, int] = {"": -1}
    return np.array([known.setdefault(v, len(known)) for v in values], dtype=np.int32)


@compiled
def nearest(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    term_at: np.ndarray,
    having: np.ndarray,
    strength: np.ndarray,
    level: np.ndarray,
    leaf: np.ndarray,
    brand: np.ndarray,
    price: np.ndarray,
    shelf: np.ndarray,
    of_text: float,
    of_category: float,
    of_brand: float,
    of_price: float,
    least: float,
    keep: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A CSR of the `keep` most similar products of each.

    indptr, indices, data: products x terms, rows of length 1 or less; term_at, having, strength: the same by term;
    level: products x levels, numbers of the category paths; leaf: the whole path; price: logarithm, NaN where unknown;
    shelf: products by leaf and price. Numbers are -1 where nothing is known.
    """
    count = len(indptr) - 1
    place = np.empty(count, np.int32)
    for i in range(count):
        place[shelf[i]] = i
    total = np.zeros(count, np.float32)
    mark = np.full(count, -1, np.int32)
    touched = np.empty(count, np.int32)
    score, what = np.empty(keep, np.float32), np.empty(keep, np.int32)
    start = np.zeros(count + 1, np.int64)
    found, value = np.empty(count * keep, np.int32), np.empty(count * keep, np.float32)
    filled = 0
    for p in range(count):
        n = 0
        mark[p] = p
        for i in range(indptr[p], indptr[p + 1]):
            t, w = indices[i], data[i]
            for j in range(term_at[t], term_at[t + 1]):
                q = having[j]
                if mark[q] != p:
                    mark[q] = p
                    touched[n] = q
                    n += 1
                total[q] += w * strength[j]
        if leaf[p] >= 0:
            for direction in (-1, 1):
                at = place[p] + direction
                for _ in range(keep):
                    if at < 0 or at >= count or leaf[shelf[at]] != leaf[p]:
                        break
                    q = shelf[at]
                    if mark[q] != p:
                        mark[q] = p
                        touched[n] = q
                        n += 1
                    at += direction
        size = 0
        for i in range(n):
            q = touched[i]
            s = of_text * total[q]
            total[q] = 0
            same, depth = 0, 0
            for k in range(level.shape[1]):
                if level[p, k] >= 0:
                    depth += 1
                    if level[p, k] == level[q, k]:
                        same += 1
            if depth:
                s += of_category * same / depth
            if brand[p] >= 0 and brand[p] == brand[q]:
                s += of_brand
            apart = abs(price[p] - price[q])
            if apart == apart:
                s *= 0.5 + 0.5 * np.exp(-of_price * apart)
            if s >= least:
                size = offer(score, what, size, s, q)
        total[p] = 0
        order = np.argsort(what[:size])
        for i in range(size):
            found[filled + i], value[filled + i] = what[order[i]], score[order[i]]
        filled += size
        start[p + 1] = filled
    return start, found[:filled].copy(), value[:filled].copy()
