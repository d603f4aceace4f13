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
    assert "2026-06-01 00:00 100 0.2000 0.1000 0.2100" in text(shown)
    assert "Baseline: ndcg@10 In service before: ndcg@10" in text(shown) and "could be judged: 1. Three" in text(shown)
    assert '<line class="span"' not in shown
    plain = tower.get("/models/other")
    assert plain.status_code == 200 and '<rect class="ours"' not in plain.text
    assert tower.get("/models/clv").status_code == 404 and tower.get("/models/A").status_code == 404


def test_intervals_effects_below_nothing_and_drift_without_a_plot(tower: TestClient, shop: Settings) -> None:
    registry, model = Registry(shop.home / "models"), Popularity().fit(planted())
    fifths = [{"customers": 9, "said": s, "came": s, "low": s - 0.02, "high": s + 0.02} for s in (-0.02, 0.01)]
    rows = [{"as_of": f"2026-06-0{n}T00:00:00+09:00", "customers": 9, "qini": None} for n in (3, 2, 1)]
    for name, details in (
        ("uplift", {"calibration": {"table": fifths}, "backtest": rows}),
        ("drifts", {"backtest": []}),
    ):
        registry.store(
            model, card(name, -1).model_copy(update={"details": details | {"drift": {"score_stability": 0.5}}})
        )
    shown = tower.get("/models/uplift").text
    assert shown.count('<line class="span"') == 2 and "95 % interval" in text(shown) and ">-0.04</text>" in shown
    assert "could be judged" not in text(shown) and "2026-06-03 00:00 9 –" in text(shown)
    alone = text(tower.get("/models/drifts").text)
    assert "0.5000 (above 0.25" in alone and "could be judged: 0. Three" in alone


def test_before_the_first_training(tower: TestClient, shop: Settings) -> None:
    for path in (shop.home / "models").rglob("[0-9]*.json"):
        path.unlink()
    assert "No model was trained yet." in text(tower.get("/models").text)


def test_the_words_are_korean(tower: TestClient, trained: Settings) -> None:
    ours = {"Control", "Tower", "Asia", "Seoul", "Haru", "popularity", "ndcg", "other"}
    for page, why in (("/models", set()), ("/models/m", {"what", "service", "better"})):
        answer = tower.get(page, headers={"Accept-Language": "ko"})
        assert set(re.findall(r"[A-Za-z_]{4,}", text(answer.text))) - ours == why, "reasons are told in English"
    assert "default-src 'none'" in answer.headers["content-security-policy"] and "style=" not in answer.text


def test_what_was_said_and_came_on_one_axis() -> None:
    chart = calibration([{"said": 0.1, "came": 0.2}, {"said": 0.4, "came": 0.0}])
    assert (chart.points, chart.most, chart.least, chart.zero) == (((60.0, 120.0), (240.0, 240.0)), 0.4, 0.0, 0.0)
    assert calibration([{"said": 0.0, "came": 0.0}]).points == ((0.0, 240.0),)
    below = calibration([{"said": 0.1, "came": -0.1, "low": -0.2, "high": 0.2}])
    assert (below.points, below.spans, below.zero) == (((180.0, 180.0),), ((180.0, 240.0, 0.0),), 120.0)
