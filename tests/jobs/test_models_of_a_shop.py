"""Features, training, scoring and recommending as jobs, on one small shop."""

from __future__ import annotations

import json
import random
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from controltower.cli import app
from controltower.data.lake import Lake, interval_key
from controltower.errors import BadSettings, NoData
from controltower.jobs.profiles import build_profiles
from controltower.jobs.recommending import recommend
from controltower.jobs.scoring import score_customers
from controltower.jobs.segments import segment_conversions
from controltower.jobs.training import train_models
from controltower.models.recommend import published
from controltower.models.recommend.algorithms.popularity import Popularity
from controltower.models.registry import Registry
from models.conftest import planted
from models.test_registry import card
from support.lakes import publish_rows
from support.shop_tables import SHOP, T, ago, event, lake_with, order, orders, product
from support.small_shop import rows
from typer.testing import CliRunner

AS_OF = T.isoformat()
MODELS = {
    "recommend_repeat",
    "recommend_new",
    "recommend_again",
    "recommend_viewed",
    "recommend_near",
    "recommend_similar",
    "recommend_together",
    "recommend_cart",
    "send_hour",
    "send_delay",
    "propensity_1d",
    "propensity_7d",
    "propensity_28d",
    "clv",
    "next_order",
    "next_product_order",
    "acquisition",
    "uplift",
    "channel",
    "gender",
    "age_band",
}


@pytest.fixture
def shop(home: Path) -> Lake:
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    rng = random.Random(1)
    made = [
        order(
            str(i), f"c{(c := rng.randrange(60)):02}", ago(rng.uniform(0, 40)),
            *((f"p{(c % 3) * 5 + rng.randrange(5):02}", 1, 10) for _ in range(2)),
        )
        for i in range(400)
    ]  # fmt: skip
    goods: list[dict[str, Any]] = [product(f"p{i:02}", category="things") for i in range(18)]
    goods[1]["in_stock"] = False
    goods[17]["category"] = "service > postage"
    goods[16]["available_from"] = ago(-3)
    goods[15]["attributes"] = '{"recommend": false}'
    return lake_with(
        home,
        {
            "customers": [
                {"customer_id": f"c{i:02}", "signed_up_at": ago(60), "updated_at": ago(60)} for i in range(65)
            ],
            "products": goods,
            "events": [
                event(str(i), f"c{rng.randrange(65):02}", ago(rng.uniform(0, 40)), "view_item", product_id="p03")
                for i in range(300)
            ],
            **orders(*made),
        },
        interval=f"../{AS_OF}",
    )


def derived(lake: Lake, name: str) -> pa.Table:
    with lake.read(T) as reading:
        return reading.arrow(reading.derived(name))


