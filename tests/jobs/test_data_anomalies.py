"""Odd data stops campaigns until it is mended, accepted, or let through by a second person: on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from controltower import clock
from controltower.data.anomalies import Load
from controltower.data.gate import Interval
from controltower.errors import Anomaly
from controltower.jobs.anomalies import accept_data, look_over_load
from controltower.jobs.campaigns import plan_campaign, preview_campaign
from controltower.jobs.doctor import examine
from controltower.jobs.summary import summarise
from controltower.ledger.database import reading
from controltower.ledger.tables import campaign_runs, loads
from controltower.settings import Settings
from controltower.web.tower.app import create_app
from starlette.testclient import TestClient
from support import scored_shop
from support.visitors import Door

DAY = timedelta(days=1)


@pytest.fixture
def shop(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """One campaign, `spring`; nothing waits for approval."""
    conf = scored_shop.make(ledger_settings.home, monkeypatch)
    scored_shop.write_shop(conf, approve_above=None)
    return conf


def brought(conf: Settings, days_ago: int, rows: int, table: str = "events") -> list[Any]:
    """A day's load of a table."""
    end = clock.now(conf) - days_ago * DAY
    interval = Interval(f"{days_ago} days ago", end - DAY, end, "UTC", "file", clock.now(conf))
    return look_over_load(conf, "shop", interval, {table: Load(end - DAY, end, rows, newest=end)})


def test_a_day_without_events_stops_campaigns_until_it_is_accepted(shop: Settings) -> None:
    assert [len(brought(shop, ago, rows)) for ago, rows in ((3, 500), (2, 500), (1, 0))] == [0, 0, 1]
    with pytest.raises(Anomaly, match=r"no events in the load up to .*; usually 500") as stopped:
        plan_campaign("spring")
    assert "controltower data accept TABLE" in stopped.value.remedy
    assert "despite_anomaly" in stopped.value.remedy
    assert preview_campaign("spring", customers=0)["messages"] == 8
    assert [f["text"][:50] for f in examine() if f["name"] == "data"] == [
        "Campaigns aren't planned: no events in the load up"
    ]
    assert len(summarise()["anomalies"]) == 1
    with TestClient(create_app(shop, Door())) as http:
        assert "이벤트 자료가 없습니다. 평소에는 500건입니다" in http.get("/", headers={"Accept-Language": "ko"}).text
        page = http.get("/", headers={"Accept-Language": "en"}).text
    assert "campaigns aren&#39;t planned" in page
    assert "no events in the load up to" in page
    accept_data("events", "the shop was closed", by="ann")
    assert plan_campaign("spring")["hold"] is None
    assert (summarise()["anomalies"], [f["ok"] for f in examine() if f["name"] == "data"]) == ([], [True])
    with reading(shop) as ledger:
        row = ledger.execute(loads.select().where(loads.c.is_odd)).one()
    assert (row.accepted_by, row.accepted_why, row.accepted_at) == ("ann", "the shop was closed", clock.now(shop))


def test_a_second_person_may_let_it_through(shop: Settings) -> None:
    for ago, rows in ((3, 500), (2, 500), (1, 5001)):
        brought(shop, ago, rows)
    assert plan_campaign("spring", form={"despite_anomaly": True})["hold"] == "approval"
    with reading(shop) as ledger:
        policy = ledger.execute(campaign_runs.select()).one().policy
    assert [odd["code"] for odd in policy["anomalies"]] == ["many_rows"]


def test_loading_the_interval_again_makes_it_good(shop: Settings) -> None:
    for ago, rows in ((3, 500), (2, 500), (1, 0)):
        brought(shop, ago, rows)
    assert brought(shop, 1, 480) == []
    assert plan_campaign("spring")["messages"] == 8


def test_stale_facts_stop_campaigns(shop: Settings) -> None:
    brought(shop, 3, 500)
    with pytest.raises(Anomaly, match=r"the events are 72 hours old, of .*, and may be 48 at most"):
        plan_campaign("spring")
    assert brought(shop, 1, 500) == []
    assert plan_campaign("spring")["messages"] == 8


def test_a_recording_of_the_past_is_never_stale(shop: Settings) -> None:
    brought(shop, 30, 500, "orders")
    scored_shop.write_shop(shop, approve_above=None, recorded_orders=True)
    assert plan_campaign("spring")["messages"] == 8
