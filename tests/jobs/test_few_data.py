"""Shops that tell little: they train and score, something sensible serves, and every card says why in a sentence."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from controltower.data.lake import Lake
from controltower.jobs.evaluating import evaluate
from controltower.jobs.exports import scores
from controltower.jobs.scoring import score_customers
from controltower.jobs.training import train_models
from controltower.models.registry import Registry
from support.shop_tables import SHOP, T, ago, event, lake_with, order, orders, product

AS_OF = T.isoformat()
Tables = dict[str, list[dict[str, Any]]]
GOODS = [product(f"p{i:02}", category="things") for i in range(12)]
PREDICTED = ("propensity_1d", "propensity_7d", "propensity_28d", "clv", "next_order")


def customers(count: int) -> list[dict[str, Any]]:
    return [{"customer_id": f"c{i:03}", "signed_up_at": ago(60), "updated_at": ago(60)} for i in range(count)]


def bought(count: int, who: Callable[[int], int], days: float, seed: int = 1) -> Tables:
    rng = random.Random(seed)
    made = (
        order(f"o{i}", f"c{who(i):03}", ago(rng.uniform(0, days)), (f"p{rng.randrange(12):02}", 1, rng.uniform(5, 50)))
        for i in range(count)
    )
    return orders(*made)


def viewed(count: int, of: int) -> list[dict[str, Any]]:
    rng = random.Random(2)
    return [
        event(str(i), f"c{rng.randrange(of):03}", ago(rng.uniform(0, 40)), "view_item", product_id="p03")
        for i in range(count)
    ]


def fifty() -> Tables:
    """50 customers and a few orders of some."""
    return {"customers": customers(50), "events": viewed(100, 50), **bought(25, lambda i: i % 20, 55)}


def no_orders() -> Tables:
    return {"customers": customers(120), "events": viewed(400, 120)}


def once_only() -> Tables:
    return {"customers": customers(150), "events": viewed(300, 150), **bought(150, lambda i: i, 58)}


def new_shop() -> Tables:
    """Open for ten days: orders, some of them a second one, but no events, no returns."""
    return {"customers": customers(80), **bought(110, lambda i: i % 80, 10)}


SERVES: dict[Callable[[], Tables], dict[str, str]] = {
    fifty: {
        "propensity_1d": "base_rate",
        "propensity_7d": "base_rate",
        "clv": "average_rate",
        "next_order": "constant_wait",
    },
    no_orders: {"propensity": "base_rate", "clv": "average_rate", "next_order": "constant_wait"},
    once_only: {"clv": "average_rate", "next_order": "constant_wait"},
    new_shop: {"propensity": "base_rate", "clv": "naive_rate", "next_order": "constant_wait"},
}
WHY: dict[Callable[[], Tables], dict[str, str]] = {
    fifty: {"propensity_1d": "too few of one kind to learn from", "clv": "customers bought twice",
            "next_order": "too few to learn from"},
    no_orders: {"propensity_7d": "Nobody has bought yet", "clv": "Nobody has bought yet",
                "next_order": "There are no customers yet"},
    once_only: {"clv": "None of 150 customers has bought twice", "next_order": "None of 150 customers bought twice"},
    new_shop: {"propensity_28d": "No label window of 28 days has closed", "clv": "No 30 days after enough purchases",
               "next_order": "too few to learn from"},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shop", SERVES, ids=lambda shop: shop.__name__)
def test_it_trains_scores_and_says_why(home: Path, shop: Callable[[], Tables]) -> None:
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    tables = shop()
    lake: Lake = lake_with(home, {"products": GOODS, **tables})
    trained = train_models(AS_OF)["models"]
    for name in PREDICTED:
        wanted = SERVES[shop].get(name, SERVES[shop].get(name.split("_")[0]))
        assert wanted is None or trained[name]["serves"] == wanted, (name, trained[name])
        assert trained[name]["why"].endswith(".") and len(trained[name]["why"]) > 40
    for name, words in WHY[shop].items():
        assert words in trained[name]["why"]
    report = score_customers(AS_OF)
    rows = scores(AS_OF).to_pylist()
    assert report["customers"] == len(rows) == len(tables["customers"])
    heads = {head["customer_id"] for head in tables.get("orders", [])}
    for row in rows:
        for horizon in (1, 7, 28):
            assert 0 <= row[f"propensity_{horizon}d"] <= 1
        assert (row["clv_30d"] is not None) == (row["customer_id"] in heads)
        assert row["clv_30d"] is None or 0 <= row["clv_30d_low"] <= row["clv_30d_high"]
        assert (row["next_order_reason"] == "never_bought") == (row["customer_id"] not in heads)
        assert row["gender_female"] is row["age_20_24"] is None, "nobody agreed to profiling"
    assert "clv@" in rows[0]["model_version"]
    assert Registry(home / "models").card("clv").metrics == {} and lake.intervals("scores")


@pytest.mark.slow
@pytest.mark.parametrize("shop", [fifty, no_orders], ids=lambda shop: shop.__name__)
def test_evaluating_it_says_what_can_be_judged(home: Path, shop: Callable[[], Tables]) -> None:
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    lake_with(home, {"products": GOODS, **shop()})
    for task in ("propensity", "clv", "replenishment", "profile"):
        report, rows = evaluate(task, AS_OF)
        assert report["said"] and all(sentence.endswith(".") for sentence in report["said"])
        assert rows.num_rows == 0 or rows["customers"].null_count == 0
    short, none = evaluate("clv", AS_OF, 7)
    assert short["said"] == ["The value of 30 days can't be judged yet: say --days 30 or more."] and none.num_rows == 0
    assert short["split"] == (T - timedelta(days=7)).isoformat()
