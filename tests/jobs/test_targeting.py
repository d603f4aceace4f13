"""`controltower target` and goals of campaigns: on scores of a small shop, and the whole way from facts."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from controltower import settings
from controltower.audiences.about import About
from controltower.audiences.targeting import GOALS
from controltower.campaigns.specs import validate
from controltower.cli import app
from controltower.data.lake import Lake, interval_key
from controltower.errors import BadSpec, ControlTowerError, NoData
from controltower.jobs.gathering import gather
from controltower.jobs.predictions import Past, acquisition, propensity
from controltower.jobs.profiles import build_profiles
from controltower.jobs.targeting import Wanted, target_customers
from controltower.jobs.training import store
from controltower.web.tower import words
from controltower.web.tower.page import locales
from support import scored_shop
from support.lakes import publish_rows
from support.shop_tables import SHOP, T, ago, event, lake_with, money, order, orders, product
from typer.testing import CliRunner

AS_OF = T.isoformat()
GOODS = {  # product: price, margin rate, category, brand
    "gold": (500_000, 0.05, "jewels > gold", "Au"),
    "silver": (300_000, 0.10, "jewels > silver", "Ag"),
    "cup": (150_000, 0.40, "home > kitchen", "Ag"),
}


def publish_scores(lake: Lake, scores: dict[str, dict[str, Any]], at: datetime = T) -> None:
    usual = {"model_version": "propensity_7d@a clv@b uplift@c", "click_rate": None}
    rows = [{"customer_id": c, "as_of": at, **usual, **told} for c, told in scores.items()]
    publish_rows(lake, "features", interval_key(at), pa.Table.from_pylist(
        [{"customer_id": r["customer_id"], "as_of": at, "click_rate": r.pop("click_rate"), "orders_total": 1.0}
         for r in rows], schema=pa.schema([("customer_id", pa.string()), ("as_of", pa.timestamp("us", "UTC")),
                                           ("click_rate", pa.float64()), ("orders_total", pa.float64())])))  # fmt: skip
    publish_rows(lake, "scores", interval_key(at), pa.Table.from_pylist(rows))


@pytest.fixture
def shop(home: Path) -> Lake:
    """Each of 30 customers bought one product ten times: a third of them gold, silver and cups each."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    names = list(GOODS)
    made = [
        order(f"o{c:02}-{n}", f"c{c:02}", ago(5 + n), (names[c % 3], 1, GOODS[names[c % 3]][0]))
        for c in range(30) for n in range(10)
    ]  # fmt: skip
    goods = [
        product(p, price=money(price), margin_rate=rate, category=category, brand=brand)
        for p, (price, rate, category, brand) in GOODS.items()
    ]
    return lake_with(
        home,
        {
            "customers": [{"customer_id": f"c{c:02}", "signed_up_at": ago(60)} for c in range(30)],
            "products": goods,
            "collections": [{"collection_id": "spring", "title": "Spring"}],
            "collection_products": [{"collection_id": "spring", "product_id": "cup"}],
            "coupons": [{"coupon_code": f"k{n}", "pool": "jewels", "product_scope": "jewels > gold; cup"}
                        for n in range(2)],
            **orders(*made),
        },
    )  # fmt: skip


