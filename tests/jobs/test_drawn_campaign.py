"""A simulated campaign that drew whom not to write to, sent on one day: the same commands as for real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from controltower.cli import app
from controltower.data.lake import Lake, interval_key
from controltower.jobs.predictions import Now, Past, uplift
from controltower.jobs.profiles import build_profiles
from controltower.jobs.targeting import Wanted, target_customers
from controltower.jobs.training import store
from controltower.models.base import Outcome
from controltower.models.registry import Registry
from controltower.models.uplift import attributes
from controltower.profiles.features import NAMES
from controltower.settings import load
from support import drawn_campaign
from support.lakes import publish_rows
from support.shop_tables import SHOP
from typer.testing import CliRunner

AFTER = "2026-04-20"  # 19 days after the only mail
AT = drawn_campaign.SENT.replace(day=20, hour=0)


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


def trained_and_scored(home: Path) -> tuple[Outcome, pd.DataFrame, pd.DataFrame]:
    """What was learned as of AT, everybody's features then, and the columns of scores beside them."""
    conf = load()
    with Past.of(conf, SHOP, AT) as past:
        (outcome,) = uplift.train(past)
        store(Registry(home / "models"), outcome, AT, AT)
    build_profiles(AFTER)
    with Lake(conf).read(AT) as reading:
        features = reading.frame(reading.derived("features").select("customer_id", *NAMES))
        features = features.set_index("customer_id").astype(float)
        ids = np.array(features.index, dtype=np.str_)
        scored = uplift.score(Now(conf, SHOP, reading, Registry(home / "models"), AT, ids, features))
    return outcome, features, pa.table(scored).to_pandas()


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
    outcome, features, said = trained_and_scored(home)
    assert outcome.published and outcome.details["campaigns"] == ["spring mail"]
    fifths = outcome.details["calibration"]["table"]
    assert len(fifths) == 5 and fifths[0]["said"] < fifths[-1]["said"] and fifths[-1]["low"] > 0
    assert outcome.details["backtest"] == [], "nothing was known before the only campaign"
    assert 0 < outcome.details["drift"]["score_stability"] < 0.5
    lately = features["days_since_last_order"].to_numpy() < drawn_campaign.RECENT
    assert said["uplift"][lately].mean() > said["uplift"][~lately].mean() + 0.05
    assert 0 < said["uplift_error"].iloc[0] < 0.08
    publish_scores(features, said)
    report, audience = target_customers("incremental", wanted=Wanted(size=300), as_of=AT.isoformat(), products=False)
    chosen = features["days_since_last_order"].loc[audience["customer_id"].to_pylist()] < drawn_campaign.RECENT
    assert chosen.mean() > 1.5 * lately.mean(), "customers whom the mail changes come first"
    brought = drawn_campaign.EFFECT[True] * chosen.sum() + drawn_campaign.EFFECT[False] * (~chosen).sum()
    assert 0 < report["chosen"]["low"] < brought < report["chosen"]["high"]


def publish_scores(features: pd.DataFrame, said: pd.DataFrame) -> None:
    """Those of the uplift model, beside an even chance of an order for all."""
    rest = {"as_of": AT, "model_version": "uplift@u", "propensity_7d": 0.1, "propensity_28d": 0.3}
    scores = said.assign(customer_id=features.index, **rest)
    publish_rows(Lake(load()), "scores", interval_key(AT), pa.Table.from_pandas(scores, preserve_index=False))


@pytest.mark.slow
def test_whom_the_mail_changes_is_found_by_what_only_the_shop_keeps_of_them(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded(home, changes=True, customers=4000, by_area=True)
    outcome, features, said = trained_and_scored(home)
    learned = attributes.names(outcome.details["columns"])
    assert {"about:zip_code=Urban", "about:history", "about:gender=f", "about:age"} <= set(learned)
    assert outcome.details["attributes_apart"] == ["segment"], "what tells who was written to isn't learned from"
    with Lake(load()).read(AT) as reading:
        about = attributes.columns(attributes.read(reading, features.index.tolist()), ["about:zip_code=Urban"])
    urban = about.loc[features.index, "about:zip_code=Urban"].to_numpy() == 1
    assert said["uplift"][urban].mean() > said["uplift"][~urban].mean() + 0.05


@pytest.mark.slow
def test_where_the_mail_changes_nobody_no_effect_is_claimed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although there is more to find it by: what only the shop keeps of its customers."""
    monkeypatch.chdir(tmp_path)
    loaded(home, changes=False, customers=3000, seed=4, by_area=True)
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
