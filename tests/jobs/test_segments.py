"""What became of the scores' segments, on a shop whose orders are known; scores are written straight into the lake."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from controltower.audiences.score_segments import names
from controltower.campaigns import specs
from controltower.cli import app
from controltower.data.lake import Lake, interval_key
from controltower.errors import BadSettings, NoData
from controltower.jobs.gathering import gather
from controltower.jobs.segments import NO_SCORES, NOT_OVER, NOT_RANKED, ORDERS_UNKNOWN, segment_columns
from controltower.jobs.segments import segment_conversions as conversions
from controltower.settings import load_shop
from support import scored_shop
from support.lakes import publish_rows
from support.shop_tables import SHOP, T, ago, lake_with, order, orders
from typer.testing import CliRunner

N = 200  # customers: segments of 2, 8, 10, 30, 50 and 100
IDS = [f"c{n:03}" for n in range(N)]


@pytest.fixture
def shop(home: Path) -> Lake:
    """Orders known until T. Six days before it c000 to c019 bought; thrice a week before that, c100 to c102."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    late = [order(f"late{n}", IDS[n], ago(6), ("p", 1, 5)) for n in range(20)]
    early = [order(f"early{n}{m}", IDS[n], ago(10 + m), ("p", 1, 5)) for n in (100, 101, 102) for m in range(3)]
    gone = order("gone", IDS[150], ago(6), ("p", 1, 5), status="cancelled")
    people = [{"customer_id": one, "updated_at": ago(90)} for one in IDS]
    return lake_with(home, {"customers": people, **orders(*late, *early, gone)}, interval=f"../{T.isoformat()}")


def score(lake: Lake, at: datetime, chances: Any = None, days: Any = None) -> None:
    """Scores and features as of a moment, the first customers likeliest; by recency the last ones come first."""
    given = [1 - n / N for n in range(N)] if chances is None else chances
    rows = {"customer_id": IDS, "as_of": [at] * N}
    models = "propensity_1d@a propensity_7d@b propensity_28d@c"
    scores = {f"propensity_{h}d": pa.array(given, pa.float64()) for h in (1, 7, 28)} | {"model_version": [models] * N}
    publish_rows(lake, "scores", interval_key(at), pa.table(rows | scores))
    since = pa.array([N - n for n in range(N)] if days is None else days, pa.float64())
    publish_rows(lake, "features", interval_key(at), pa.table(rows | {"days_since_last_order": since}))


def test_what_became_of_the_newest_scores_whose_days_are_over(shop: Lake) -> None:
    score(shop, ago(9))
    score(shop, ago(7))
    score(shop, ago(6.5))
    report = conversions(7, T.isoformat())
    (table,) = report["tables"]
    assert (table["scored"], table["until"]) == (ago(7).isoformat(), T.isoformat())
    assert report["over"] == [ago(7).isoformat(), ago(9).isoformat()] and report["why"] is None
    assert report["next"] == {"scored": ago(6.5).isoformat(), "until": ago(-0.5).isoformat()}
    assert (table["model"], table["customers"], table["bought"], table["rate"]) == ("propensity_7d@b", N, 20, 0.1)
    assert [row["segment"] for row in table["rows"]] == names()
    assert [row["customers"] for row in table["rows"]] == [2, 8, 10, 30, 50, 100]
    assert [row["converted"] for row in table["rows"]] == [2, 8, 10, 0, 0, 0]
    assert [row["recency_converted"] for row in table["rows"]] == [0, 0, 0, 0, 0, 20]
    first, rest = table["rows"][0], table["rows"][-1]
    assert (first["rate"], first["lift"]) == (1.0, 10.0) and first["low"] < 0.4 < first["high"]
    assert (rest["rate"], rest["low"]) == (0.0, 0.0) and 0.03 < rest["high"] < 0.04
    assert json.loads(json.dumps(report)) == report


def test_a_scoring_is_asked_for_and_those_before_it_dont_overlap(shop: Lake) -> None:
    for days in (7, 8, 13.9, 14, 15, 21):
        score(shop, ago(days))
    several = conversions(7, T.isoformat(), most=9)["tables"]
    assert [one["scored"] for one in several] == [ago(d).isoformat() for d in (7, 14, 21)]
    assert [one["bought"] for one in several] == [20, 3, 0], "who bought thrice counts once"
    (asked,) = conversions(7, T.isoformat(), scored=ago(14).isoformat())["tables"]
    assert asked == several[1]
    with pytest.raises(NoData, match="can be judged for 28 days"):
        conversions(28, T.isoformat(), scored=ago(14).isoformat())
    with pytest.raises(BadSettings, match="Choose one of 1, 7, 28"):
        conversions(14)


