"""What a customer bought may be shown again at the same time in the day's lists and in what is served."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from controltower.models.recommend.artefacts import last_orders
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.interactions import ORDER, VIEW, Interactions, from_arrays
from controltower.models.recommend.published import Published, publish
from controltower.models.recommend.reranking import own_bars
from controltower.models.recommend.rules import Rules
from controltower.models.recommend.serving import Request, Serving, answer
from support.published_shop import AS_OF, artefacts

PRODUCTS = np.array([f"p{n:03}" for n in range(250)])
CATEGORY = np.array([("Food > Coffee", "Food", "Home > Pots", "")[n % 4] for n in range(250)], object)
CUSTOMERS, DAY = np.array(["ann", "bob", "cleo"]), 86400


def history() -> Interactions:
    """Ann bought 200 products, some twice, over 400 days; Bob one, exactly 30 days ago; Cleo only looked."""
    rng = np.random.default_rng(1)
    until = int(AS_OF.timestamp())
    what = np.r_[np.arange(200), np.arange(40), 0, np.arange(9)]
    who = np.array(["ann"] * 240 + ["bob"] + ["cleo"] * 9)
    second = until - np.r_[rng.integers(1, 400 * DAY, 240), 30 * DAY, np.full(9, DAY)]
    kind = np.array([ORDER] * 241 + [VIEW] * 9)
    return from_arrays(CUSTOMERS, PRODUCTS, who, PRODUCTS[what], second, kind, until)


def catalogue() -> Catalogue:
    nothing, unknown = np.full(250, "", object), np.full(250, np.nan)
    return Catalogue(
        PRODUCTS, nothing, CATEGORY, nothing, unknown, unknown, np.full(250, np.datetime64("NaT"), "M8[us]")
    )


def served(folder: Path, rules: dict[str, Any], repeats: list[str]) -> Serving:
    every = np.ones(250, bool)
    made = artefacts(
        products=pa.table({"product_id": PRODUCTS, "category": CATEGORY}), sold=every, in_stock=every,
        popularity=np.ones(250), items={}, personal={}, customers=CUSTOMERS.tolist(), visitors=["v"],
        bought=last_orders(history(), 1), repeats=repeats, rules={"for_you": rules},
    )  # fmt: skip
    nobodys = artefacts().personal["for_you"]
    lists = {name: np.full((4, 1), -1 if name in ("product", "about") else 0) for name in ("product", "about")}
    lists |= {name: np.zeros((4, 1), np.uint8) for name in ("algorithm", "code")}
    made.personal["for_you"] = type(nobodys)(**vars(nobodys) | lists | {"session": None})  # type: ignore[index]
    return Serving(Published.open(folder / publish(folder, made)))


@pytest.mark.parametrize("repeat", [True, False])
@pytest.mark.parametrize(
    "bought",
    [{}, {"again_after_days": 0}, {"again_after_days": "never"}, {"again_after_days": 30},
     {"again_after_days": 90, "by_category": {"Food": "never", "food > coffee": 14, "Home": 0}}],
    ids=str,
)  # fmt: skip
def test_lists_and_what_is_served_bar_the_same(tmp_path: Path, bought: dict[str, Any], repeat: bool) -> None:
    rules = {"bought": bought}
    bars = own_bars(Rules.model_validate(rules), catalogue(), history(), repeat=repeat)
    serving = served(tmp_path, rules, ["for_you"] if repeat else [])
    for row, customer in enumerate(CUSTOMERS.tolist()):
        shown = {item.id for item in answer(serving, Request("for_you", 250, customer=customer), AS_OF).items}
        assert shown == set(PRODUCTS) - set(PRODUCTS[bars[row].indices]), customer
    assert len(answer(serving, Request("for_you", 250, visitor="v"), AS_OF).items) == 250
    assert len(answer(serving, Request("search", 250, customer="ann"), AS_OF).items) == 250, "who looks for it finds it"


def test_it_comes_again_at_its_moment(tmp_path: Path) -> None:
    serving = served(tmp_path, {"bought": {"again_after_days": 31}}, [])

    def comes(hours: float) -> bool:
        found = answer(serving, Request("for_you", 250, customer="bob"), AS_OF + timedelta(hours=hours))
        return "p000" in {item.id for item in found.items}

    assert [comes(h) for h in (0, 23.9, 24)] == [False, False, True]


def test_last_orders_of_who_bought() -> None:
    found, orders = last_orders(history(), 1_000), history().where(history().kind == ORDER)
    assert found.shape == (1_003, 250) and np.diff(found.indptr)[:3].tolist() == [200, 1, 0]
    for product in (0, 39, 199):
        theirs = orders.second[(orders.customer == 0) & (orders.product == product)]
        assert found[0, product] == theirs.max()
    held = found.data.nbytes + found.indices.nbytes + found.indptr.nbytes
    without = last_orders(history(), 0)
    assert held - without.data.nbytes - without.indices.nbytes - without.indptr.nbytes <= 8_000, "8 bytes a visitor"
