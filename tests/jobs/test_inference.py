"""Profiles of the simulated shop, whose truth is known: of whom something is inferred, how well, how it is shown."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from controltower import settings
from controltower.data.lake import Lake, interval_key
from controltower.jobs import exports, inference
from controltower.jobs.customer import show_customer
from controltower.jobs.predictions import Past
from controltower.jobs.privacy import erase_person
from controltower.jobs.training import store
from controltower.ledger import consents
from controltower.ledger.database import begin
from controltower.models.base import Outcome
from controltower.models.registry import Registry
from controltower.models.traits import ages, items, training
from controltower.models.traits.model import Trait
from controltower.settings import INCLUDE, Settings
from support import simulated_lake
from support.lakes import publish_rows
from support.shop_tables import event, table
from threadpoolctl import threadpool_limits

AS_OF = datetime.fromisoformat("2026-06-05T07:00:00+09:00")
BEFORE = AS_OF - timedelta(days=2)
NEW = ("parent", "newcomer", "silent")
LENGTHS = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30)


class Made(NamedTuple):
    conf: Settings
    lake: Lake
    truth: dict[str, dict[str, Any]]
    models: dict[str, Outcome]


def said(conf: Settings, customer: str, granted: bool, at: datetime, channel: str = "email") -> None:
    row = {"customer_id": customer, "channel": channel, "purpose": "profiling", "recorded_at": at, "granted": granted,
           "source": "test"}  # fmt: skip
    with begin(conf) as ledger:
        consents.record(ledger, [row])


def trained(conf: Settings, lake: Lake) -> dict[str, Outcome]:
    with threadpool_limits(limits=1):
        return {o.name: o for o in inference.train_traits(conf, lake, AS_OF, settings.load_shop(conf))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sqlite_ledger: Path) -> Made:
    """The shop, with a visitor of baby things: `parent` agreed to profiling and told nothing of themselves."""
    home = tmp_path_factory.mktemp("home")
    (home / "secret.key").write_text("the key of the tests' homes")
    shutil.copy(sqlite_ledger, home / "ledger.db")
    shutil.copy(INCLUDE / "shops" / "simulated.yaml", home / "shop.yaml")
    conf = Settings(home=home)
    truth = simulated_lake.make(conf, AS_OF, customers=3000, days=180)
    lake = Lake(conf)
    with lake.read(AS_OF) as reading:
        products = reading.table("products")
        by_title = {r["title"]: r["product_id"] for r in reading.arrow(products).to_pylist()}
    looked = [min(p for title, p in by_title.items() if word in title) for word in ("젖병", "기저귀", "분유")]
    publish_rows(
        lake, "customers", "second", table("customers", [{"customer_id": c, "updated_at": BEFORE} for c in NEW])
    )
    seen = [
        event(f"{c}-{n}", c, BEFORE + timedelta(minutes=n), "view_item", product_id=product)
        for c in NEW if c != "newcomer" for n, product in enumerate(looked)
    ]  # fmt: skip
    publish_rows(lake, "events", "second", table("events", seen))
    for customer in NEW[:2]:
        said(conf, customer, True, BEFORE)
    models = trained(conf, lake)
    for outcome in models.values():
        store(Registry(home / "models"), outcome, AS_OF, AS_OF)
    bought = {"days_since_last_order": 3.0, "orders_total": 2.0, "revenue_total": 9.0}
    rows = [{"customer_id": c, "as_of": AS_OF, **bought} for c in (*truth, *NEW)]
    publish_rows(lake, "features", interval_key(AS_OF), pa.Table.from_pylist(rows))
    return Made(conf, lake, truth, models)


def profiles(made: Made) -> dict[str, dict[str, Any]]:
    """By customer, as they may be used."""
    registry, shop = Registry(made.conf.home / "models"), settings.load_shop(made.conf)
    with made.lake.read(AS_OF) as reading:
        found = inference.profile_rows(made.conf, reading, registry, AS_OF, shop)
        assert found.served == dict.fromkeys(training.NAMES, "items_logistic") and not found.lacking
        publish_rows(made.lake, "profiles", interval_key(AS_OF), found.rows.read_all())
    with made.lake.read(AS_OF) as reading:
        table = reading.arrow(inference.usable(made.conf, reading, AS_OF))
    return {row["customer_id"]: row for row in table.to_pylist()}


@pytest.fixture(scope="module")
def found(made: Made) -> dict[str, dict[str, Any]]:
    return profiles(made)


def inferred(row: dict[str, Any]) -> set[str]:
    return {name for name, value in row.items() if name.startswith("inferred_") and value is not None}


def test_who_viewed_a_baby_bottle_nappies_and_formula_is_a_woman_of_about_33(
    made: Made, found: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = found["parent"]
    assert (parent["inferred_gender"], parent["told_gender"], parent["told_age"]) == ("female", None, None)
    assert 31 <= parent["inferred_age"] <= 35
    assert 24 <= parent["inferred_age_from"] < parent["inferred_age_to"] <= 43
    assert parent["inferred_age_band"] in ("30_34", "35_39") and parent["inferred_from_items"] == 3
    assert parent["preferred_category"].startswith("육아 > ")
    assert found["newcomer"]["inferred_gender"] is found["newcomer"]["inferred_age"] is None, "nothing to tell from"
    assert inferred(found["newcomer"]) == {"inferred_from_items", "inferred_by"}, "not even the prior"
    assert found["newcomer"]["inferred_from_items"] == 0
    assert not inferred(found["silent"]), "they viewed the same, and didn't agree"
    _shown_as_inferred(made, parent, monkeypatch)


def _shown_as_inferred(made: Made, parent: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_HOME", str(made.conf.home))
    shown = show_customer("parent", AS_OF.isoformat())["profile"]
    assert shown["inferred_gender"] == "female" and shown["journey"] == "left_without_cart"
    assert not {"gender", "age"} & shown.keys()
    years = shown["inferred_age_years"]
    assert sum(years.values()) == pytest.approx(1) and max(years, key=years.__getitem__) in range(30, 38)
    assert sum(years[y] for y in range(30, 35)) == pytest.approx(parent["inferred_age_30_34_probability"])


def labels(made: Made, name: str, customers: np.ndarray) -> np.ndarray:
    """The truth as positions in the model's classes."""
    people = [made.truth[c] for c in customers.tolist()]
    if name == "gender":
        return np.array([["female", "male"].index(p["gender"]) for p in people])
    return ages.band_of(np.array([(AS_OF.date() - p["birth_date"]).days // 365.25 for p in people]))


@pytest.fixture(scope="module")
def others(made: Made) -> items.Histories:
    """All who told nothing, those too who don't agree: the models know none of them."""
    with made.lake.read(AS_OF) as reading:
        customers = reading.table("customers")
        rows = reading.arrow(customers.filter(customers.gender.isnull()).select("customer_id"))
        silent = set(rows["customer_id"].to_pylist()) - set(NEW)
        return items.read(reading.table, AS_OF, settings.load_shop(made.conf), silent)


@pytest.mark.parametrize("name", training.NAMES)
def test_it_is_never_worse_than_the_prior_whatever_the_history(made: Made, others: items.Histories, name: str) -> None:
    model = made.models[name].model
    assert isinstance(model, Trait)
    for length in LENGTHS:
        some = others.of(np.flatnonzero(others.lengths >= length)).first(length)
        label = labels(made, name, some.customer_ids)
        p = model.predict(some)[np.arange(len(label)), label]
        gain = np.mean(np.log(p) - np.log(model.prior[label]))
        assert gain >= 0.03 if length >= 5 else gain > 0 if length else abs(gain) < 1e-9, (length, gain)


def test_what_is_said_is_mostly_right_and_as_often_as_it_says(made: Made, others: items.Histories) -> None:
    gender = made.models["gender"].model
    assert isinstance(gender, Trait)
    p, label = gender.predict(others), labels(made, "gender", others.customer_ids)
    sure = p.max(axis=1) >= 0.7
    assert 0.3 < sure.mean() < 0.9 and (p.argmax(axis=1) == label)[sure].mean() > 0.8
    for low, high in ((0, 0.5), (0.5, 0.7), (0.7, 0.85), (0.85, 1)):
        group = (p[:, 0] > low) & (p[:, 0] <= high)
        assert abs((label[group] == 0).mean() - p[group, 0].mean()) < 0.1
    card = made.models["age_band"]
    assert card.metrics["log_loss"] < card.baseline_metrics["log_loss"]
    assert {"0", "1", "2", "3", "5", "10", "20"} == card.details["by_items"].keys()
    assert card.metrics["right_where_said"] > 0.75 and card.metrics["years_off_where_said"] < 6


def test_only_of_and_from_those_who_agree(made: Made, found: dict[str, dict[str, Any]]) -> None:
    agreed = inference.agreed(made.conf, AS_OF)
    told = {c for c, row in found.items() if row["told_gender"]}
    assert made.models["gender"].rows == {"customers": len(told & agreed)} and told - agreed
    assert {c for c, row in found.items() if inferred(row)} == agreed - told
    with made.lake.read(AS_OF) as reading:
        kept = reading.arrow(reading.derived("profiles")).to_pylist()
    assert {row["customer_id"] for row in kept if inferred(row)} == agreed - told, "nothing of others is even kept"


def copy_of(made: Made, tmp_path: Path) -> Made:
    shutil.copytree(made.conf.home, tmp_path / "home")
    conf = Settings(home=tmp_path / "home")
    return made._replace(conf=conf, lake=Lake(conf))


def test_what_becomes_known_later_changes_nothing(
    made: Made, found: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later, after = copy_of(made, tmp_path), AS_OF + timedelta(minutes=1)
    born = AS_OF.date().replace(year=1950)
    told = [{"customer_id": c, "updated_at": after, "gender": "male", "birth_date": born} for c in list(found)[:900]]
    publish_rows(later.lake, "customers", "later", table("customers", told))
    late = {"received_at": after, "product_id": "P00001"}
    seen = [event(f"late-{c}", c, BEFORE, "view_item", **late) for c in found]
    publish_rows(later.lake, "events", "later", table("events", seen))
    for name, outcome in trained(later.conf, later.lake).items():
        ours, theirs = outcome.model._state(), made.models[name].model._state()
        assert all(np.array_equal(ours[key], theirs[key], equal_nan=key == "coefficients") for key in ours)
        assert outcome.details == made.models[name].details
    monkeypatch.setattr(inference, "SLICE", 1_000)
    assert profiles(later) == found, "nor does it matter of how many customers is inferred at a time"


def test_who_withdrew_or_was_erased_is_neither_learned_from_nor_inferred(
    made: Made, found: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = copy_of(made, tmp_path)
    monkeypatch.setenv("CONTROLTOWER_HOME", str(left.conf.home))
    agreed = inference.agreed(left.conf, AS_OF)
    erased, withdrew = [c for c in sorted(agreed) if found[c]["told_gender"] and found[c]["preferred_category"]][:2]
    erase_person(erased)
    for customer in ("parent", withdrew):
        said(left.conf, customer, False, AS_OF + timedelta(days=1), "push")
    with left.lake.read(AS_OF) as reading:
        rows = reading.arrow(inference.usable(left.conf, reading, AS_OF, ["parent", "newcomer", erased])).to_pylist()
    assert {r["customer_id"]: bool(inferred(r)) for r in rows} == {"parent": False, "newcomer": True}, "at once"
    assert trained(left.conf, left.lake)["gender"].rows["customers"] == made.models["gender"].rows["customers"] - 2
    assert not inference.agreed(left.conf, AS_OF) & {"parent", withdrew, erased}, "the past too, from now on"


def test_scores_are_exported_with_gender_and_age_of_who_agreed(
    made: Made, found: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLTOWER_HOME", str(made.conf.home))
    ids = sorted(found)
    publish_rows(made.lake, "scores", interval_key(AS_OF), pa.table({"customer_id": ids, "clv_30d": [1.0] * len(ids)}))
    rows = {row["customer_id"]: row for row in exports.scores(AS_OF.isoformat()).to_pylist()}
    assert sorted(rows) == ids
    bands = [f"age_{band}" for band in ages.BANDS]
    parent = rows["parent"]
    assert parent["gender_female"] == found["parent"]["inferred_female_probability"] > 0.7
    assert parent["gender_female"] + parent["gender_male"] == pytest.approx(1) == sum(parent[b] for b in bands)
    assert parent["profile_model_version"].startswith("gender@")
    agreed = inference.agreed(made.conf, AS_OF)
    told = [c for c in ids if found[c]["told_gender"] in ("female", "male") and found[c]["told_age"] is not None]
    those, others = ([c for c in told if (c in agreed) is wanted] for wanted in (True, False))
    assert those and others
    for c in those:
        assert {rows[c]["gender_female"], rows[c]["gender_male"]} == {1.0, 0.0}
        assert rows[c][f"gender_{found[c]['told_gender']}"] == 1.0
        assert [b for b in bands if rows[c][b] == 1.0] == [f"age_{ages.BANDS[ages.band_of(found[c]['told_age'])]}"]
    for c in (*others, "silent"):
        assert {rows[c][name] for name in ("gender_female", "gender_male", *bands, "profile_model_version")} == {None}


def test_evaluating_holds_customers_out(made: Made) -> None:
    shop = settings.load_shop(made.conf)
    with threadpool_limits(limits=1), Past.of(made.conf, shop, BEFORE) as past:
        judged = inference.evaluate(past, AS_OF)
    assert [(row["trait"], row["model"]) for row in judged.rows] == [
        (trait, model) for trait in training.NAMES for model in ("items_logistic", "prior")
    ]
    for ours, theirs in (judged.rows[:2], judged.rows[2:]):
        assert ours["log_loss"] < theirs["log_loss"] and ours["customers"] == theirs["customers"] > 100
        assert ours["said"] > theirs["said"] == 0 and theirs["right_where_said"] is None
    assert all(s.endswith("better beyond chance.") for s in judged.said)