def test_criteos_revenue_example_by_scores_and_orders(shop: Lake) -> None:
    """80 % at 100,000 ranks before 80 % at 60,000, by what customers paid an order."""
    made = [order(f"x{c}{n}", f"k{c}", ago(3 + n), ("cup", 1, price)) for c, price in enumerate((60_000, 100_000))
            for n in range(10)]  # fmt: skip
    for name, rows in orders(*made).items():
        publish_rows(shop, name, "more", lake_table(name, rows))
    publish_scores(shop, {"k0": {"propensity_7d": 0.8}, "k1": {"propensity_7d": 0.8}})
    report, table = target_customers("revenue", as_of=AS_OF)
    rows = table.to_pylist()
    assert [row["customer_id"] for row in rows] == ["k1", "k0"] and [row["rank"] for row in rows] == [1, 2]
    assert [row["p"] for row in rows] == [0.8, 0.8] and [row["basket"] for row in rows] == pytest.approx(
        [100_000, 60_000]
    )
    assert rows[1]["expected_so_far"] == pytest.approx(rows[0]["expected"] + rows[1]["expected"])
    assert rows[1]["low"] < rows[1]["expected_so_far"] < rows[1]["high"]
    assert report["chosen"]["expected"] == pytest.approx(rows[1]["expected_so_far"], abs=1e-3)
    assert (rows[0]["goal"], rows[0]["model_version"], rows[0]["as_of"]) == ("revenue", "propensity_7d@a", T)


def lake_table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    from support.shop_tables import table

    return table(name, rows)


def test_criteos_margin_example_by_scores_and_orders(shop: Lake) -> None:
    """Margins of 60,000 / 30,000 / 25,000 rank in that order although prices rank otherwise."""
    publish_scores(shop, {f"c{c:02}": {"propensity_7d": 0.5} for c in range(3)})  # gold, silver, cup
    margin, by_margin = target_customers("margin", as_of=AS_OF)
    _, by_price = target_customers("revenue", as_of=AS_OF)
    assert by_margin["customer_id"].to_pylist() == ["c02", "c01", "c00"]
    assert by_price["customer_id"].to_pylist() == ["c00", "c01", "c02"]
    rates = by_margin["margin_rate"].to_pylist()
    assert rates == sorted(rates, reverse=True) and rates == pytest.approx([0.4, 0.1, 0.05])
    assert margin["unit"] == "GBP" and margin["calibration_error"] is None


def test_what_each_goal_reads(shop: Lake) -> None:
    told = {"dormancy_28d": 0.5, "clv_1y": 100.0, "uplift": 0.02, "uplift_error": 0.01, "propensity_7d": 0.1,
            "propensity_28d": 0.3}  # fmt: skip
    scores: dict[str, dict[str, Any]] = {f"c{c:02}": dict(told) for c in range(4)}
    scores["c01"] |= {"dormancy_28d": 0.9, "uplift": -0.01, "propensity_7d": 0.2, "click_rate": 0.3}
    scores["c02"] |= {"clv_1y": None, "uplift": 0.05}
    publish_scores(shop, scores)
    kept, table = target_customers("retention", within=14, as_of=AS_OF)
    assert table["customer_id"].to_pylist() == ["c01", "c00", "c03"] and kept["left_out"]["unknown"] == 1
    assert table["p"].to_pylist()[:2] == pytest.approx([0.9**0.5, 0.5**0.5]), "half of the days, at a constant rate"
    more, table = target_customers("incremental", as_of=AS_OF)
    assert table["customer_id"].to_pylist() == ["c02", "c00", "c03"] and more["left_out"]["no_gain"] == 1
    assert more["models"] == ["uplift@c"] and more["chosen"]["low"] < 0 < more["chosen"]["high"]
    clicks, table = target_customers("clicks", as_of=AS_OF)
    assert table["p"].to_pylist() == pytest.approx([0.3, *[1 / 30] * 3]) and "past click rates" in clicks["said"][1]
    bought, table = target_customers("conversions", within=28, as_of=AS_OF)
    assert table["p"].to_pylist() == pytest.approx([0.3] * 4) and bought["unit"] == "buyers"


def test_the_uplifts_error_is_shared_by_all_who_are_chosen(shop: Lake) -> None:
    told = {"uplift": 0.02, "uplift_error": 0.5, "propensity_7d": 0.1, "propensity_28d": 0.1}
    publish_scores(shop, {f"c{c:02}": dict(told) for c in range(4)})
    report, table = target_customers("incremental", as_of=AS_OF)
    so_far, high = (np.array(table[name].to_pylist()) for name in ("expected_so_far", "high"))
    count, chance = np.arange(1, 5), 0.1 * 0.9 + 0.12 * 0.88
    assert high - so_far == pytest.approx(1.96 * np.hypot(0.5 * count, np.sqrt(chance * count)), rel=0.001)
    assert report["chosen"]["high"] == pytest.approx(high[-1], abs=1e-4)


