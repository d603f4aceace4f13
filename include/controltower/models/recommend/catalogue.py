"""What is known of the products, aligned with a model's product_ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controltower.models.recommend.interactions import positions
from controltower.profiles.facts.tables import Tables


@dataclass(frozen=True)
class Catalogue:
    """One entry a product, in the order of the sorted `product_ids`; what isn't known is "" or NaN."""

    product_ids: np.ndarray
    title: np.ndarray
    category: np.ndarray  # "a > b > c"
    brand: np.ndarray
    price: np.ndarray
    margin_rate: np.ndarray  # told, else from price and unit cost
    available_from: np.ndarray  # datetime64[us], UTC; NaT where not told

    def __len__(self) -> int:
        return len(self.product_ids)


def read_catalogue(tables: Tables, product_ids: np.ndarray) -> Catalogue:
    """The catalogue of the tables; products that aren't in it any more have only their id."""
    columns = ["product_id", "title", "category", "brand", "price", "unit_cost", "margin_rate", "available_from"]
    rows = tables("products").select(*columns).to_pyarrow()
    at = positions(product_ids, np.array(rows["product_id"].to_pylist(), dtype=np.str_))
    known = at >= 0

    def texts(name: str) -> np.ndarray:
        made, words = np.full(len(product_ids), "", dtype=object), {"": ""}
        values = (value or "" for chunk in rows[name].chunks for value in chunk.to_pylist())
        if name != "title":  # millions of products share some thousand categories and brands
            values = (words.setdefault(value, value) for value in values)
        made[at[known]] = np.fromiter(values, dtype=object, count=len(rows))[known]
        return made

    def numbers(name: str) -> np.ndarray:
        made = np.full(len(product_ids), np.nan)
        made[at[known]] = np.array([np.nan if v is None else float(v) for v in rows[name].to_pylist()])[known]
        return made

    price, cost, told = numbers("price"), numbers("unit_cost"), numbers("margin_rate")
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.where(np.isnan(told), np.where(price > 0, 1 - cost / price, np.nan), told)
    since = np.full(len(product_ids), np.datetime64("NaT"), dtype="datetime64[us]")
    since[at[known]] = rows["available_from"].to_numpy().astype("datetime64[us]")[known]
    return Catalogue(product_ids, texts("title"), texts("category"), texts("brand"), price, margin, since)
