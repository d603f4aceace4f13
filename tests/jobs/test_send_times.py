"""Send times in the daily run: trained, scored, kept in the lake, exported, gathered for a campaign, evaluated."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from controltower.data.lake import Lake
from controltower.jobs.evaluating import evaluate
from controltower.jobs.exports import write
from controltower.jobs.gathering import _hours
from controltower.jobs.predictions import Now, Past, send_time
from controltower.jobs.training import store
from controltower.models.registry import Registry
from controltower.models.send_time.delays import EveryonesDelay
from controltower.models.send_time.model import OwnWeek
from support.lakes import publish_rows
from support.shop_tables import SHOP, T, ago, event, lake_with

CUSTOMERS = np.array([f"c{n:03}" for n in range(120)])
OWN = np.arange(120) * 5 % 24  # everybody's hour
NAMES = ["send_hours", "send_hours_email", "send_hours_push"]


def visits(own: bool) -> list[dict[str, Any]]:
    """Over 112 days, around everybody's hour or at any; c119 never came."""
    rng, made = np.random.default_rng(1), []
    for n, customer in enumerate(CUSTOMERS[:-1].tolist()):
        for visit in range(40):
            day, hour = int(rng.integers(0, 112)), (OWN[n] + rng.integers(-1, 2)) % 24 if own else rng.integers(0, 24)
            made.append(
                event(f"{customer}-{visit}", customer, ago(day + 1, hours=-int(hour), seconds=-60), "view_item")
            )
    return made