def test_a_channels_chances_are_preferred_to_past_rates(shop: Lake) -> None:
    told = {"c00": {"channel_email": 0.1, "channel_push": 0.4}, "c01": {"channel_email": None, "click_rate": 0.2}}
    publish_scores(shop, told)
    _, table = target_customers("clicks", as_of=AS_OF)
    assert table["p"].to_pylist() == pytest.approx([0.4, 0.2])


@pytest.mark.parametrize(
    ("goal", "more", "told"),
    [
        ("fame", {}, "no goal 'fame'. Choose one of: clicks"),
        ("conversions", {"within": 0}, "0 days can't be foretold"),
        ("conversions", {"wanted": {"size": 0}}, "--size"),
        ("conversions", {"wanted": {"size": 4}}, "Say --size 3 or less"),
        ("conversions", {"wanted": {"budget": 10}}, "without the cost of a contact. Say it with --cost"),
        ("conversions", {"wanted": {"budget": 0.5, "cost": 1}}, "pays for nobody. Say --budget 1"),
        ("conversions", {"wanted": {"budget": -1, "cost": 1}}, "no budget"),
        ("conversions", {"wanted": {"cost": -1}}, "no cost"),
        ("conversions", {"about": {"brands": ("Pt",)}}, "No product belongs to 'Pt' of brands"),
        ("conversions", {"about": {"brands": ("Au",), "categories": ("home",)}}, "No product fits all of"),
        ("clicks", {"about": {"brands": ("Au",)}}, "can't be about some products"),
        ("acquire", {"about": {"brands": ("Au",)}}, "can't be about some products"),
        ("retention", {}, "`dormancy_28d` of scores is empty. Run `controltower train`"),
        ("incremental", {}, "send with a `holdout`"),
        ("acquire", {}, "no model acquisition"),
    ],
)  # fmt: skip
def test_bad_requests_say_what_to_do(shop: Lake, goal: str, more: dict[str, Any], told: str) -> None:
    publish_scores(shop, {f"c{c:02}": {"propensity_7d": 0.5} for c in range(3)})
    with pytest.raises(ControlTowerError, match=told.replace("(", r"\(")):
        target_customers(
            goal, About(**more.get("about", {})), more.get("within", 7), Wanted(**more.get("wanted", {})), AS_OF
        )


def test_before_anything_was_scored(shop: Lake) -> None:
    with pytest.raises(NoData, match=r"no scores yet as of .* Run `controltower score`"):
        target_customers("conversions", as_of=AS_OF)


def test_what_it_is_about(shop: Lake) -> None:
    from controltower.audiences.about import mask
    from controltower.models.recommend.catalogue import read_catalogue

    ids = np.array(sorted(GOODS))
    with shop.read(T) as reading:
        catalogue = read_catalogue(reading.table, ids)

        def of(**kinds: tuple[str, ...]) -> list[str]:
            return ids[mask(reading.table, catalogue, About(**kinds))].tolist()

        assert of(categories=("Jewels",)) == ["gold", "silver"] and of(brands=("ag", "Au")) == ids.tolist() == sorted(
            GOODS
        )
        assert of(brands=("Ag",), categories=("jewels",)) == ["silver"]
        assert of(collections=("spring",)) == of(products=("cup",)) == ["cup"]
        assert of(coupons=("k1",)) == of(coupons=("jewels",)) == ["cup", "gold"], "what its scope names"
        with pytest.raises(BadSpec, match="'summer' of collections"):
            of(collections=("summer",))


