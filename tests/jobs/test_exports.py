"""The likeliest buyers as a file."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from controltower.errors import NoData
from controltower.jobs.exports import export_top_customers
from controltower.settings import Settings, load
from support.daily_shop import open_shop, score

NOW = datetime.fromisoformat("2026-06-15T06:30+09:00")
SCORED = NOW - timedelta(hours=6)


@pytest.fixture
def shop(home: object) -> Settings:
    open_shop(load(), NOW, ["c0", "c1", "c2"])
    return load()


def test_the_likeliest_buyers_are_written_and_written_again(shop: Settings) -> None:
    score(shop, SCORED, ["c2", "c1", "c0"])
    for _ in range(2):
        report = export_top_customers(SCORED.isoformat(), at_most=2)
        assert (datetime.fromisoformat(report["as_of"]), report["customers"]) == (SCORED, 2)
        rows = (shop.home / "exports" / report["file"]).read_text().splitlines()
        assert [row.split(",")[0].strip('"') for row in rows] == ["customer_id", "c0", "c1"]
    assert len(list((shop.home / "exports").iterdir())) == 1
    assert export_top_customers()["customers"] == 3, "as of the clock's now"


def test_without_scores_it_says_what_to_run(shop: Settings) -> None:
    with pytest.raises(NoData, match="no scores"):
        export_top_customers()