@pytest.mark.slow
def test_from_facts_to_scores_and_again_the_same(shop: Lake) -> None:
    with pytest.raises(NoData, match="controltower train"):
        recommend("for_you", as_of=AS_OF)
    assert build_profiles(AS_OF)["customers"] == 65
    models = shop.settings.home / "models"
    first = _trained_but_for_traits(models)
    trained = train_models(AS_OF)
    assert set(trained["models"]) == MODELS
    assert first == {n: m["version"] for n, m in trained["models"].items() if n in first}, "again the same versions"
    cards = {name: Registry(models).card(name, T).details for name in MODELS if not name.startswith("recommend_")}
    judged = {name: len(details["backtest"]) for name, details in cards.items()}
    assert judged["uplift"] == judged["channel"] == judged["gender"] == 0 < judged["send_hour"], judged
    _half_published_scores_are_none(shop)
    publish_rows(
        shop, "features", interval_key(T), derived(shop, "features").drop(["clicks_30d"])
    )  # an earlier version's
    (models / "gender").rename(models / "set aside")
    report = score_customers(AS_OF)
    (models / "set aside").rename(models / "gender")
    assert report["customers"] == 65 and {"gender", "age_band"} & report["served"].keys() == {"age_band"}
    assert report["not_inferred"]["gender"].startswith("There is no model gender")
    scores, lists = derived(shop, "scores"), derived(shop, "recommendations")
    assert scores.column_names == [
        "customer_id", "as_of", "propensity_1d", "reasons_1d", "propensity_7d", "reasons_7d", "propensity_28d",
        "reasons_28d", "send_hour", "send_hour_weight", "send_hours", "send_hours_email", "send_hours_push",
        *(f"clv_{until}{end}" for until in ("30d", "1y", "3y") for end in ("", "_low", "_high")),
        "dormancy_28d", "next_order_at", "next_order_low", "next_order_high", "next_order_reason",
        "next_product_id", "next_product_at", "uplift",
        "uplift_error", "channel_email", "channel_push", "channel", "segment_1d",
        "segment_7d", "segment_28d", "model_version",
        "scored_at",
    ]  # fmt: skip
    profiles = derived(shop, "profiles")
    first_of_65 = {"top_1": 1, "top_1_to_5": 2, "top_5_to_10": 4, "top_10_to_25": 9, "top_25_to_50": 17, "rest": 32}
    for h in (1, 7, 28):
        sizes = {row["values"]: row["counts"] for row in scores[f"segment_{h}d"].value_counts().to_pylist()}
        assert sizes in (first_of_65, {None: 65}), "nobody is cut where all have the same chance"
    assert profiles["customer_id"].equals(scores["customer_id"]) and profiles["rfm_cell"].null_count < 65
    values = scores.to_pydict()
    for name in ("uplift", "uplift_error", "channel_email", "channel_push", "channel"):
        assert set(values[name]) == {None}, "nothing was sent, so nothing was learned"
    assert all(0 <= p <= 1 for name in ("propensity_1d", "propensity_7d", "propensity_28d") for p in values[name])
    assert {at is None for at in values["next_product_at"]} == {True, False}, "some bought a product twice"
    assert set(values["next_product_id"]) - {None} <= {f"p{i:02}" for i in range(18)}
    assert all(hour in range(24) for hour in values["send_hour"])
    for name in ("send_hours", "send_hours_email", "send_hours_push"):
        assert {(len(week), max(week)) for week in values[name]} == {(168, 255)}
    assert {at.astimezone(UTC) for at in values["as_of"]} == {T}
    _check_lists(lists)

    _scores_outlive_profiles(models / "age_band")
    assert derived(shop, "scores").drop(["scored_at"]).equals(scores.drop(["scored_at"]))
    assert derived(shop, "recommendations").equals(lists)
    _later_recommendations(lists)
    _repeats(lists, shop)
    report = train_models((T + timedelta(days=6)).isoformat(), unless_newer_than_days=6)
    assert (report["note"], report["models"]) == (f"skipped: the models as of {AS_OF} serve", {})


