"""Declared rules applied to candidate lists: what may not be shown, and in which order the rest is.

The order is fixed, whatever the order in the file:

1. Filters take out, each product by the first that fits: not_sold, out_of_stock, excluded, price, bought,
   recently_shown. `Prepared.barred` and `own_bars` tell most of them before the ranking, so that the search for the
   best wastes no places on them; here they hold for whatever still comes, and for pins.
2. Relevance. Models' scores have different scales and may be negative, so only their order counts: the product at rank
   r of the candidates left, in a list of k to show, has the relevance k / (k + r - 1): 1 at the top, 1/2 at the first
   place that isn't shown, whatever the model and however many candidates there are.
3. Margin: (1 - w) x relevance + w x the share of the catalogue with a lower margin rate (1/2 where unknown).
4. Boosts and buries multiply that; several that fit one product all do.
5. Pins take their places, and count for caps and diversity.
6. The other places go, from the top, to the best product left that breaks no cap: the highest value by MMR
   (1 - d) x value - d x the greatest similarity to a product already in the list (Carbonell and Goldstein, SIGIR 1998).
   Two products are similar by 0.7 x the shared levels of their category paths over those of the longer one, and 0.3 for
   the same brand, or as a given matrix says where that is more.

Equal products keep their order. Unknown brands and categories have no cap and are like nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.compiled import compiled
from controltower.models.recommend.interactions import ORDER, Interactions
from controltower.models.recommend.rules import FILTERS, NEVER, Prepared, Rules, Texts, path
from controltower.profiles.portable import DAY

ACTED = ("pinned", "boosted", "buried", "margin", "diversity", "brand_cap", "category_cap")  # bit 0 and so on
*_, PRICE, BOUGHT, RECENTLY_SHOWN = range(len(FILTERS))
FATES = ("shown", *FILTERS, "brand_cap", "category_cap", "no_place")  # of a pin

PINNED, BOOSTED, BURIED, MARGIN, DIVERSITY, BRAND_CAP, CATEGORY_CAP = (1 << i for i in range(len(ACTED)))
NO_PLACE = len(FATES) - 1
FREE, TAKEN, BRAND_FULL, CATEGORY_FULL = range(4)  # states of a candidate
SAME_CATEGORY, SAME_BRAND = 0.7, 0.3


@dataclass(frozen=True)
class Reranked:
    """The lists, aligned arrays by row and rank (1 = best); and what the rules did, by row.

    `candidate` is a position in the lists given, -1 for a pin that was none: its score is 0. `rules` has the bits of
    ACTED that brought a product to its place; `acted` those that changed the row's list; `removed` (rows x FILTERS) how
    many candidates each filter took out; `fates` (rows x pins of `Prepared`) positions in FATES.
    """

    row: np.ndarray
    rank: np.ndarray
    product: np.ndarray
    score: np.ndarray
    candidate: np.ndarray
    rules: np.ndarray
    acted: np.ndarray
    removed: np.ndarray
    fates: np.ndarray

    def told(self, row: int) -> dict[str, list[str] | dict[str, int]]:
        """What the rules did to one list: `acted`, `removed` by filter, and `pins` left out by fate."""
        acted, missed = int(self.acted[row]), np.bincount(self.fates[row], minlength=len(FATES))[1:].tolist()
        return {
            "acted": [name for i, name in enumerate(ACTED) if acted >> i & 1],
            "removed": {name: n for name, n in zip(FILTERS, self.removed[row].tolist(), strict=True) if n},
            "pins": {name: n for name, n in zip(FATES[1:], missed, strict=True) if n},
        }


def codes(bits: np.ndarray) -> np.ndarray:
    """Bits of ACTED as text: `boosted,diversity`, empty where no rule acted."""
    words = [",".join(name for i, name in enumerate(ACTED) if b >> i & 1) for b in range(1 << len(ACTED))]
    return np.array(words, dtype=object)[bits]


def days_until_again(rules: Rules, paths: list[tuple[str, ...]], *, repeat: bool) -> np.ndarray:
    """By category (paths as in `Texts.paths`): days after buying a product until it may be shown again; inf: never.

    repeat: whether it may come again at once where the rules don't say after how many days; else never
    """
    told = rules.bought
    usual = (0 if repeat else NEVER) if told.again_after_days is None else told.again_after_days
    days = np.full(len(paths), float("inf" if usual == NEVER else usual))
    for wanted, again in sorted(((path(c), d) for c, d in told.by_category.items()), key=lambda pair: pair[0]):
        days[[p[: len(wanted)] == wanted for p in paths]] = float("inf" if again == NEVER else again)
    return days


def too_soon(second: np.ndarray, days: np.ndarray, now: float) -> np.ndarray:
    """Mask of what was bought so lately that it may not be shown: in batch and in serving.

    second: when, and now: epoch seconds (UTC); days: of each, `days_until_again` of its category
    """
    return np.asarray((days > 0) & (now - second < DAY * days))


def own_bars(
    rules: Rules, catalogue: Catalogue, history: Interactions, *, repeat: bool, ago: sp.csr_matrix | None = None
) -> sp.csr_matrix:
    """The history's customers x products: what each may not be shown for now; the data are bits of FILTERS (uint8).

    repeat: whether a bought product may come again where the rules don't say after how many days
    ago: customers x products: in which message it was last shown, 1 is the last
    """
    paths, category = Texts(catalogue).paths
    days = days_until_again(rules, paths, repeat=repeat)[category]
    order = (history.kind == ORDER) & too_soon(history.second, days[history.product], history.until)
    who, what = history.customer[order], history.product[order]
    bars = sp.csr_matrix((np.ones(len(who), dtype=np.uint8), (who, what)), history.shape)
    bars.data[:] = 1 << BOUGHT
    if ago is not None and rules.not_in_last_messages:
        lately = ago.tocoo()
        recent = lately.data <= rules.not_in_last_messages
        who, what = lately.row[recent], lately.col[recent]
        bars += sp.csr_matrix((np.full(len(who), 1 << RECENTLY_SHOWN, dtype=np.uint8), (who, what)), history.shape)
    return bars


def rerank(
    prepared: Prepared,
    row: np.ndarray,
    product: np.ndarray,
    score: np.ndarray,
    k: int,
    rows: int,
    *,
    own: sp.csr_matrix | None = None,
    seed_price: np.ndarray | None = None,
) -> Reranked:
    """The k best of each row's candidates by the rules; fewer where fewer may be shown.

    row, product, score: candidates, distinct within a row, sorted by row (0 to rows - 1), best first
    own: rows x products, bits of FILTERS (`own_bars`)
    seed_price: by row, for bounds relative to it; NaN: they don't hold
    """
    if k < 1:
        raise ValueError("k must be at least 1")
    if len(row) and (row[0] < 0 or row[-1] >= rows or (rows > 1 and (np.diff(row) < 0).any())):
        raise ValueError(f"candidates must be sorted by row, from 0 to {rows - 1}")
    count = len(prepared.barred)
    if len(product) and (product.min() < 0 or product.max() >= count):
        raise ValueError("products must be positions in the catalogue that the rules were prepared for")
    if (own is not None and own.shape != (rows, count)) or (seed_price is not None and len(seed_price) != rows):
        raise ValueError(f"own must be {rows} x {count}, and seed_price {rows} long")
    start = np.searchsorted(row, np.arange(rows + 1)) if rows > 1 else np.array([0, len(row)])
    rules, band = prepared.rules, prepared.rules.price
    low, high = np.zeros(0), np.zeros(0)
    if seed_price is not None and band is not None and (band.at_least_of_seed, band.at_most_of_seed) != (None, None):
        low = (band.at_least_of_seed or 0.0) * seed_price
        high = np.full(rows, np.inf) if band.at_most_of_seed is None else band.at_most_of_seed * seed_price
    kept, item, candidate, bits, *by_row = _rerank(
        start, product.astype(np.int32, copy=False), k,
        (prepared.barred, *_plain(own, rows, np.uint8), prepared.price, low, high, bool(band and band.or_unknown)),
        (prepared.margin, rules.margin, prepared.factor),
        (prepared.brand, rules.most_per_brand or 0, prepared.category, rules.most_per_category or 0),
        (rules.diversity, prepared.levels, *_plain(prepared.similarity, 0, np.float32)),
        (prepared.pins, prepared.places),
    )  # fmt: skip
    listed, rank = np.repeat(np.arange(rows), kept), np.arange(1, len(item) + 1)
    if rows > 1:
        rank -= np.repeat(np.cumsum(kept) - kept, kept)
    value = np.where(candidate >= 0, score[candidate], 0.0) if len(score) else np.zeros(len(item))
    return Reranked(listed, rank, item, value, candidate, bits, *by_row)


def _plain(matrix: sp.csr_matrix | None, rows: int, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """indptr, indices and data of sorted rows; of an empty matrix for None."""
    if matrix is None:
        return np.zeros(rows + 1, dtype=np.int32), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=dtype)
    matrix = matrix.tocsr() if matrix.has_sorted_indices else matrix.tocsr().sorted_indices()
    return matrix.indptr, matrix.indices, matrix.data.astype(dtype, copy=False)


@compiled
def _filter(r: int, products: np.ndarray, bars: tuple, by: np.ndarray) -> None:
    """Writes the position of the first filter that takes each product out for a row, -1 where none does."""
    barred, own_at, own, own_bits, price, low, high, or_unknown = bars
    mine = own[own_at[r] : own_at[r + 1]]
    banded = len(low) > 0 and not np.isnan(low[r])
    for i in range(len(products)):
        p = products[i]
        bits = barred[p]
        if banded and not (or_unknown if np.isnan(price[p]) else low[r] <= price[p] <= high[r]):
            bits |= 1 << PRICE
        if len(mine):
            at = np.searchsorted(mine, p)
            if at < len(mine) and mine[at] == p:
                bits |= own_bits[own_at[r] + at]
        by[i] = -1
        if bits:
            by[i] = 0
            while not bits >> by[i] & 1:
                by[i] += 1


@compiled
def _sort(value: np.ndarray, place: np.ndarray, bits: np.ndarray, before: np.ndarray, n: int) -> None:
    """Sorts candidates by value, the highest first, equal ones as they were; `before`: where each stood."""
    for i in range(n):
        before[i] = i
        v, c, b = value[i], place[i], bits[i]
        j = i
        while j > 0 and value[j - 1] < v:
            value[j], place[j], bits[j], before[j] = value[j - 1], place[j - 1], bits[j - 1], before[j - 1]
            j -= 1
        value[j], place[j], bits[j], before[j] = v, c, b, i


@compiled
def _value(k: int, n: int, product: np.ndarray, work: tuple, weights: tuple) -> int:
    """Values a row's candidates by relevance, margin, boosts and buries, and sorts them; BURIED where one fell out."""
    place, value, bits, before, _, _, _, _ = work
    margin, weight, factor = weights
    acted = 0
    for i in range(n):
        value[i], bits[i] = k / (k + i), 0
    if len(margin):
        for i in range(n):
            value[i] = (1 - weight) * value[i] + weight * margin[product[place[i]]]
        _sort(value, place, bits, before, n)
        for i in range(n):
            if before[i] > i:
                bits[i] |= MARGIN
    if len(factor):
        for i in range(n):
            value[i] *= factor[product[place[i]]]
        _sort(value, place, bits, before, n)
        for i in range(n):
            f = factor[product[place[i]]]
            if f > 1 and before[i] > i:
                bits[i] |= BOOSTED
            elif f < 1 and before[i] < i:
                bits[i] |= BURIED
                if before[i] < k:
                    acted |= BURIED
    return acted


