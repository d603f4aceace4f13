"""`controltower models`: which serve and why, and a whole card."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from controltower.audiences.targeting import calibration_error
from controltower.cli import app
from controltower.errors import NoData
from controltower.jobs.aiming import calibration
from controltower.jobs.cards import compared, model_card, model_cards
from controltower.jobs.predictions import Past
from controltower.models.recommend.algorithms.popularity import Popularity
from controltower.models.registry import Registry
from controltower.settings import Settings
from models.conftest import planted
from models.test_registry import card
from support.shop_tables import SHOP, T
from typer.testing import CliRunner

TABLE = [{"customers": 50, "said": 0.1, "came": 0.05}, {"customers": 50, "said": 0.3, "came": 0.4}]
DETAILS = {
    "in_service": {"version": "v1", "dates": 3, "ndcg@10": 0.21, "ours": 0.2, "stays": True},
    "backtest": [
        {
            "as_of": "2026-06-01T00:00:00+09:00",
            "customers": 100,
            "ndcg@10": 0.2,
            "baseline_ndcg@10": 0.1,
            "in_service_ndcg@10": 0.21,
        },
    ],
    "calibration": {"slope": 0.9, "table": TABLE},
    "drift": {"score_stability": 0.03},
    "columns": ["a", "b"],
}


@pytest.fixture
def versions(home: Path) -> list[str]:
    """Two versions of `m`, the newer kept what was in service; another model without a judgement."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    registry, model = Registry(home / "models"), Popularity().fit(planted())
    judged = {"metrics": {"ndcg@10": 0.2, "auc": 0.7}, "baseline_metrics": {"ndcg@10": 0.1}}
    kept = {"published": False, "why": "But what was in service was better.", "details": DETAILS}
    stored = [
        registry.store(model, card("m", -7).model_copy(update={"why": "It beat it.", **judged})),
        registry.store(model, card("m").model_copy(update=judged | kept)),
        registry.store(model, card("other", 3).model_copy(update={"why": "Too few data."})),
    ]
    return [one.version for one in stored]


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_list_has_each_models_newest_version_as_of_a_moment(versions: list[str]) -> None:
    at = T.isoformat()
    assert [c.version for c in model_cards(at)] == versions[1:2], "the other was trained later"
    assert [c.version for c in model_cards((T + timedelta(days=4)).isoformat())] == versions[1:]
    told = shown("--as-of", at)
    row = next(line for line in told.splitlines() if versions[1] in line)
    assert row.split()[-4:] == ["0.2000", "0.1000", "0.2100", "no"] and versions[0] not in told
    assert "m: But what was in service was better." in told
    assert compared(model_card("m", (T - timedelta(days=1)).isoformat())) == {
        "challenger": 0.2, "baseline": 0.1, "in_service": None,
    }  # fmt: skip


def test_a_card_can_be_read(versions: list[str]) -> None:
    told = shown("m", "--as-of", T.isoformat())
    for words in (versions[1], "ndcg@10 (decides)", "auc", "in service before: version v1", "backtest", "2026-06-01",
                  "score_stability 0.0300", "columns: a, b", "slope 0.9000",
                  "could be judged: 1. Three are wanted"):  # fmt: skip
        assert words in told
    low, high = (line for line in told.splitlines() if line.startswith("  50"))
    assert low.split()[1:3] == ["0.1000", "0.0500"] and low.count("#") == 5 and low.index("|") > low.rindex("#")
    assert high.count("#") == 39 and high.index("|") < high.rindex("#"), "more came than was said"


def test_what_is_not_there_is_told(home: Path, versions: list[str]) -> None:
    with pytest.raises(NoData, match="There are: m, other"):
        model_card("clv")
    with pytest.raises(NoData, match="controltower train"):
        model_cards((T - timedelta(days=30)).isoformat())


def test_how_far_totals_were_off_is_read_from_the_card(home: Path) -> None:
    row = {"customers": 1000, "expected": 200.0, "came": 300, "variance": 100.0}
    of_older_code = {"customers": 1000, "expected": 5.0, "bought": 9, "variance": 1.0}
    details = {"backtest": [row] * 3 + [{"customers": 1000}, of_older_code]}
    model = Popularity().fit(planted())
    Registry(home / "models").store(model, card("next_order").model_copy(update={"details": details}))
    with Past.of(Settings(home=home), SHOP, T) as past:
        assert calibration(past, "next_order") == calibration_error([200.0] * 3, [300.0] * 3, [100.0] * 3) > 0.2
        silent = calibration(past, "next_order", absent=True)
        assert silent == calibration_error([800.0] * 3, [700.0] * 3, [100.0] * 3) and 0.05 < silent < 0.15
        assert np.isnan(calibration(past, "clv"))
