"""The pages on models: which serve beside what, a card with its plot, and nothing where there is none."""

from __future__ import annotations

import re

import pytest
from controltower.measurement.charts import calibration
from controltower.models.recommend.algorithms.popularity import Popularity
from controltower.models.registry import Registry
from controltower.settings import Settings
from jobs.test_cards import DETAILS
from models.conftest import planted
from models.test_registry import card
from starlette.testclient import TestClient

from web.tower.test_pages import text


@pytest.fixture
def trained(shop: Settings) -> Settings:
    kept = {"published": False, "why": "But what was in service <b>was</b> better.", "details": DETAILS}
    judged = {"metrics": {"ndcg@10": 0.2}, "baseline_metrics": {"ndcg@10": 0.1}}
    registry, model = Registry(shop.home / "models"), Popularity().fit(planted())
    registry.store(model, card("m", -1).model_copy(update=judged | kept))
    registry.store(model, card("other", -1))
    return shop


def test_the_models_that_serve(tower: TestClient, trained: Settings) -> None:
    shown = tower.get("/models").text
    assert "popularity ndcg@10 0.2000 0.1000 0.2100 no" in text(shown)
    assert "popularity ndcg@10 – – – yes" in text(shown) and 'href="/models/other"' in shown


def test_a_card_with_its_plot(tower: TestClient, trained: Settings) -> None:
    shown = tower.get("/models/m").text
    assert "But what was in service &lt;b&gt;was&lt;/b&gt; better." in shown
    assert shown.count('<rect class="ours"') == 2 and "0.0300 (above 0.25" in text(shown)
    assert "2026-06-01 0.2000 0.1000" in text(shown)
    plain = tower.get("/models/other")
    assert plain.status_code == 200 and '<rect class="ours"' not in plain.text
    assert tower.get("/models/clv").status_code == 404 and tower.get("/models/A").status_code == 404


def test_before_the_first_training(tower: TestClient, shop: Settings) -> None:
    for path in (shop.home / "models").rglob("[0-9]*.json"):
        path.unlink()
    assert "No model was trained yet." in text(tower.get("/models").text)


def test_the_words_are_korean(tower: TestClient, trained: Settings) -> None:
    answer = tower.get("/models", headers={"Accept-Language": "ko"})
    ours = {"Control", "Tower", "Asia", "Seoul", "Haru", "popularity", "ndcg", "other"}
    assert set(re.findall(r"[A-Za-z_]{4,}", text(answer.text))) - ours == set()
    assert "default-src 'none'" in answer.headers["content-security-policy"] and "style=" not in answer.text


def test_what_was_said_and_came_on_one_axis() -> None:
    chart = calibration([{"said": 0.1, "came": 0.2}, {"said": 0.4, "came": -0.1}])
    assert (chart.points, chart.most) == (((60.0, 120.0), (240.0, 240.0)), 0.4)
    assert calibration([{"said": 0.0, "came": 0.0}]).points == ((0.0, 240.0),)