@compiled
def _full(p: int, chosen: np.ndarray, many: int, caps: tuple) -> int:
    """BRAND_FULL or CATEGORY_FULL where the list has as many of the product's as may be, else FREE."""
    brand, most_of_brand, category, most_of_category = caps
    if most_of_brand and brand[p] >= 0:
        same = 0
        for j in range(many):
            same += brand[chosen[j]] == brand[p]
        if same >= most_of_brand:
            return BRAND_FULL
    if most_of_category and category[p] >= 0:
        same = 0
        for j in range(many):
            same += category[chosen[j]] == category[p]
        if same >= most_of_category:
            return CATEGORY_FULL
    return FREE


@compiled
def _choose(p: int, many: int, n: int, product: np.ndarray, work: tuple, caps: tuple, alike: tuple) -> None:
    """Puts a product into the list: marks the candidates that break a cap now, and how near each is to the list."""
    place, _, _, _, state, near, chosen, where = work
    chosen[many] = p
    brand, most_of_brand, category, most_of_category = caps
    weight, levels, like_at, like, likeness = alike
    if not (weight or most_of_brand or most_of_category):
        return
    for i in range(n):
        if state[i] == TAKEN:
            continue
        q = product[place[i]]
        same_brand = len(brand) > 0 and brand[q] == brand[p] >= 0
        if state[i] == FREE and (
            (most_of_brand and same_brand) or (most_of_category and category[q] == category[p] >= 0)
        ):
            state[i] = _full(q, chosen, many + 1, caps)
        if weight:
            shared, depth = 0, 0
            for d in range(levels.shape[1]):
                a, b = levels[p, d], levels[q, d]
                if a < 0 and b < 0:
                    break
                depth += 1
                shared += a == b
            s = SAME_BRAND * same_brand + (SAME_CATEGORY * shared / depth if shared else 0.0)
            near[i] = max(near[i], s)
    if weight and len(like):
        for j in range(like_at[p], like_at[p + 1]):
            i = where[like[j]]
            if i >= 0:
                near[i] = max(near[i], likeness[j])


