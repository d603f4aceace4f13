"""The pages on all customers: what became of the scores' segments, and who moves between the stages."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pyarrow as pa
import pytest
from controltower.data.lake import Lake, interval_key
from controltower.settings import Settings
from controltower.web.tower import desk
from starlette.testclient import TestClient
from support.lakes import publish_rows
from support.scored_shop import NOW
from support.shop_tables import lake_with, order, orders

from web.tower.test_pages import text

N = 200
IDS = [f"c{n:03}" for n in range(N)]
NIGHT = NOW - timedelta(hours=9)  # the shop's midnight
KOREAN = {"Accept-Language": "ko"}


@pytest.fixture
def scored(shop: Settings) -> Settings:
    """Scored ten, eight and seven days ago and today; the likeliest 20 bought a week ago. All are active since."""
    lake = Lake(shop)
    made = [order(f"o{n}", IDS[n], NOW - timedelta(days=7), ("p0", 1, 5)) for n in range(20)]
    lake_with(shop.home, orders(*made), interval=f"../{NOW.isoformat()}")
    for days in (10, 8, 7, 0):
        score(lake, NIGHT - timedelta(days=days), "new" if days else "active")
    return shop


def score(lake: Lake, at: datetime, stage: str, n: int = N) -> None:
    who = {"customer_id": IDS[:n], "as_of": pa.array([at] * n, pa.timestamp("us", tz="UTC"))}
    chances = {f"propensity_{h}d": [1 - k / n for k in range(n)] for h in (1, 7, 28)}
    scores = chances | {"dormancy_28d": [0.9] * n, "model_version": ["propensity_7d@<b>"] * n}
    publish_rows(lake, "scores", interval_key(at), pa.table(who | scores))
    known = {"days_since_last_order": 40.0, "purchase_days": 2.0, "mean_gap_days": 20.0, "lifecycle": stage}
    features = who | {name: [value] * n for name, value in known.items()}
    publish_rows(lake, "features", interval_key(at), pa.table(features))


def test_segments_with_what_became_of_them(tower: TestClient, scored: Settings) -> None:
    shown = tower.get("/segments").text
    page = text(shown)
    assert "Scored as of 2026-06-08 00:00 KST (Asia/Seoul) Judged until 2026-06-15 00:00 KST" in page
    assert "Customers 200 Bought 20 Rate 10.00 %" in page
    assert "first 1 % top_1 2 2 100.00 % 34.24 % – 100.00 % 10.0 ×" in page
    assert "the other half rest 100 0 0.00 % 0.00 % – 3.70 % 0.0 ×" in page
    assert "Scored by propensity_7d@&lt;b&gt;." in shown and "the column segment_7d" in page
    assert shown.count('<rect class="ours"') == shown.count('<rect class="recency"') == 6
    widths = [float(w) for w in re.findall(r'<rect class="ours" x="130" y="\d+" width="([\d.]+)"', shown)]
    assert widths == [400.0, 400.0, 400.0, 0.0, 0.0, 0.0], "the longest is as long as there is room"


def test_segments_of_a_handful_of_customers(tower: TestClient, scored: Settings) -> None:
    score(Lake(scored), NIGHT - timedelta(days=7), "new", n=3)
    shown = tower.get("/segments").text
    assert "first 1 % top_1 0 – – – – – – 1 to 5 %" in text(shown)
    assert shown.count('<rect class="ours"') == 3 and "the other half rest 1 1 100.00 %" in text(shown)


def test_another_day_and_another_horizon(tower: TestClient, scored: Settings) -> None:
    links = re.findall(r'href="(/segments\?horizon=7&amp;scored=[^"]+)"', tower.get("/segments").text)
    assert len(links) == 3
    assert "Scored as of 2026-06-05 00:00 KST" in text(tower.get(links[2].replace("&amp;", "&")).text)
    page = text(tower.get("/segments?horizon=28").text)
    assert "The days after the first scoring aren't over yet" in page
    assert "as of 2026-06-05 00:00 KST (Asia/Seoul) can be judged from 2026-07-03 00:00 KST (Asia/Seoul) on." in page
    assert "Orders are known until 2026-06-15 09:00 KST" in page


def test_stages_and_moves(tower: TestClient, scored: Settings) -> None:
    page = text(tower.get("/lifecycle").text)
    assert "as of 2026-06-15 00:00 KST" in page and "not bought yet 0 new 0 active 200 lapsing 0 lost 0" in page
    assert "From, to active new 200 From the rows, where they stood 2026-06-08 00:00 KST" in page
    assert "Expected within 28 days From, to active lapsing active 20 12 – 28 180 172 – 188" in page
    assert "It holds chance only" in page
    assert "There are no features of 28 days before" in text(tower.get("/lifecycle?days=28").text)


@pytest.mark.parametrize("path", ["/segments", "/lifecycle"])
def test_before_the_first_scores(tower: TestClient, shop: Settings, path: str) -> None:
    """The shop of the other tests has scores without such chances, and features without stages."""
    empty = Lake(shop)
    for table in ("scores", "features"):
        empty.drop({table: {key: load.parts for key, load in empty.manifest().loads(table).items()}})
    answer = tower.get(path)
    assert answer.status_code == 200
    assert re.search("Nobody has been scored yet|Nothing is known of customers yet", text(answer.text))


def test_pages_are_in_korean_and_keep_the_policy(tower: TestClient, scored: Settings) -> None:
    names = {"lifecycle", "lifecycle_a_week_ago", "propensity_", "segment_", "top_", "_to_", "rest"}
    ours = names | {"Control", "Tower", "Asia", "Seoul", "Haru"}
    for path in ("/segments", "/segments?horizon=28", "/lifecycle", "/lifecycle?days=28"):
        answer = tower.get(path, headers=KOREAN)
        assert set(re.findall(r"[A-Za-z_]{4,}", text(answer.text))) - ours == set(), path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.text.count("<script") == 1 and "style=" not in answer.text
    assert "AI 세그먼트" in tower.get("/", headers=KOREAN).text


def test_what_cant_be_asked(tower: TestClient, scored: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"horizon=14": 400, "scored=2026-06-01": 404, "scored=x": 409, "scored=" + "9" * 41: 400}
    assert {query: tower.get(f"/segments?{query}").status_code for query in asked} == asked
    assert tower.get("/lifecycle?days=3").status_code == 400
    monkeypatch.setattr(desk, "PATIENCE", 0.01)
    with tower.app.state.desk.one_at_a_time():  # type: ignore[attr-defined]
        assert tower.get("/segments").status_code == tower.get("/lifecycle").status_code == 409
