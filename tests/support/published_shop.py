"""A small published shop whose right lists are plain to see."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from controltower.models.recommend.version import Artefacts, ItemLists, PersonalLists

AS_OF = datetime(2026, 6, 15, tzinfo=UTC)
PRODUCTS = [  # id, title, price, category, brand; the first ones are bought most
    ("cup", "Blue cup", 12.5, "Home > Kitchen", "Denby"),
    ("kettle", "Kettle", 49.0, "Home > Kitchen", "Bosch"),
    ("lamp", "Desk lamp", 80.0, "Home > Light", "Ikea"),
    ("mug", "Mug <b>", 9.0, "Home > Kitchen", "Denby"),
    ("pan", "Pan, 28 cm", None, "Home > Kitchen", "Tefal"),
    ("sofa", None, 900.0, "", ""),
    ("tea", "차 茶", 4.0, "Food", "Denby"),
]
IDS = [row[0] for row in PRODUCTS]
N, POSITION = len(IDS), {name: i for i, name in enumerate(IDS)}


def rows(width: int, of: dict[int, list[str]], count: int) -> np.ndarray:
    """Lists of product ids as positions, filled up with -1."""
    made = np.full((count, width), -1, np.int32)
    for row, names in of.items():
        made[row, : len(names)] = [POSITION[n] for n in names]
    return made


def bought(of: dict[int, dict[str, float]], people: int) -> sp.csr_matrix:
    """Who bought what, by row: how many days before AS_OF they did last."""
    told = [
        (row, POSITION[name], AS_OF.timestamp() - days * 86400) for row, one in of.items() for name, days in one.items()
    ]
    row, product, second = np.array(told, np.int64).reshape(-1, 3).T
    return sp.csr_matrix((second, (row, product)), (people, N))


def item_lists(of: dict[str, list[str]], **more: Any) -> ItemLists:
    lists = [[POSITION[name] for name in of.get(seed, [])] for seed in IDS]
    start = np.cumsum([0, *map(len, lists)])
    product = np.array([p for one in lists for p in one], np.int32)
    score = np.array([s for one in lists for s in (1.0, 0.4, 0.1)[: len(one)]], np.float32)
    return ItemLists(start, product, score, **{"algorithm": "substitutes", "model_version": "s-1"} | more)


def personal_lists(of: dict[int, list[str]], people: int, **more: Any) -> PersonalLists:
    product = rows(3, of, people)
    about = np.where(product >= 0, POSITION["tea"], -1).astype(np.int32)
    zeros = np.zeros(product.shape, np.uint8)
    given = {"algorithms": ["als"], "codes": ["because_you_bought"], "model_version": "b-1"} | more
    return PersonalLists(product, zeros, zeros, about, **given)


def artefacts(**more: Any) -> Artefacts:
    """Ann and the visitor v1 have lists of their own; Bob is known and has none."""
    columns = zip(*PRODUCTS, strict=True)
    table = pa.table(dict(zip(("product_id", "title", "price", "category", "brand"), columns, strict=True)))
    urls = [f"https://shop.example/{i}" for i in IDS]
    table = table.append_column("url", [urls]).append_column("currency", [["EUR"] * N])
    given: dict[str, Any] = {
        "as_of": AS_OF, "zone": ZoneInfo("Europe/Berlin"), "products": table, "sold": np.ones(N, bool),
        "in_stock": np.ones(N, bool), "popularity": np.arange(N, 0, -1.0),
        "items": {
            "similar": item_lists({"mug": ["cup", "tea"], "lamp": ["sofa"]}),
            "recently_viewed_related": item_lists({"mug": ["cup", "tea"], "lamp": ["sofa", "tea"]}, seeds="recent"),
            "cart": item_lists({"kettle": ["tea", "mug"], "cup": ["mug"]}, seeds="cart", algorithm="complements"),
        },
        "customers": ["ann", "bob"], "visitors": ["v1"],
        "personal": {
            "for_you": personal_lists({0: ["tea", "pan"], 2: ["lamp"]}, 3, session="recently_viewed_related"),
            "replenish": personal_lists({0: ["tea"]}, 3, algorithms=["replenishment"], codes=["buy_again"]),
        },
        "bought": bought({0: {"kettle": 9}}, 3), "repeats": ["replenish"],
    }  # fmt: skip
    return Artefacts(**given | more)