@compiled
def _next(value: np.ndarray, state: np.ndarray, near: np.ndarray, n: int, weight: float) -> tuple[int, int]:
    """The best candidate left that breaks no cap (-1: none), and the bits of who put it there."""
    best, first, top, bits = -1, -1, -1, 0
    best_value = top_value = -np.inf
    for i in range(n):
        if state[i] == TAKEN:
            continue
        v = (1 - weight) * value[i] - weight * near[i]
        if v > top_value:
            top, top_value = i, v
        if state[i] == FREE:
            if first < 0:
                first = i
            if v > best_value:
                best, best_value = i, v
            if not weight:
                break
    if top >= 0 and state[top] != FREE:
        bits = BRAND_CAP if state[top] == BRAND_FULL else CATEGORY_CAP
    return best, bits | (DIVERSITY if best != first else 0)


@compiled
def _rerank(
    start: np.ndarray, product: np.ndarray, k: int, bars: tuple, weights: tuple, caps: tuple, alike: tuple, fixed: tuple
) -> tuple:
    """The lists one after the other: how many each row has, product, candidate, bits; acted, removed, fates by row."""
    pins, places = fixed
    rows, counts = len(start) - 1, start[1:] - start[:-1]
    most, width = np.minimum(counts + len(pins), k).sum(), counts.max() if rows else 0
    item, candidate, rule = np.empty(most, np.int32), np.empty(most, np.int64), np.empty(most, np.uint8)
    kept, acted = np.zeros(rows, np.int64), np.zeros(rows, np.uint8)
    removed, fates = np.zeros((rows, len(FILTERS)), np.int32), np.zeros((rows, len(pins)), np.uint8)
    place, before, state = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width, np.uint8)
    value, near, bits = np.empty(width), np.empty(width), np.empty(width, np.int64)
    by = np.empty(max(width, len(pins)), np.int8)
    slot, chosen = np.empty(k, np.int64), np.empty(k, np.int32)
    where = np.full(len(bars[0]) if len(alike[3]) else 0, -1, np.int64)
    work = (place, value, bits, before, state, near, chosen, where)
    out = 0
    for r in range(rows):
        n, many = 0, 0
        _filter(r, product[start[r] : start[r + 1]], bars, by)
        for i in range(start[r + 1] - start[r]):
            if by[i] >= 0:
                removed[r, by[i]] += 1
            else:
                place[n] = start[r] + i
                n += 1
        done = _value(k, n, product, work, weights)
        state[:n] = FREE
        near[:n] = 0
        if len(where):
            for i in range(n):
                where[product[place[i]]] = i
        slot[:] = -1
        _filter(r, pins, bars, by)
        for j in range(len(pins)):
            full = _full(pins[j], chosen, many, caps)
            s = places[j] - 1
            while s < k and slot[s] != -1:
                s += 1
            if by[j] >= 0:
                fates[r, j] = 1 + by[j]
            elif full != FREE:
                fates[r, j] = len(FILTERS) + (1 if full == BRAND_FULL else 2)
            elif s >= k:
                fates[r, j] = NO_PLACE
            else:
                slot[s] = j
                for i in range(n):
                    if product[place[i]] == pins[j]:
                        state[i] = TAKEN
                _choose(pins[j], many, n, product, work, caps, alike)
                many += 1
        begin = out
        for s in range(k):
            if slot[s] >= 0:
                item[out], candidate[out], rule[out] = pins[slot[s]], -1, PINNED
                for i in range(n):
                    if product[place[i]] == item[out]:
                        candidate[out] = place[i]
            else:
                i, why = _next(value, state, near, n, alike[0])
                if i < 0:
                    done |= why
                    continue
                p = product[place[i]]
                item[out], candidate[out], rule[out] = p, place[i], bits[i] | why
                state[i] = TAKEN
                _choose(p, many, n, product, work, caps, alike)
                many += 1
            done |= rule[out]
            out += 1
        kept[r] = out - begin
        acted[r] = done
        if len(where):
            for i in range(n):
                where[product[place[i]]] = -1
    return kept, item[:out], candidate[:out], rule[:out], acted, removed, fates