@pytest.mark.parametrize(
    ("days", "version", "trains"),
    [(-1, "", True), (0, "", False), (6, "", False), (7, "", True), (0, "of another version of the code", True)],
)
def test_training_waits_for_the_week_to_end(home: Path, days: int, version: str, trains: bool) -> None:
    """Before T none serves yet. Where it trains, it finds nobody in this home."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    registry, one = Registry(home / "models"), Popularity().fit(planted())
    for name in MODELS:
        registry.store(one, card(name))
    for about in (home / "models" / "send_hour").glob("*/card.json") if version else ():
        about.write_text(json.dumps(json.loads(about.read_text()) | {"code_version": version}))
    at = (T + timedelta(days=days)).isoformat()
    if trains:
        with pytest.raises(NoData, match="Nobody is known"):
            train_models(at, unless_newer_than_days=6)
    else:
        report = train_models(at, unless_newer_than_days=6)
        assert (report["note"], report["models"]) == (f"skipped: the models as of {AS_OF} serve", {})


def _trained_but_for_traits(models: Path) -> dict[str, str]:
    """What fails with gender and age takes no other model away. Returns the versions."""
    models.mkdir()
    (models / "gender").touch()  # in the way
    with pytest.raises(FileExistsError):
        train_models(AS_OF)
    (models / "gender").unlink()
    found = {name: Registry(models).card(name, T).version for name in Registry(models).names()}
    assert found.keys() == MODELS - {"gender", "age_band"}
    return found


def _scores_outlive_profiles(model: Path) -> None:
    """Scoring a second time, with a model of age whose files were changed: the scores are published all the same."""
    for about in model.glob("*/card.json"):
        about.write_text(about.read_text().replace('"files": {', '"files": {"gone": "0",'))
    with pytest.raises(BadSettings, match="age_band"):
        score_customers(AS_OF)


def _half_published_scores_are_none(lake: Lake) -> None:
    """Where the lists can't be written, the scores don't appear either: readers see both of one date, or neither."""
    in_the_way = lake.root / "recommendations"
    in_the_way.touch()
    with pytest.raises(FileExistsError):
        score_customers(AS_OF)
    in_the_way.unlink()
    assert lake.intervals("scores") == lake.intervals("recommendations") == lake.intervals("profiles") == []


def _check_lists(lists: pa.Table) -> None:
    rows = lists.to_pylist()
    assert {r["placement"] for r in rows} == {
        "for_you",
        "new_for_you",
        "recently_viewed_related",
        "popular_near_you",
        "replenish",
    }
    assert not {"p01", "p15", "p16", "p17"} & {r["product_id"] for r in rows}, "what may not be shown"
    by_list: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in rows:
        by_list.setdefault((r["customer_id"], r["placement"]), []).append(r)
    for (_, placement), made in by_list.items():
        assert [r["rank"] for r in made] == list(range(1, len(made) + 1))
        assert len({r["product_id"] for r in made}) == len(made)
        if placement == "for_you":
            assert len(made) == 12
        elif placement == "replenish":
            assert {r["reason_code"] for r in made} == {"buy_again"}
        else:
            assert "buy_again" not in {r["reason_code"] for r in made}
    for placement in ("for_you", "new_for_you", "recently_viewed_related", "popular_near_you"):
        assert sum(p == placement for _, p in by_list) == 65, "customers without any order get recommendations too"
    assert 0 < sum(p == "replenish" for _, p in by_list) < 65, "nothing else than what was bought is replenished"
    viewed = [
        r["product_id"] for r in rows if r["placement"] == "recently_viewed_related" and r["customer_id"] == "c00"
    ]
    assert "p03" not in viewed, "what was viewed isn't its own recommendation"
    again = next(r for r in rows if r["reason_code"] == "buy_again")
    assert again["reason_value"] == f"Title {again['product_id']}"


def _later_recommendations(lists: pa.Table) -> None:
    later = recommend("for_you", k=3, repeat=True, as_of=(T + timedelta(days=2)).isoformat())
    assert later.schema == lists.schema
    assert later.num_rows == 65 * 3
    with pytest.raises(NoData, match="controltower train"):
        recommend("for_you", as_of="2026-06-01")


def _repeats(lists: pa.Table, lake: Lake) -> None:
    """Unless one says otherwise, a placement's own rule holds: on the command line as in the stored lists."""
    for placement in ("for_you", "new_for_you"):
        out = lake.root.parent / f"{placement}.json"
        command = ["recommend", "--placement", placement, "--k", "5", "--as-of", AS_OF, "--out", str(out)]
        assert CliRunner().invoke(app, command).exit_code == 0
        shown = {(r["customer_id"], r["rank"], r["product_id"]) for r in json.loads(out.read_text())}
        kept = (r for r in lists.to_pylist() if r["placement"] == placement and r["rank"] <= 5)
        assert shown == {(r["customer_id"], r["rank"], r["product_id"]) for r in kept}
    with lake.read(T) as reading:
        heads, lines = reading.table("orders"), reading.table("order_lines")
        bought = reading.arrow(heads.join(lines, "order_id").select("customer_id", "product_id")).to_pylist()
    new = {(customer, product_id) for customer, _, product_id in shown}
    assert new and not new & {(b["customer_id"], b["product_id"]) for b in bought}
    with pytest.raises(BadSettings, match="never shows what a customer bought"):
        recommend("new_for_you", repeat=True, as_of=AS_OF)


