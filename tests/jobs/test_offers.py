"""Which of the shop's collections is recommended to whom."""

from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from controltower.data.lake import Lake
from controltower.errors import NoData
from controltower.jobs.recommending import recommend
from controltower.jobs.scoring import score_customers
from controltower.jobs.training import train_models
from controltower.models.recommend import interactions, offers
from controltower.models.recommend.interactions import ORDER, VIEW, from_arrays
from controltower.models.recommend.offers import taken
from controltower.models.recommend.published import Published
from controltower.models.recommend.searches import Collections
from controltower.models.recommend.serving import Request, Serving, answer
from support.lakes import publish_rows
from support.shop_tables import SHOP, T, ago, lake_with, order, orders, product
from support.small_shop import rows

AS_OF = T.isoformat()
KINDS = 4


def collection(name: str, **more: Any) -> dict[str, Any]:
    return {"collection_id": name, "title": f"All of {name}", "kind": "exhibition", "updated_at": ago(9)} | more


def holds(name: str, *products: str) -> list[dict[str, Any]]:
    return [{"collection_id": name, "product_id": p, "updated_at": ago(9)} for p in products]


@pytest.fixture
def shop(home: Path) -> Lake:
    """300 customers who buy of one kind of four; an exhibition for each, and one that ended, one to come, one at cn."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    rng = random.Random(3)
    bought = [
        order(
            str(i), f"c{(c := rng.randrange(300)):03}", ago(rng.uniform(0, 80)),
            *((f"p{c % KINDS}{n}", 1, 10) for n in rng.sample(range(5), 2)),
        )
        for i in range(3000)
    ]  # fmt: skip
    goods = {f"kind{k}": [f"p{k}{n}" for n in range(5)] for k in range(KINDS)}
    more = [collection("over", ends_at=ago(1)), collection("soon", starts_at=ago(-1)), collection("cn", site="cn")]
    return lake_with(
        home,
        {
            "customers": [
                {"customer_id": f"c{i:03}", "signed_up_at": ago(90), "updated_at": ago(90)} for i in range(305)
            ],
            "products": [product(p, category="things") for some in goods.values() for p in some],
            "collections": [*map(collection, goods), *more],
            "collection_products": [
                *(row for name, some in goods.items() for row in holds(name, *some)),
                *(row for name in ("over", "soon", "cn") for row in holds(name, *goods["kind0"])),
            ],
            **orders(*bought),
        },
    )


@pytest.mark.slow
def test_everybody_is_offered_what_suits_them(shop: Lake) -> None:
    trained = train_models(AS_OF)["models"]["recommend_offer"]
    assert trained["metrics"]["ndcg@10"] > trained["baseline_metrics"]["ndcg@10"], trained
    lists = recommend("offer", k=3, as_of=AS_OF).to_pylist()
    assert {r["product_id"] for r in lists} == {None}
    assert {r["collection_id"] for r in lists} == {f"kind{k}" for k in range(KINDS)}, "running, and not of a site alone"
    first = {r["customer_id"]: r["collection_id"] for r in lists if r["rank"] == 1}
    assert len(first) == 305, "also who never bought"
    suits = [first[f"c{i:03}"] == f"kind{i % KINDS}" for i in range(300)]
    assert np.mean(suits) > 0.95
    began = [collection("fresh", starts_at=ago(0.5), updated_at=ago(0.5))]
    publish_rows(shop, "collections", "2026-06-15", rows("collections", *began))
    held = [row | {"updated_at": ago(0.5)} for row in holds("fresh", *(f"p1{n}" for n in range(5)))]
    publish_rows(shop, "collection_products", "2026-06-15", rows("collection_products", *held))
    lists = recommend("offer", k=2, as_of=AS_OF).to_pylist()
    theirs = {r["customer_id"] for r in lists if r["collection_id"] == "fresh"}
    assert theirs >= {f"c{i:03}" for i in range(1, 300, KINDS)}, "what began after the training has a past already"
    dated = [collection("kind0", ends_at=ago(-0.5), updated_at=ago(0.2))]
    publish_rows(shop, "collections", "later", rows("collections", *dated))
    report = score_customers(AS_OF)
    assert report["served"]["offer"] == trained["serves"]
    serving = Serving(Published.open(shop.settings.home / "serving" / report["serving"]))

    def offered(at: datetime) -> set[str]:
        return {item.id for item in answer(serving, Request("offer", customer="c000"), at).items}

    def found(at: datetime) -> set[str]:
        return {e["collection_id"] for e in answer(serving, Request("search", query="all of soon"), at).exhibitions}

    running = {f"kind{k}" for k in range(KINDS)} | {"fresh"}
    assert offered(T) == running and offered(ago(-0.5)) == running - {"kind0"}, "without another scoring"
    assert "soon" not in found(T) and "soon" in found(ago(-1)), "what begins meanwhile is found by a search"


@pytest.mark.slow
def test_a_shop_without_collections_has_no_offers(shop: Lake) -> None:
    earlier = ago(10).isoformat()  # nothing was told of them then
    assert "recommend_offer" not in train_models(earlier)["models"]
    assert "offer" not in score_customers(earlier)["served"]
    with pytest.raises(NoData, match="recommend_offer"):
        recommend("offer", as_of=earlier)


def test_products_stand_for_the_collections_that_hold_them() -> None:
    data = from_arrays(
        np.array(["a", "b"]), np.array(["p", "q", "r"]), np.array(list("aaab")), np.array(list("pqrp")),
        np.array([5, 5, 9, 7]), np.array([ORDER, ORDER, ORDER, VIEW]), 10,
    )  # fmt: skip
    made = Collections(
        np.array(["none", "of p", "of pq"]), np.array(["", "", ""], object), np.array([1, 2, 2, 2]),
        np.array(["p", "p", "q", "x"]),
    )  # fmt: skip
    found = taken(data, made)
    assert found.product_ids.tolist() == ["none", "of p", "of pq"]
    entries = zip(found.customer, found.product, found.second, found.kind, strict=True)
    assert [tuple(map(int, e)) for e in entries] == [
        (0, 1, 5, ORDER), (0, 2, 5, ORDER), (1, 1, 7, VIEW), (1, 2, 7, VIEW),
    ], "p and q in one order are one entry; r is in no collection"  # fmt: skip


@pytest.mark.parametrize("most", [1, 3, 7, 1000])
def test_who_took_too_much_keeps_the_latest(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out before is what would be left out of all the entries."""
    rng = np.random.default_rng(most)
    ids = np.array(["a", "b", "c", "d"]), np.array([f"p{n}" for n in range(9)])
    customer, product = rng.integers(0, 3, 120), rng.integers(0, 9, 120)  # d did nothing
    data = from_arrays(*ids, ids[0][customer], ids[1][product], rng.integers(0, 20, 120), rng.integers(0, 3, 120), 30)
    pairs = np.unique(rng.integers(0, (5, 8), (20, 2)), axis=0).T  # p8 is in none
    made = Collections(np.array(list("uvwxy")), np.full(5, "", object), pairs[0], ids[1][pairs[1]])
    monkeypatch.setattr(interactions, "MOST_ENTRIES", most)
    monkeypatch.setattr(offers, "MOST_ENTRIES", 10**9)
    plain = taken(data, made)
    monkeypatch.setattr(offers, "MOST_ENTRIES", most)
    sizes: list[int] = []
    monkeypatch.setattr(offers, "from_positions", lambda *a: sizes.append(len(a[2])) or interactions.from_positions(*a))
    found = taken(data, made)
    for name in ("customer", "product", "second", "kind"):
        assert getattr(found, name).tolist() == getattr(plain, name).tolist(), name
    assert found.capped == plain.capped, "whoever is cut is told"
    assert len(plain) and (most == 1000 or sizes[0] < len(data)), "cut before each entry became several"
