"""Lists of an earlier day are taken over for whom nothing changed, and made anew for everybody else."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import yaml
from controltower.data.lake import Lake, interval_key
from controltower.jobs.scoring import score_customers
from controltower.jobs.training import train_models
from controltower.models.recommend import batch
from controltower.models.recommend.blend import Blend
from controltower.models.recommend.choose import KINDS
from controltower.models.recommend.interactions import ORDER, VIEW, Interactions, from_arrays
from controltower.models.recommend.taken_over import Earlier, basis
from controltower.models.recommend.tasks import NEW, REPEAT
from controltower.models.recommend.today import Today
from controltower.models.registry import Registry
from controltower.settings import Settings, load_shop
from support.lakes import publish_rows
from support.shop_tables import SHOP, T, ago, event, lake_with, order, orders, product, table

GROUPS, KIND, WINDOW = 4, 40, 30
NEXT = T + timedelta(days=1)
CUSTOMERS = [f"c{i:03}" for i in range(200)]
COLD = {*CUSTOMERS[195:], "v3"}  # nothing goes with what they took, if anything: they see what is popular
PLACEMENTS = ("for_you", "new_for_you", "recently_viewed_related", "popular_near_you", "replenish")
RULES = {"for_you": {"bought": {"again_after_days": WINDOW}}}
Row = dict[str, Any]


def drawn() -> list[tuple[Row, list[Row]]]:
    """Orders of customers who buy of one kind of four."""
    rng = random.Random(3)
    return [
        order(
            f"o{i}", CUSTOMERS[c := rng.randrange(195)], ago(rng.uniform(0.1, 80)),
            *((f"p{c % GROUPS}{n:02}", 1, 10) for n in rng.sample(range(KIND), 2)),
        )
        for i in range(1500)
    ]  # fmt: skip


def seen(number: int, at: datetime, who: str, product_id: str) -> Row:
    whose = {"visitor_id": who} if who.startswith("v") else {}
    return event(f"e{number}", None if whose else who, at, "view_item", product_id=product_id, site="kr", **whose)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, sqlite_ledger: Path) -> Path:
    """A home with its models, and its lists as of T. To copy."""
    home = tmp_path_factory.mktemp("trained") / "home"
    home.mkdir()
    (home / "secret.key").write_text("the key of the tests' homes")
    shutil.copy(sqlite_ledger, home / "ledger.db")
    write_rules(home, RULES)
    rng = random.Random(4)
    views = [
        seen(i, ago(rng.uniform(0.1, 25)), rng.choice([*CUSTOMERS[:195], "v1", "v2"]), f"p{i % GROUPS}{i % KIND:02}")
        for i in range(400)
    ]
    views.append(seen(400, ago(1), "v3", "new"))  # what nobody else had to do with
    lake = lake_with(
        home,
        {
            "customers": [{"customer_id": c, "signed_up_at": ago(90), "updated_at": ago(90)} for c in CUSTOMERS],
            "products": [
                *(product(f"p{k}{n:02}", category=f"kind {k}") for k in range(GROUPS) for n in range(KIND)),
                product("new", category="kind 0"),
            ],
            "events": views,
            **orders(*drawn()),
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTROLTOWER_HOME", str(home))
        train_models(T.isoformat())
    retrain(lake, T)  # the shop is too small for more than what is popular to win
    publish(lake, T, made(lake, T, *PLACEMENTS))
    return home


@pytest.fixture
def lake(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.setenv("CONTROLTOWER_HOME", str(tmp_path / "home"))
    return Lake(Settings(home=tmp_path / "home", threads=2))


def write_rules(home: Path, rules: Mapping[str, Any]) -> None:
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json") | {"recommendations": rules}))


def retrain(lake: Lake, at: datetime) -> None:
    """Let a blend serve for you, as of a moment."""
    registry, shop = Registry(lake.settings.home / "models"), load_shop(lake.settings)
    with lake.read(T) as reading:
        history = Today(reading.table, T, shop).of(registry.load(NEW, T, KINDS)[0].product_ids).customers
    blend = Blend(Blend.Config(members=("item_knn", "own_history", "popularity"), cold="popularity")).fit(history)
    for name in (NEW, REPEAT):
        card = registry.card(name, T)
        registry.store(blend, card.model_copy(update={"serves": "blend", "as_of": at, "details": {"repeat_helps": 1}}))


def made(lake: Lake, at: datetime, *placements: str) -> dict[str, batch.Lists]:
    """The lists as of a moment, with what may be taken over of an earlier day."""
    registry, shop = Registry(lake.settings.home / "models"), load_shop(lake.settings)
    with lake.read(at) as reading, lake.read(at - timedelta(seconds=1)) as before:
        today, earlier = Today(reading.table, at, shop), Earlier.of(before)
        return {name: batch.recommend(registry, today, name, 12, earlier=earlier) for name in placements}


def publish(lake: Lake, at: datetime, lists: Mapping[str, batch.Lists]) -> None:
    rows = pa.Table.from_batches([piece for one in lists.values() for piece in one.batches()], batch.SCHEMA)
    publish_rows(lake, "recommendations", interval_key(at), rows)


def shown(lists: batch.Lists) -> dict[str, list[Row]]:
    """The rows of each person, without the interval's moment."""
    found: dict[str, list[Row]] = {}
    for row in lists.rows().drop(["as_of"]).to_pylist():
        found.setdefault(row["customer_id"] or row["visitor_id"], []).append(row)
    return found