@pytest.mark.slow
def test_the_shops_rules_hold(
    shop: Lake, home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pinned, excluded, subscribed; what fits nothing is told, and a mistake with its place."""
    train_models(AS_OF)
    told = SHOP.model_dump(mode="json")

    def lists(placement: str, **rules: Any) -> list[dict[str, Any]]:
        (home / "shop.yaml").write_text(yaml.safe_dump(told | {"recommendations": rules}))
        return recommend(placement, k=4, as_of=AS_OF).to_pylist()

    plain = lists("for_you")
    assert {r["rules"] for r in plain} == {""} and "p02" in {r["product_id"] for r in plain}
    ruled = lists(
        "for_you",
        everywhere={"exclusions": [{"products": ["p02"]}, {"brands": ["nobody's"]}]},
        for_you={"pins": [{"product": "p09", "position": 2}]},
    )
    assert "p02" not in {r["product_id"] for r in ruled}
    assert {r["product_id"] for r in ruled if r["rank"] == 2} == {"p09"}
    pinned = [r for r in ruled if "pinned" in r["rules"].split(",")]
    assert {r["product_id"] for r in pinned} == {"p09"} and len(pinned) == 65
    assert "exclusions.1 of for_you fits no product" in caplog.text
    first = {r["customer_id"]: r["product_id"] for r in plain if r["rank"] == 1}
    shown = [{"customer_id": c, "product_id": p, "ago": 2 - (c < "c30")} for c, p in first.items()]
    monkeypatch.setattr("controltower.ledger.shown.shown_lately", lambda *_: pa.Table.from_pylist(shown))
    others = lists("for_you", everywhere={"not_in_last_messages": 1})
    again = {r["customer_id"] for r in others if r["product_id"] == first[r["customer_id"]]}
    assert again == {c for c in first if c >= "c30"}, "the message before the last doesn't count"
    with pytest.raises(BadSettings, match=r"shop.yaml, recommendations: for_you.*at_lest"):
        lists("for_you", for_you={"price": {"at_lest": 3}})


@pytest.mark.slow
def test_scoring_publishes_for_serving(shop: Lake, home: Path) -> None:
    """What the app answers is what the lists say; a backfill of an earlier day doesn't take its place."""
    train_models(AS_OF)
    version = score_customers(AS_OF)["serving"]
    root = home / "serving"
    assert published.current(root) == version
    serving = published.Published.open(root / version)
    lists = derived(shop, "recommendations").to_pylist()
    assert set(serving.personal) == {r["placement"] for r in lists}
    for name, one in serving.personal.items():
        kept = {
            (r["customer_id"], r["rank"]): (r["product_id"], r["algorithm"], r["reason_code"])
            for r in lists
            if r["placement"] == name
        }
        rows = {serving.row(customer=f"c{i:02}"): f"c{i:02}" for i in range(65)}
        found = {
            (rows[row], place + 1): (
                serving.product_ids[one.product[row, place]],
                one.algorithms[one.algorithm[row, place]],
                one.codes[one.code[row, place]],
            )
            for row, place in zip(*np.nonzero(one.product >= 0), strict=True)
        }
        assert found == kept, name
    together = serving.items["bought_together"]
    entry, seed = together.entries(np.arange(len(serving.product_ids)))
    assert len(entry) == len(together.product) > 0 and not (together.product[entry] == seed).any(), "not with itself"
    search = serving.search
    assert search is not None
    found_by_text, _ = search.matches(search.question("p03"), 1, np.ones(len(search.product_ids), bool))
    assert search.product_ids[found_by_text].tolist() == ["p03"]
    earlier = (T - timedelta(days=1)).isoformat()
    train_models(earlier)
    assert "serving" not in score_customers(earlier)
    assert published.current(root) == version
    (table,) = segment_conversions(1, AS_OF)["tables"]
    with shop.read(T) as reading:
        rows = reading.arrow(reading.table("orders")).to_pylist()
    bought = {row["customer_id"] for row in rows if row["ordered_at"] > T - timedelta(days=1)}
    assert (table["scored"], table["customers"], table["bought"]) == (earlier, 65, len(bought))
    assert [sum(row[name] for row in table["rows"]) for name in ("converted", "recency_converted")] == [len(bought)] * 2


@pytest.mark.slow
def test_who_subscribes_isnt_reminded(shop: Lake) -> None:
    train_models(AS_OF)
    own = recommend("replenish", k=20, as_of=AS_OF).to_pylist()
    one = own[0]
    subscription = {
        "subscription_id": "s1", "customer_id": one["customer_id"], "product_id": one["product_id"], "status": "active",
        "updated_at": ago(1),
    }  # fmt: skip
    publish_rows(shop, "subscriptions", "2026-06-15", rows("subscriptions", subscription))
    left = recommend("replenish", k=20, as_of=AS_OF).to_pylist()
    assert {(r["customer_id"], r["product_id"]) for r in own} - {(r["customer_id"], r["product_id"]) for r in left} == {
        (one["customer_id"], one["product_id"])
    }


def test_a_home_without_customers_says_what_to_do(home: Path) -> None:
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    with pytest.raises(NoData, match="Load data first"):
        train_models(AS_OF)


def test_bad_requests_are_told(shop: Lake) -> None:
    with pytest.raises(BadSettings, match="for_you, new_for_you, recently_viewed_related, popular_near_you, replenish"):
        recommend("nowhere", as_of=AS_OF)
    with pytest.raises(BadSettings, match="--k"):
        recommend("for_you", k=0, as_of=AS_OF)