@pytest.fixture
def shop(home: Path, request: pytest.FixtureRequest) -> Lake:
    """c000 to c049 also click pushes, at 21 on Mondays: nobody's usual hour."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    pushed = [
        {"message_id": f"{c}-{week}", "customer_id": c, "channel": "push",
         "sent_at": ago(7 * week, hours=-(21 if (week + n) % 2 else 12))}
        for n, c in enumerate(CUSTOMERS[:50].tolist())
        for week in range(1, 15)
    ]  # fmt: skip
    clicks = [
        {"event_id": p["message_id"], "message_id": p["message_id"], "event": "clicked",
         "occurred_at": p["sent_at"] + timedelta(minutes=5)}
        for p in pushed if p["sent_at"].hour == 21
    ]  # fmt: skip
    return lake_with(
        home,
        {
            "customers": [{"customer_id": c, "updated_at": ago(200)} for c in CUSTOMERS.tolist()],
            "events": visits(getattr(request, "param", True)),
            "messages_history": pushed,
            "message_events": clicks,
        },
    )


def trained(lake: Lake) -> dict[str, Any]:
    registry = Registry(lake.settings.home / "models")
    with Past.of(lake.settings, SHOP, T) as past:
        return {outcome.name: store(registry, outcome, T, T) for outcome in send_time.train(past)}


def scored(lake: Lake) -> pa.Table:
    import pandas as pd

    with lake.read(T) as reading:
        registry = Registry(lake.settings.home / "models")
        now = Now(lake.settings, SHOP, reading, registry, T, CUSTOMERS, pd.DataFrame(index=CUSTOMERS))
        return pa.table({"customer_id": CUSTOMERS.tolist()} | send_time.score(now))


def weeks(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist())


def test_tables_reach_the_lake_the_files_and_the_campaigns(shop: Lake, tmp_path: Path) -> None:
    cards = trained(shop)
    assert tuple(cards) == send_time.NAMES
    assert cards["send_hour"].serves == OwnWeek.name and cards["send_delay"].serves == EveryonesDelay.name
    assert {row["behaviour"] for row in cards["send_delay"].details["everyone"]} >= {"view_item", "purchase"}
    scores = scored(shop)
    assert scores.column_names == ["customer_id", "send_hour", "send_hour_weight", *NAMES]
    away = np.abs((scores["send_hour"].to_numpy()[50:119] - OWN[50:119] + 12) % 24 - 12)
    assert (away <= 1).mean() > 0.95
    whole, email, push = (weeks(scores, name) for name in NAMES)
    assert whole.shape == (120, 168) and (whole.max(axis=1) == 255).all()
    assert (email == whole).all() and (push[50:] == whole[50:]).all(), "nothing tells of the channel"
    monday = slice(19, 23)
    assert (push[:50, monday].mean(axis=1) > whole[:50, monday].mean(axis=1)).mean() > 0.9
    assert scores["send_hour_weight"][119].as_py() == 0

    publish_rows(shop, "scores", "2026-06-15T00:00:00Z", scores)
    with shop.read(T) as reading:
        kept = reading.arrow(reading.derived("scores").order_by("customer_id"))
    for name, week in zip(NAMES, (whole, email, push), strict=True):
        assert (weeks(kept, name) == week).all()
    for form in ("csv", "parquet", "json"):
        write(kept, tmp_path / f"scores.{form}")
    with (tmp_path / "scores.csv").open() as file:
        texts = [json.loads(row["send_hours_push"]) for row in csv.DictReader(file)]
    listed = [row["send_hours_push"] for row in json.loads((tmp_path / "scores.json").read_text())]
    assert texts == listed == pq.read_table(tmp_path / "scores.parquet")["send_hours_push"].to_pylist() == push.tolist()
    gathered = np.array(_hours(kept, ["push", "in_app"]).to_pylist()).reshape(120, 2, 168)
    assert (gathered[:, 0] == push).all() and (gathered[:, 1] == whole).all()


def test_without_a_model_there_are_columns_all_the_same(shop: Lake) -> None:
    scores = scored(shop)
    assert {*scores.column_names} == {"customer_id", "send_hour", "send_hour_weight", *NAMES}
    assert all(scores[name].null_count == 120 for name in scores.column_names[1:])
    publish_rows(shop, "scores", "2026-06-15T00:00:00Z", scores)
    with shop.read(T) as reading:
        kept = reading.arrow(reading.derived("scores"))
    assert (np.reshape(_hours(kept, ["email"]).to_pylist(), (120, 168)).argmax(axis=1) == 10).all(), "the usual hour"


def test_training_tells_of_what_was_in_service(shop: Lake) -> None:
    with Past.of(shop.settings, SHOP, T - timedelta(days=40)) as past:
        outcome = next(send_time.train(past))
        first = store(Registry(shop.settings.home / "models"), outcome, past.as_of, T)
    assert "Nothing was in service" in first.details["in_service"]["why"]
    said = trained(shop)["send_hour"].details["in_service"]
    assert said["versions"] == [first.version] and said["dates"] == 1 and not said["stays"]
    assert said["hits_3h"] == pytest.approx(said["ours"], abs=0.05)


@pytest.mark.parametrize("shop", [True, False], indirect=True)
def test_own_hours_are_judged_by_what_came_after(shop: Lake, request: pytest.FixtureRequest) -> None:
    report, rows = evaluate("send_time", as_of=T.isoformat(), days=28)
    own, everyone = rows.to_pylist()
    planted = request.node.callspec.params["shop"]
    assert (own["model"], everyone["model"], own["customers"]) == ("own_week", "everyones_week", everyone["customers"])
    assert own["customers"] > 100 and own["better_low"] < own["better"] < own["better_high"]
    assert own["better"] == pytest.approx(own["hits_3h"] / everyone["hits_3h"] - 1, abs=1e-9)
    assert (own["better_low"] > 0) == planted == ("better for sure" in report["said"][0].replace("neither better", ""))
    assert ("own_week" if planted else "everyones_week") in report["said"][0]


def test_few_customers_are_no_judges(home: Path) -> None:
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    lake_with(home, {"events": [event(f"{n}", "a", ago(n), "search") for n in range(1, 50)]})
    report, rows = evaluate("send_time", as_of=T.isoformat(), days=28)
    assert "Only 1 customers" in report["said"][0] and not rows.num_rows
