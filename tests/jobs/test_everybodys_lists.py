"""The day's lists are of visitors too, of what is sold at each one's site, and made of facts that are read once."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from controltower.data.lake import Lake
from controltower.jobs.recommending import recommend
from controltower.jobs.scoring import score_customers
from controltower.jobs.training import train_models
from controltower.models.recommend import history, published
from support.lakes import publish_rows
from support.shop_tables import SHOP, T, ago, event, lake_with, order, orders, product
from support.small_shop import rows

AS_OF = T.isoformat()
KOREAN, CHINESE = {f"p{i:02}" for i in range(12)}, {f"p{i:02}" for i in range(6, 18)}


def listing(product_id: str, site: str, days_ago: float, **more: Any) -> dict[str, Any]:
    return {"product_id": product_id, "site": site, "valid_from": ago(days_ago), "updated_at": ago(2), **more}


@pytest.fixture
def shop(home: Path) -> Lake:
    """60 customers, the even ones at the site kr, the odd ones at cn; and visitors at either."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    rng = random.Random(2)
    bought = [
        order(
            str(i), f"c{(c := rng.randrange(60)):02}", ago(rng.uniform(0, 40)),
            *((p, 1, 10) for p in rng.sample(sorted(CHINESE if c % 2 else KOREAN), 2)),
        )
        for i in range(400)
    ]  # fmt: skip
    visits = [
        event(f"v{i}", None, ago(rng.uniform(0, 20)), "view_item", product_id="p07", visitor_id=f"v{i % 4}",
              site="cn" if i % 2 else "kr")
        for i in range(12)
    ]  # fmt: skip
    visits.append(event("old", None, ago(60), "view_item", product_id="p07", visitor_id="gone", site="kr"))
    return lake_with(
        home,
        {
            "customers": [
                {"customer_id": f"c{i:02}", "signed_up_at": ago(60), "updated_at": ago(60),
                 "site": "cn" if i % 2 else "kr"}
                for i in range(60)
            ],
            "products": [product(f"p{i:02}", category="things") for i in range(18)],
            "events": visits,
            **orders(*bought),
        },
    )  # fmt: skip


@pytest.mark.slow
def test_visitors_have_lists_too(shop: Lake, home: Path) -> None:
    train_models(AS_OF)
    lists = recommend("for_you", k=4, as_of=AS_OF).to_pylist()
    whose = [r["visitor_id"] for r in lists if r["customer_id"] is None]
    assert set(whose) == {"v0", "v1", "v2", "v3"}, "who was here lately; not who was here two months ago"
    assert all(whose.count(v) == 4 for v in set(whose))
    assert not [r for r in lists if r["customer_id"] and r["visitor_id"]]
    related = recommend("recently_viewed_related", k=4, as_of=AS_OF).to_pylist()
    assert {r["reason_code"] for r in related if r["visitor_id"]} <= {"because_you_viewed", "popular"}
    assert not [r for r in recommend("replenish", as_of=AS_OF).to_pylist() if r["visitor_id"]]
    version = score_customers(AS_OF)["serving"]
    serving = published.Published.open(home / "serving" / version)
    row = serving.row(visitor="v1")
    named = [serving.product_ids[i] for i in serving.personal["for_you"].product[row, :4]]
    assert named == [r["product_id"] for r in lists if r["visitor_id"] == "v1"]
    assert (serving.personal["replenish"].product[row] == -1).all()


@pytest.mark.slow
def test_each_site_shows_what_is_listed_there(shop: Lake) -> None:
    listed = [listing(p, "kr", 30) for p in sorted(KOREAN)] + [listing(p, "cn", 30) for p in sorted(CHINESE)]
    listed.append(listing("p08", "kr", 1, in_stock=False))
    listed.append(listing("p03", "cn", -1))  # from tomorrow on
    train_models(AS_OF)
    for placement in ("for_you", "popular_near_you"):
        before = shown(placement)
        assert before["kr"] == before["cn"] == {f"p{i:02}" for i in range(18)}, "without listings everything is sold"
    publish_rows(shop, "listings", "2026-06-15", rows("listings", *listed))
    for placement in ("for_you", "popular_near_you"):
        assert shown(placement) == {"kr": KOREAN - {"p08"}, "cn": CHINESE}


def shown(placement: str) -> dict[str, set[str]]:
    """What is shown at each site, all lists together."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for r in recommend(placement, k=18, repeat=True if placement == "for_you" else None, as_of=AS_OF).to_pylist():
        number = int((r["customer_id"] or r["visitor_id"])[1:])
        found["cn" if number % 2 else "kr"].add(r["product_id"])
    return dict(found)


@pytest.mark.slow
def test_a_days_facts_are_read_once(shop: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    train_models(AS_OF)
    read, calls = history.read, []
    monkeypatch.setattr("controltower.models.recommend.today.read", lambda *a: calls.append(1) or read(*a))
    score_customers(AS_OF)
    assert len(calls) == 1
