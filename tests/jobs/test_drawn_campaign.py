"""A simulated campaign that drew whom not to write to, sent on one day: the same commands as for real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from controltower.cli import app
from controltower.data.lake import Lake
from controltower.jobs.predictions import Now, Past, uplift
from controltower.jobs.profiles import build_profiles
from controltower.jobs.training import store
from controltower.models.registry import Registry
from controltower.profiles.features import NAMES
from controltower.settings import load
from support import drawn_campaign
from support.shop_tables import SHOP
from typer.testing import CliRunner

AFTER = "2026-04-20"  # 19 days after the only mail


def loaded(home: Path, **how: Any) -> None:
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    drawn_campaign.write(home / "data", **how)
    assert run("ingest", "--source", str(home / "data"))


def run(*command: str) -> str:
    done = CliRunner().invoke(app, list(command))
    assert done.exit_code == 0, done.output
    return done.stdout


def evaluated(days: int) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The report, and what is said of each outcome by the learner."""
    report = json.loads(run("evaluate", "--task", "uplift", "--as-of", AFTER, "--days", str(days), "--json", "--out",
                            "rows.json"))  # fmt: skip
    rows = json.loads(Path("rows.json").read_text())
    return report, {row["outcome"]: row for row in rows if row["model"] != "treat_all"}


@pytest.mark.slow
def test_whom_the_mail_changes_is_found(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded(home, changes=True, customers=4000)
    report, rows = evaluated(28)
    assert rows.keys() == {"visited", "converted", "spent"}
    found = rows["converted"]
    assert found["judged"] == "in turns" and "customers of all were split" in report["said"][1]
    assert found["recommends"] == "target" and found["qini_low"] > 0
    assert found["customers"] == 4000 and found["effect_low"] < 0.04 < found["effect_high"]
    at = drawn_campaign.SENT.replace(day=20, hour=0)
    conf = load()
    with Past.of(conf, SHOP, at) as past:
        (outcome,) = uplift.train(past)
        store(Registry(home / "models"), outcome, at, at)
    assert outcome.published and outcome.details["campaigns"] == ["spring mail"]
    build_profiles(AFTER)
    with Lake(conf).read(at) as reading:
        features = reading.frame(reading.derived("features").select("customer_id", *NAMES))
        features = features.set_index("customer_id").astype(float)
        ids = np.array(features.index, dtype=np.str_)
        scored = uplift.score(Now(conf, SHOP, reading, Registry(home / "models"), at, ids, features))
    said = pa.table(scored).to_pandas()
    lately = features["days_since_last_order"].to_numpy() < drawn_campaign.RECENT
    assert said["uplift"][lately].mean() > said["uplift"][~lately].mean() + 0.05
    assert 0 < said["uplift_error"].iloc[0] < 0.08


@pytest.mark.slow
def test_where_the_mail_changes_nobody_no_effect_is_claimed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded(home, changes=False, customers=3000, seed=4)
    _, rows = evaluated(28)
    for row in rows.values():
        assert row["recommends"] == "treat_all" and row["qini_low"] < 0 and row["effect_low"] < 0 < row["effect_high"]


def test_without_a_drawn_campaign_everybody_is_written_to(home: Path, tmp_path: Path) -> None:
    loaded(home, changes=True, customers=30)
    at = drawn_campaign.SENT  # before its answers are over
    with Past.of(load(), SHOP, at) as past:
        (outcome,) = uplift.train(past)
    assert outcome.model.name == "treat_all" and outcome.why.startswith("No campaign of the last year kept")
    refused = CliRunner().invoke(app, ["evaluate", "--task", "uplift", "--as-of", "2026-04-10"])
    assert "kept customers back by chance" in str(refused.exception)
