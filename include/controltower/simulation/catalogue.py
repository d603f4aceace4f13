"""What the shop sells: products with a hidden style, prices by week, sales and collections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from controltower.simulation.names import BRANDS
from controltower.simulation.parameters import Parameters

STYLES = 3  # dimensions of hidden style
COLLECTION_SIZE = 12


@dataclass(frozen=True)
class Catalogue:
    """P products sorted by category, C categories, over W weeks counted from the opening day.

    `category` (P,), `first` and `count` (C,) say which products a category holds; `base_price`, `unit_cost` (P,) KRW;
    `style` (P, STYLES); `popularity` (P,) log weight; `companion` (P,) the product that goes with it; `first_day` (P,)
    the day it is first sold (before 0: from the beginning); `price` (W, P) in KRW; `in_stock` (W, P);
    `sale` (W, C) rate; `collection` (W, COLLECTION_SIZE) product numbers.
    """

    ids: np.ndarray
    titles: np.ndarray
    brands: np.ndarray
    category: np.ndarray
    first: np.ndarray
    count: np.ndarray
    base_price: np.ndarray
    unit_cost: np.ndarray
    style: np.ndarray
    popularity: np.ndarray
    companion: np.ndarray
    first_day: np.ndarray
    price: np.ndarray
    in_stock: np.ndarray
    sale: np.ndarray
    collection: np.ndarray

    @property
    def size(self) -> int:
        return len(self.category)

    def on_sale_from(self, day: int) -> np.ndarray:
        """Which products (P,) can be bought on a day."""
        return (self.first_day <= day) & self.in_stock[max(day, 0) // 7]


def make(parameters: Parameters, seed: int, weeks: int) -> Catalogue:
    """The catalogue for `weeks` weeks; a week's prices depend on (seed, week) only, whatever `weeks` is."""
    p, rng = parameters, np.random.default_rng([seed, 1])
    weight = np.array([c.weight for c in p.categories.values()])
    count = np.maximum(1, np.floor(weight / weight.sum() * p.products)).astype(int)
    category = np.repeat(np.arange(len(count)), count)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    n = len(category)

    brand_style = rng.normal(size=(p.brands, STYLES))
    # a brand works in a few neighbouring categories, so that liking a brand means something
    brand = (category * 3 + rng.integers(0, 5, n)) % p.brands
    style = 0.8 * brand_style[brand] + 0.6 * rng.normal(size=(n, STYLES))
    rank = np.concatenate([rng.permutation(c) for c in count])
    popularity = -p.popularity_slope * np.log1p(rank)

    median = np.array([c.price for c in p.categories.values()])[category]
    base = _round(median * np.exp(p.money.price_sigma * rng.normal(size=n)), 100)
    cost = _round(base * (1 - rng.uniform(*p.money.margin, size=n)), 10)
    first_day = np.where(rng.random(n) < p.money.new_products, rng.integers(3, 365, n), -rng.integers(1, 500, n))
    first_day[first] = -30  # every category has something from the beginning
    price, in_stock, sale, collection = _weeks(p, seed, weeks, base, category, first_day)
    return Catalogue(
        ids=np.array([f"P{i:05d}" for i in range(1, n + 1)], dtype=object),
        titles=_titles(p, rng, category, brand),
        brands=np.array(BRANDS, dtype=object)[brand],
        category=category, first=first, count=count, base_price=base, unit_cost=cost,
        style=style, popularity=popularity,
        companion=_companions(p, rng, category, first, count, style), first_day=first_day,
        price=price, in_stock=in_stock, sale=sale, collection=collection,
    )  # fmt: skip


def _round(value: np.ndarray, step: int) -> np.ndarray:
    return np.maximum(step, np.round(value / step) * step).astype(np.int64)


def _titles(p: Parameters, rng: np.random.Generator, category: np.ndarray, brand: np.ndarray) -> np.ndarray:
    titles: list[str] = []
    seen: set[str] = set()
    for c, b in zip(category, brand, strict=True):
        words = p.categories[p.keys[c]]
        feature, noun = words.features[rng.integers(len(words.features))], words.nouns[rng.integers(len(words.nouns))]
        title, again = f"{BRANDS[b]} {feature} {noun}", 2
        while title in seen:
            title, again = f"{BRANDS[b]} {feature} {noun} {again}호", again + 1
        seen.add(title)
        titles.append(title)
    return np.array(titles, dtype=object)


def _companions(p: Parameters, rng: np.random.Generator, category: np.ndarray, first: np.ndarray, count: np.ndarray,
                style: np.ndarray) -> np.ndarray:  # fmt: skip
    """For each product the one bought with it: in a category that goes with its own, alike in style."""
    goes = [[p.keys.index(g) for g in c.goes_with] for c in p.categories.values()]
    companion = np.empty(len(category), dtype=np.int64)
    for i, c in enumerate(category):
        other = goes[c][rng.integers(len(goes[c]))]
        candidates = first[other] + np.arange(int(count[other]))
        companion[i] = candidates[np.argmax(style[candidates] @ style[i] + rng.gumbel(size=len(candidates)))]
    return companion


def _weeks(p: Parameters, seed: int, weeks: int, base: np.ndarray, category: np.ndarray,
           first_day: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    n, n_categories = len(base), len(p.categories)
    price = np.empty((weeks, n), dtype=np.int64)
    in_stock = np.empty((weeks, n), dtype=bool)
    sale = np.zeros((weeks, n_categories))
    collection = np.empty((weeks, min(COLLECTION_SIZE, n)), dtype=np.int64)
    current = base
    for week in range(weeks):
        rng = np.random.default_rng([seed, 2, week])
        changed = (rng.random(n) < p.money.price_changes) & (week > 0)
        factor = rng.choice([0.85, 0.9, 0.95, 1.05, 1.1], size=n)
        current = np.where(changed, np.clip(_round(current * factor, 100), base * 0.6, base * 1.3), current).astype(int)
        price[week] = current
        in_stock[week] = rng.random(n) >= p.money.out_of_stock
        chosen = rng.choice(n_categories, size=min(p.money.sale_categories, n_categories), replace=False)
        if p.money.sale_rates:
            sale[week, chosen] = rng.choice(p.money.sale_rates, size=len(chosen))
        shown = np.isin(category, chosen) & (first_day <= week * 7)  # the week's exhibition shows what is on sale
        collection[week] = np.argsort(np.where(shown, 0.0, 10.0) + rng.random(n))[: collection.shape[1]]
    return price, in_stock, sale, collection


def versions(catalogue: Catalogue, last_day: int) -> pd.DataFrame:
    """Every state of every product until `last_day`: product, day (of the change), price, in_stock."""
    everything = np.arange(catalogue.size)
    since = np.clip(catalogue.first_day // 7, 0, len(catalogue.price) - 1)
    price, stock = catalogue.price[since, everything], catalogue.in_stock[since, everything]
    frames = [pd.DataFrame({"product": everything, "day": catalogue.first_day, "price": price, "in_stock": stock})]
    for week in range(1, len(catalogue.price)):
        price, stock = catalogue.price[week], catalogue.in_stock[week]
        moved = (price != catalogue.price[week - 1]) | (stock != catalogue.in_stock[week - 1])
        i = np.flatnonzero(moved & (catalogue.first_day < week * 7))
        frames.append(pd.DataFrame({"product": i, "day": week * 7, "price": price[i], "in_stock": stock[i]}))
    found = pd.concat(frames, ignore_index=True)
    return found[found["day"] <= last_day].sort_values(["product", "day"], kind="stable").reset_index(drop=True)
