"""What a goal is about: all products, or those of some ids, categories, brands, collections and coupons."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from controltower.errors import BadSpec
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.rules import Condition, Texts, path
from controltower.profiles.facts.tables import Tables


@dataclass(frozen=True)
class About:
    """Of each kind that is told a product must fit one value. A category holds all below it; a coupon, or a pool of
    coupons, what its product_scope names: ids, categories and brands, parted by commas, semicolons or bars."""

    products: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    coupons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))

    def __str__(self) -> str:
        told = [f"{f.name} {', '.join(getattr(self, f.name))}" for f in fields(self) if getattr(self, f.name)]
        return "; ".join(told) or "all products"


def mask(tables: Tables, catalogue: Catalogue, about: About) -> np.ndarray:
    """Which products of the catalogue it is about. BadSpec where a value names none, or no product fits all kinds."""
    texts = Texts(catalogue)
    found = np.ones(len(catalogue), dtype=bool)
    for kind in fields(about):
        values = getattr(about, kind.name)
        if not values:
            continue
        fits = np.zeros(len(catalogue), dtype=bool)
        for value in values:
            one = _one(tables, texts, kind.name, value)
            if not one.any():
                raise BadSpec(
                    f"No product belongs to {value!r} of {kind.name}.", "Correct it, or load the shop's newest data."
                )
            fits |= one
        found &= fits
    if not found.any():
        raise BadSpec(f"No product fits all of: {about}.", "Name fewer kinds at once.")
    return found


def _one(tables: Tables, texts: Texts, kind: str, value: str) -> np.ndarray:
    none = np.zeros(len(texts.catalogue), dtype=bool)
    if kind == "collections":
        held = tables("collection_products")
        ids = held.filter(held.collection_id == value).select("product_id").to_pyarrow()["product_id"].to_pylist()
        return texts.fits(Condition(products=ids)) if ids else none
    if kind == "coupons":
        coupons = tables("coupons")
        rows = coupons.filter((coupons.coupon_code == value) | (coupons.pool == value)).select("product_scope")
        scopes = rows.distinct().to_pyarrow()["product_scope"].to_pylist()
        parts = [_scope(texts, scope) for scope in scopes]
        return np.logical_or.reduce(parts) if parts else none
    if kind == "categories" and not path(value):
        return none
    return texts.fits(Condition.model_validate({kind: [value]})) if value.strip() else none


def _scope(texts: Texts, scope: str | None) -> np.ndarray:
    """What a coupon's product_scope names; an empty one is for all products."""
    told = [w.strip() for w in (scope or "").replace(";", ",").replace("|", ",").split(",") if w.strip()]
    if not told or [w.casefold() for w in told] == ["all"]:
        return np.ones(len(texts.catalogue), dtype=bool)
    there = [texts.fits(Condition(products=[w])) | texts.fits(Condition(brands=[w])) for w in told]
    there += [texts.below([path(w)]) for w in told if path(w)]
    return np.asarray(np.logical_or.reduce(there))