def anew(lists: batch.Lists) -> set[str]:
    """Whose list was made now."""
    return {who for who, rows in shown(lists).items() if rows[0]["made_at"].astimezone(UTC) == lists.as_of}


def changed(lake: Lake, name: str, *rows: Row) -> None:
    publish_rows(lake, name, "second", table(name, rows))


def test_who_did_nothing_keeps_the_list(lake: Lake) -> None:
    """And who acted, has no entries yet, or sees what is popular gets a new one."""
    before = {name: shown(one) for name, one in made(lake, T, *PLACEMENTS).items()}
    changed(lake, "events", seen(900, ago(-0.5), "c007", "p000"), seen(901, ago(-0.6), "v2", "p100"))
    bought = orders(order("new", "c011", ago(-0.4), ("p305", 1, 10)))
    for name, rows in bought.items():
        changed(lake, name, *rows)
    lists = made(lake, NEXT, *PLACEMENTS)
    acted = {"c007", "c011", "v2"}
    assert anew(lists["new_for_you"]) == acted | COLD
    assert anew(lists["replenish"]) == set(CUSTOMERS[:195]), "time alone changes it"
    assert anew(lists["for_you"]) == acted | COLD | leaving(T, NEXT)
    assert len(anew(lists["popular_near_you"])) == 203
    assert 2 < lists["recently_viewed_related"].taken_over < 200, "who viewed little has what is popular, too"
    for name, one in lists.items():
        new, now = anew(one), shown(one)
        assert one.made == len(new) and one.made + one.taken_over == len(now) == len(before[name])
        assert {who: rows for who, rows in now.items() if who not in new} == {
            who: rows for who, rows in before[name].items() if who not in new
        }
        fresh = shown(remade(lake, NEXT, name))
        assert {who: now[who] for who in new} == {who: fresh[who] for who in new}, "as if all were made anew"
    publish(lake, NEXT, lists)
    again = made(lake, NEXT, *PLACEMENTS)
    assert all(again[name].rows().equals(one.rows()) for name, one in lists.items()), "not of the same day's own"
    assert not sum(one.taken_over for one in made(lake, T, *PLACEMENTS).values()), "nor of a later one"


def leaving(since: datetime, until: datetime) -> set[str]:
    """Who bought a product last when it leaves the window in which what was bought isn't shown."""
    last: dict[tuple[str, str], datetime] = {}
    for head, lines in drawn():
        for whose in ((head["customer_id"], line["product_id"]) for line in lines):
            last[whose] = max(head["ordered_at"], last.get(whose, ago(99)))
    return {customer for (customer, _), at in last.items() if since < at + timedelta(days=WINDOW) <= until}