def test_the_command_prints_and_writes(shop: Lake, tmp_path: Path) -> None:
    publish_scores(shop, {f"c{c:02}": {"propensity_7d": 0.01 * (c + 1)} for c in range(30)})
    arguments = ["target", "--goal", "revenue", "--within", "7", "--as-of", AS_OF, "--size", "10", "--cost", "2"]
    told = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "a.parquet")])
    assert told.exit_code == 0, told.output
    for shown in (
        "10 chosen of 30",
        "expected:",
        "cost 20.00",
        "left out: 20 beyond the size",
        "chance only",
        "10 rows",
    ):
        assert shown in told.stdout
    assert pq.read_table(tmp_path / "a.parquet")["rank"].to_pylist() == list(range(1, 11))
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json", "--budget", "13"]).stdout)
    assert report["chosen"]["size"] == 6 and report["left_out"]["beyond_size"] == 24
    assert report["curve"][-1]["size"] == 30


def test_a_campaign_whose_audience_is_a_goal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that fit the rules, who brings most comes first; of whom nothing is expected gets nothing."""
    conf = scored_shop.make(home, monkeypatch)
    known = [f"c{n}" for n in range(8)]
    publish_scores(Lake(conf), {
        c: {"dormancy_28d": 0.5, "clv_1y": float(n * 10), "send_hour": 10} for n, c in enumerate(known)
    }, scored_shop.SCORED)  # fmt: skip
    audience = {"goal": "retention", "within": 28, "at_most": 3, "rules": [{"column": "clv_1y", "at_most": 60}]}
    spec = validate(scored_shop.SPEC | {"audience": audience}, "spring")
    gathered = gather(conf, settings.load_shop(conf), spec, scored_shop.NOW)
    assert gathered.customers == ["c6", "c5", "c4"]
    everybody = validate(scored_shop.SPEC | {"audience": {"goal": "retention"}}, "spring")
    assert gather(conf, settings.load_shop(conf), everybody, scored_shop.NOW).customers == known[:0:-1]
    for bad, why in (({}, "needs a rule, or a goal"), (audience | {"order_by": "clv_1y"}, "not both")):
        with pytest.raises(BadSpec, match=why):
            validate(scored_shop.SPEC | {"audience": bad}, "spring")


@pytest.mark.slow
def test_from_facts_to_an_audience(home: Path) -> None:
    """Propensity and acquisition trained as the job does; who likes a category is chosen for it."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    rng = random.Random(5)
    made, looks = [], []
    for n in range(1500):
        c = rng.randrange(120)
        item = f"{'ab'[c % 2] if rng.random() < 0.9 else 'ba'[c % 2]}{rng.randrange(3)}"
        made.append(order(f"o{n}", f"c{c:03}", ago(rng.uniform(0, 150)), (item, 1, 10 + 10 * (c % 2))))
    for v in range(600):  # keen ones put into the cart, and most of these buy within four weeks
        day, keen = rng.uniform(1, 150), rng.random() < 0.4
        who = {"visitor_id": f"v{v:03}"}
        looks += [event(f"{v}-{i}", None, ago(day, minutes=-i), "view_item", product_id=f"a{v % 3}", **who)
                  for i in range(3 if keen else 1)]  # fmt: skip
        if keen:
            looks.append(event(f"{v}-cart", None, ago(day, minutes=-9), "add_to_cart", product_id=f"a{v % 3}", **who))
        if keen and rng.random() < 0.6 and (bought := day - rng.uniform(1, 27)) > 0:
            looks.append(event(f"{v}-in", f"n{v:03}", ago(bought, minutes=1), "login", **who))
            made.append(order(f"n{v}", f"n{v:03}", ago(bought), (f"a{v % 3}", 1, 10)))
    goods = [product(f"{kind}{n}", category=f"kind {kind}") for kind in "ab" for n in range(3)]
    customers = [{"customer_id": f"c{c:03}", "signed_up_at": ago(160), "updated_at": ago(160)} for c in range(120)]
    lake = lake_with(home, {"customers": customers, "products": goods, "events": looks, **orders(*made)})
    build_profiles(AS_OF)
    conf, shop = settings.load(), SHOP
    with Past.of(conf, shop, T) as past:
        outcomes = [*propensity.train(past), *acquisition.train(past)]
        cards = [store(past.registry, outcome, T, T) for outcome in outcomes]
    with lake.read(T) as reading:
        frame = reading.arrow(reading.derived("features").select("customer_id", "as_of"))
        features = past_features(reading)
    scored = {h: outcomes[n].model.predict(features, T) for n, h in enumerate((1, 7, 28))}  # type: ignore[attr-defined]
    for h, p in scored.items():
        frame = frame.append_column(f"propensity_{h}d", pa.array(p))
    text = pa.array([" ".join(f"{c.name}@{c.version}" for c in cards)] * len(frame), pa.string())
    publish_rows(lake, "scores", interval_key(T), frame.append_column("model_version", text))

    report, table = target_customers("conversions", About(categories=("kind b",)), 7, Wanted(size=40), AS_OF)
    assert "was learned now from" in report["said"][0] and report["calibration_error"] is not None
    odd = [int(c[1:]) % 2 for c in table["customer_id"].to_pylist() if c.startswith("c")]
    assert len(odd) == 40 and np.mean(odd) > 0.85, "who bought of it before"
    _, everything = target_customers("conversions", as_of=AS_OF)
    overall = dict(zip(everything["customer_id"].to_pylist(), everything["p"].to_pylist(), strict=True))
    assert all(row["p"] <= overall[row["customer_id"]] + 1e-9 for row in table.to_pylist())
    few, _ = target_customers("revenue", About(products=("a0",), brands=()), 1, as_of=AS_OF)
    assert few["chosen"]["expected"] > 0

    card = next(c for c in cards if c.name == "acquisition")
    assert card.serves == "likeness", card.why
    report, table = target_customers("acquire", within=28, wanted=Wanted(size=20), as_of=AS_OF)
    rows = table.to_pylist()
    assert report["unit"] == "new customers" and report["calibration_error"] is not None
    assert all(row["visitor_id"] and row["customer_id"] is None for row in rows), "nobody signed up without buying"
    carts = {e["visitor_id"] for e in looks if e["event_name"] == "add_to_cart"}
    assert {row["visitor_id"] for row in rows} <= carts
    assert all(json.loads(row["interests"]) == [["kind a", 1.0]] for row in rows)
    assert all(json.loads(row["products"])[0].startswith("a") for row in rows)
    _, shorter = target_customers("acquire", within=28, wanted=Wanted(size=20), as_of=AS_OF, products=False)
    assert shorter.equals(table.drop_columns(["interests", "products"])), "for a file alone"
    became = {e["visitor_id"] for e in looks if e["event_name"] == "login"}
    assert not became & {row["visitor_id"] for row in rows}, "who bought is no visitor any more"
    assert timedelta(days=30) > T - min(
        e["occurred_at"] for e in looks if e["visitor_id"] in {row["visitor_id"] for row in rows}
    )


def past_features(reading: Any) -> Any:
    from controltower.profiles.features import NAMES

    features = reading.derived("features").select("customer_id", *NAMES)
    return reading.frame(features).set_index("customer_id").astype(float)


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_of_a_campaign_has_words(goal: str) -> None:
    for language in ("en", "ko"):
        t = locales().translator(locales().chain(language))
        spec = validate(scored_shop.SPEC | {"audience": {"goal": goal, "within": 14}}, "spring")
        who = dict(words.spec(spec, SHOP, t))[t("campaign.who")]
        assert who == [t(f"campaign.goals.{goal}", days="14")]
        assert ("14" in who[0]) is (goal != "clicks")
