"""The simulated shop as a source: made once per end, in the home, and loaded like any other."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from controltower import settings
from controltower.data.lake import Lake
from controltower.errors import BadSettings
from controltower.jobs.ingest import ingest_data
from controltower.settings import Settings
from controltower.simulation import purchases
from controltower.simulation.answers import Purchase
from controltower.simulation.parameters import Parameters
from controltower.simulation.truth import Truth

from data.conftest import rows


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop of few customers and days."""
    monkeypatch.setattr(Parameters, "load", partial(Parameters.load, customers=60, days=20))


def test_it_goes_through_the_gate(lake: Lake, conf: Settings, small: None) -> None:
    report = ingest_data("simulated", end="2025-12-20")
    for table, found in report["tables"].items():
        assert found["read"] == found["loaded"] + found["duplicates"] + found["quarantined"] + found["outside"], table
        assert found["loaded"], table
    assert report["consents"] == report["tables"]["consents"]["loaded"]
    assert report["notes"] == ["the whole shop is simulated"]
    assert (conf.home / "shop.yaml").read_text().startswith("name: 하루상점")


def test_a_shop_made_for_a_later_end_serves_an_earlier_one(lake: Lake, conf: Settings, small: None) -> None:
    ingest_data("simulated", end="2025-12-20")
    orders = rows(lake, "orders")
    ingest_data("simulated", end="2025-12-18")
    assert [f.name for f in (conf.home / "simulated").iterdir()] == ["2025-12-19T150000Z"]
    assert rows(lake, "orders") == orders
    report = ingest_data("simulated", "2025-12-20", "2025-12-21")
    assert [f.name for f in (conf.home / "simulated").iterdir()] == ["2025-12-20T150000Z"]
    assert report["tables"]["events"]["duplicates"] == 0
    assert report["tables"]["events"]["outside"] > report["tables"]["events"]["loaded"]


def test_a_clock_set_back_finds_the_shop_of_that_day(
    lake: Lake, conf: Settings, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest_data("simulated", end="2025-12-18")
    first = ingest_data("simulated", "2025-12-18", "2025-12-19")["tables"]
    ingest_data("simulated", "2025-12-19", "2025-12-21")
    monkeypatch.setenv("CONTROLTOWER_NOW", "2025-12-19T12:00+09:00")
    again = ingest_data("simulated", "2025-12-18", "2025-12-19")["tables"]
    assert {t: found["loaded"] for t, found in again.items()} == {t: found["loaded"] for t, found in first.items()}
    assert [t for t, found in again.items() if found["quarantined"] != first[t]["quarantined"]] == []


def caused(conf: Settings) -> dict[str, list[dict[str, Any]]]:
    """An order that a message caused on 2025-12-18, as the answers write it."""
    truth = Truth.of_home(conf.home)
    assert truth
    customer, product = truth.customers["C000001"], truth.products["P00001"]
    at = datetime.fromisoformat("2025-12-18T12:00+09:00")
    return purchases.bought(customer, truth, Purchase(at, (product,), True, None), "Mfeed", "f" * 32)


def test_what_messages_caused_is_delivered_with_the_rest(lake: Lake, conf: Settings, small: None) -> None:
    ingest_data("simulated", end="2025-12-18")
    before = rows(lake, "orders")
    purchases.keep(conf.home, caused(conf))
    purchases.keep(conf.home, {"orders": caused(conf)["orders"]})  # a repeat after a crash
    report = ingest_data("simulated", "2025-12-18", "2025-12-19")
    assert {t["quarantined"] for name, t in report["tables"].items() if name != "events"} == {0}
    assert report["tables"]["orders"]["duplicates"] == 1
    found = {r["order_id"]: r for r in rows(lake, "orders")}
    assert found["Mfeed-251218"]["customer_id"] == "C000001"
    assert len([r for r in rows(lake, "order_lines") if r["order_id"] == "Mfeed-251218"]) == 1
    assert {r["order_id"] for r in before} < found.keys()
    assert any(r.get("click_id") == "f" * 32 for r in rows(lake, "events"))


def test_the_null_shop_is_the_same_shop_and_says_so(
    conf: Settings, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest_data("simulated", end="2025-12-18")
    real = Truth.of_home(conf.home)
    with pytest.raises(BadSettings, match=r"another simulated shop than null-shop\. Choose another home"):
        ingest_data("null-shop", end="2025-12-18")
    monkeypatch.setenv("CONTROLTOWER_HOME", str(tmp_path / "null"))
    ingest_data("null-shop", end="2025-12-18")
    null = Truth.of_home(tmp_path / "null")
    assert real
    assert null
    assert (real.effect, null.effect) == (1.0, 0.0)
    assert real.seed == null.seed
    for table in ("customers", "events", "orders"):
        one, other = (pq.read_table(t.folder / f"{table}.parquet") for t in (real, null))
        assert one.equals(other), table
    shop = settings.load_shop(settings.load())
    assert "null shop" in shop.name
    assert any("no message has any effect" in line for line in shop.made_up("en"))


def test_a_home_of_before_there_was_an_effect_goes_on(lake: Lake, conf: Settings, small: None) -> None:
    ingest_data("simulated", end="2025-12-18")
    (made,) = (conf.home / "simulated").iterdir()
    note = json.loads((made / "truth" / "shop.json").read_text())
    del note["effect"]
    (made / "truth" / "shop.json").write_text(json.dumps(note))
    assert ingest_data("simulated", "2025-12-18", "2025-12-19")["tables"]["orders"]["read"]


def test_its_size_and_seed_are_settings_and_stay_in_a_home(
    lake: Lake, conf: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLTOWER_SIMULATED_CUSTOMERS", "20")
    monkeypatch.setenv("CONTROLTOWER_SIMULATED_SEED", "7")
    ingest_data("simulated", end="2025-12-18")
    assert 10 <= len(rows(lake, "customers")) <= 40  # some sign up later
    truth = Truth.of_home(conf.home)
    assert truth
    assert truth.seed == 7
    for name, other in (("CUSTOMERS", "21"), ("SEED", "8")):
        with monkeypatch.context() as changed:
            changed.setenv(f"CONTROLTOWER_SIMULATED_{name}", other)
            with pytest.raises(BadSettings, match="another simulated shop"):
                ingest_data("simulated", "2025-12-18", "2025-12-19")
    assert ingest_data("simulated", "2025-12-18", "2025-12-19")["tables"]["events"]["read"]