def remade(lake: Lake, at: datetime, name: str) -> batch.Lists:
    with lake.read(at) as reading:
        today = Today(reading.table, at, load_shop(lake.settings))
        return batch.recommend(Registry(lake.settings.home / "models"), today, name, 12)


def test_a_list_is_a_week_old_at_most(lake: Lake) -> None:
    for days, old in ((4, T), (7, T), (8, T + timedelta(days=8))):
        at = T + timedelta(days=days)
        lists = made(lake, at, "new_for_you")
        rows = shown(lists["new_for_you"])
        assert {r["made_at"] for c in CUSTOMERS[:195] for r in rows[c]} == {old}, days
        publish(lake, at, lists)


def test_what_is_sold_out_is_shown_no_more(lake: Lake) -> None:
    before = shown(made(lake, T, "new_for_you")["new_for_you"])
    lists_with = Counter(r["product_id"] for rows in before.values() for r in rows)
    gone = min(sorted(lists_with), key=lambda p: abs(lists_with[p] - 60))
    theirs = {who for who, rows in before.items() if gone in {r["product_id"] for r in rows}}
    changed(lake, "products", product(gone, category=f"kind {gone[1]}", in_stock=False, updated_at=ago(-0.5)))
    lists = made(lake, NEXT, "new_for_you")["new_for_you"]
    assert 20 < len(theirs - COLD) < 100 and anew(lists) == theirs | COLD
    assert gone not in {r["product_id"] for rows in shown(lists).values() for r in rows}


def test_other_rules_make_all_lists_anew(lake: Lake) -> None:
    boost = {"boosts": [{"categories": ["kind 1"], "until": "2026-06-16T12:00"}]}
    write_rules(lake.settings.home, {**RULES, "new_for_you": boost})
    lists = made(lake, NEXT, "new_for_you", "for_you")
    assert lists["new_for_you"].taken_over == 0 and lists["for_you"].taken_over > 150
    publish(lake, NEXT, lists)
    assert made(lake, NEXT + timedelta(hours=11), "new_for_you")["new_for_you"].taken_over
    assert not made(lake, NEXT + timedelta(hours=12), "new_for_you")["new_for_you"].taken_over, "its time is over"


def test_a_pin_stays_until_it_is_sold_out(lake: Lake) -> None:
    write_rules(lake.settings.home, {"new_for_you": {"pins": [{"product": "p315"}]}})
    publish(lake, NEXT, made(lake, NEXT, "new_for_you"))
    later = [made(lake, NEXT + timedelta(hours=1), "new_for_you")["new_for_you"]]
    assert later[0].taken_over > 150
    changed(lake, "products", product("p315", category="kind 3", in_stock=False, updated_at=NEXT + timedelta(hours=2)))
    publish_rows(lake, "products", "third", table("products", [
        product("p315", category="kind 3", in_stock=True, updated_at=NEXT + timedelta(hours=4))
    ]))  # fmt: skip
    for hours in (3, 5):
        at = NEXT + timedelta(hours=hours)
        later.append(made(lake, at, "new_for_you")["new_for_you"])
        assert not later[-1].taken_over
        publish(lake, at, {"new_for_you": later[-1]})
    pinned = [{r["product_id"] for rows in shown(one).values() for r in rows if r["rank"] == 1} for one in later]
    assert ["p315" in products for products in pinned] == [True, False, True]


def test_another_model_makes_all_lists_anew(lake: Lake) -> None:
    retrain(lake, NEXT)
    lists = made(lake, NEXT, "new_for_you", "recently_viewed_related")
    assert lists["new_for_you"].taken_over == 0 and lists["recently_viewed_related"].taken_over > 2


def test_who_subscribes_gets_another_list(lake: Lake) -> None:
    first = shown(made(lake, T, "replenish")["replenish"])["c020"][0]
    subscribed = {"subscription_id": "s", "customer_id": "c020", "product_id": first["product_id"], "status": "active",
                  "interval_days": 30, "updated_at": ago(-0.5)}  # fmt: skip
    changed(lake, "subscriptions", subscribed)
    lists = made(lake, NEXT, "replenish", "new_for_you")
    assert "c020" not in anew(lists["new_for_you"])
    assert first["product_id"] not in {r["product_id"] for r in shown(lists["replenish"])["c020"]}


