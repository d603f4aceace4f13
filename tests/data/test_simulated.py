"""The simulated shop as a source: made once per end, in the home, and loaded like any other."""

from __future__ import annotations

from functools import partial

import pytest
from controltower.data.lake import Lake
from controltower.jobs.ingest import ingest_data
from controltower.settings import Settings
from controltower.simulation.parameters import Parameters

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