def test_it_says_why_there_is_nothing(shop: Lake) -> None:
    assert conversions(7, T.isoformat())["why"] == NO_SCORES
    score(shop, ago(6))
    early = conversions(7, T.isoformat())
    assert (early["why"], early["tables"], early["over"]) == (NOT_OVER, [], [])
    assert early["next"] == {"scored": ago(6).isoformat(), "until": ago(-1).isoformat()}
    later = conversions(7, ago(-2).isoformat())
    assert (later["why"], later["orders_known_until"]) == (ORDERS_UNKNOWN, T.isoformat()), "nobody loaded them"
    for chances in ([0.3] * N, [None] * N):
        score(shop, ago(8), chances)
        assert conversions(7, T.isoformat())["why"] == NOT_RANKED
    assert conversions(7, T.isoformat(), scored=ago(8).isoformat())["why"] == NOT_RANKED


def test_orders_that_came_later_dont_count_and_merged_ids_do(shop: Lake, home: Path) -> None:
    """As of an earlier moment, only what was known by then; c199 became c000, who bought."""
    score(shop, ago(7))
    late = order("late", IDS[60], ago(6), ("p", 1, 5), updated_at=ago(-3))
    lake_with(home, orders(late), interval=f"{T.isoformat()}/{ago(-4).isoformat()}")
    assert conversions(7, T.isoformat())["tables"][0]["bought"] == 20
    assert conversions(7, ago(-4).isoformat())["tables"][0]["bought"] == 21
    merged = {
        "customer_id": [IDS[199]],
        "person_id": [IDS[0]],
        "since": [ago(1)],
        "until": pa.nulls(1, pa.timestamp("us", tz="UTC")),
    }
    publish_rows(shop, "identity", "now", pa.table(merged))
    rows = conversions(7, T.isoformat())["tables"][0]["rows"]
    assert [row["converted"] for row in rows] == [2, 8, 10, 0, 0, 1]


def test_the_command_shows_and_writes_it(shop: Lake, home: Path) -> None:
    score(shop, ago(7))
    out = home / "segments.csv"
    asked = ["segments", "--as-of", T.isoformat(), "--out", str(out)]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "20 of 200 customers bought (10.00%)" in shown.output
    assert "top_1 " in shown.output and "100.00%" in shown.output and "propensity_7d@b" in shown.output
    header, *lines = out.read_text().splitlines()
    assert len(lines) == 6 and header.startswith('"scored","until","horizon","model","segment","customers"')
    told = json.loads(CliRunner().invoke(app, [*asked[:3], "--horizon", "28", "--json"]).stdout)
    assert (told["why"], told["tables"]) == (NOT_OVER, [])
    text = CliRunner().invoke(app, [*asked[:3], "--horizon", "28"]).output
    assert "The days of no scores are over yet." in text and "orders are known until 2026-06-15" in text


def test_segments_are_columns_of_scores() -> None:
    chances = np.array([0.1, np.nan, *np.linspace(0.2, 0.9, 98)])
    scores = {
        "propensity_1d": pa.array(chances, from_pandas=True),
        "propensity_7d": pa.array([0.4] * 100),
        "propensity_28d": pa.nulls(100, pa.float64()),
    }
    made = segment_columns(np.array(IDS[:100]), scores)
    assert list(made) == ["segment_1d", "segment_7d", "segment_28d"]
    one = made["segment_1d"].to_pylist()
    assert one[:2] == ["rest", None] and one[-1] == "top_1" and one[-5:-1] == ["top_1_to_5"] * 4
    assert made["segment_7d"].null_count == made["segment_28d"].null_count == 100, "nobody is told apart"


def test_a_campaign_is_for_a_segment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = scored_shop.make(home, monkeypatch, customers=20)
    ids = np.array([f"c{n}" for n in range(20)])
    scores = {f"propensity_{h}d": pa.array(np.linspace(0.1, 0.9, 20)) for h in (1, 7, 28)}
    about = {
        "customer_id": ids, "as_of": pa.array([scored_shop.SCORED] * 20), "send_hour": [10] * 20,
        "model_version": ["m"] * 20,
    }  # fmt: skip
    rows = pa.table(about | scores | segment_columns(ids, scores))
    publish_rows(Lake(conf), "scores", interval_key(scored_shop.SCORED), rows)
    rules = [{"column": "segment_7d", "is_in": ["top_1_to_5", "top_5_to_10"]}]
    spec = specs.validate(scored_shop.SPEC | {"audience": {"rules": rules}}, "test")
    assert gather(conf, load_shop(conf), spec, scored_shop.NOW).customers == ["c19", "c18"]


def test_days_are_those_of_the_labels(shop: Lake) -> None:
    """From just after the scores to the end of the last day, as the models count it."""
    score(shop, ago(6))
    score(shop, ago(6) - timedelta(seconds=1))
    score(shop, ago(7))
    bought = [conversions(1, T.isoformat(), scored=t.isoformat())["tables"][0]["bought"]
              for t in (ago(6), ago(6) - timedelta(seconds=1), ago(7))]  # fmt: skip
    assert bought == [0, 20, 20]