def test_lists_without_a_basis_arent_taken_over(lake: Lake) -> None:
    """Those that an earlier version wrote."""
    with lake.read(T) as reading:
        rows = reading.arrow(reading.derived("recommendations")).drop(["basis"])
    publish_rows(lake, "recommendations", interval_key(T), rows)
    assert made(lake, NEXT, "new_for_you")["new_for_you"].taken_over == 0


def test_what_is_popular_is_made_anew_whoever_ranked_it(lake: Lake) -> None:
    """Nothing goes with what the visitor viewed, so the fusion has only what is popular to put in order."""
    lists = made(lake, NEXT, "new_for_you")["new_for_you"]
    rows = shown(lists)["v3"]
    assert {(r["algorithm"], r["reason_code"]) for r in rows} == {("fusion", "viewed_before"), ("fusion", "popular")}
    assert "v3" in anew(lists) and lists.taken_over > 150


@pytest.mark.slow
def test_the_job_says_how_many_it_took_over(lake: Lake) -> None:
    at = NEXT.isoformat()
    report = score_customers(at)
    with lake.read(NEXT) as reading:
        lists = reading.arrow(reading.derived("recommendations"))
    made_at = {(r["placement"], r["customer_id"], r["visitor_id"]): r["made_at"] for r in lists.to_pylist()}
    assert set(made_at.values()) == {T, NEXT}
    counted = {"made": list(made_at.values()).count(NEXT), "taken_over": list(made_at.values()).count(T)}
    assert report["lists"] == counted
    assert score_customers(at)["lists"] == counted
    with lake.read(NEXT) as reading:
        assert reading.arrow(reading.derived("recommendations")).equals(lists)
    assert score_customers(at, rescan=True)["lists"] == {"made": len(made_at), "taken_over": 0}


def history(order: slice = slice(None), **changes: Any) -> Interactions:
    """Four entries of two people."""
    given = {
        "customers": np.array(list("aaab"))[order], "products": np.array(list("pqpp"))[order],
        "second": np.array([10, 20, 30, 10])[order], "kind": np.array([ORDER, VIEW, VIEW, ORDER])[order],
    }  # fmt: skip
    return from_arrays(np.array(["a", "b"]), np.array(["p", "q"]), **(given | changes), until=100)


def test_the_basis_is_of_what_the_list_is_made_of() -> None:
    bars = sp.csr_matrix(np.array([[4, 0], [0, 0]], np.uint8))
    same = np.array([1, 1], np.uint64)
    plain = basis(history(), bars, same)
    assert plain[0] != plain[1]
    assert (basis(history(slice(None, None, -1)), bars, same) == plain).all()
    assert (basis(replace(history(), until=200), bars, same) == plain).all(), "time alone changes nothing"
    site = np.array([["kr", "kr|f|30"], ["kr", ""]])
    told = replace(history(), segments=site)
    others = [
        basis(history(products=np.array(list("ppqp"))), bars, same),
        basis(history(second=np.array([11, 20, 30, 10])), bars, same),
        basis(history(kind=np.array([VIEW, VIEW, VIEW, ORDER])), bars, same),
        basis(history(), bars * 2, same),
        basis(history(), sp.csr_matrix(np.array([[0, 4], [0, 0]], np.uint8)), same),
        basis(history(), sp.csr_matrix((2, 2), dtype=np.uint8), same),
        basis(history(), bars, np.array([2, 1], np.uint64)),
    ]
    assert len({plain[0], *(other[0] for other in others)}) == len(others) + 1
    assert {other[1] for other in others} == {plain[1]}, "of the other person nothing changed"
    segments = [np.array([mine, site[1]]) for mine in (site[0], ["cn", "kr|f|30"], ["kr", "kr|f|40"], site[0][::-1])]
    numbers = [basis(replace(told, segments=one), bars, same) for one in segments]
    assert len({n[0] for n in numbers}) == 4 and len({n[1] for n in numbers}) == 1
    few = told.where(told.customer == 1)
    assert basis(few, bars, same)[1] == numbers[0][1], "nor does it depend on who else is asked for"
