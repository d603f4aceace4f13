"""Every DAG file parses, yields a DAG, and carries what whoever is on call needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from controltower.data.lake import GRACE

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"
SPECS = ROOT / "include" / "campaigns"
FILES = sorted(p.name for p in DAGS.glob("*.py") if not p.name.startswith("_"))
HEAVY = {"pandas", "numpy", "pyarrow", "ibis", "duckdb", "sklearn", "scipy", "implicit", "firebase_admin", "mrml"}
TIERS = {"tier-1", "tier-2", "tier-3"}
Parse = Callable[..., dict[str, Any]]


def test_no_file_fails_to_import(ours: dict[str, Any]) -> None:
    assert ours["errors"] == {}


@pytest.mark.parametrize("file", FILES)
def test_every_file_yields_a_dag_of_its_name(ours: dict[str, Any], file: str) -> None:
    found = [dag_id for dag_id, dag in ours["dags"].items() if dag["file"] == file]
    stem = file.removesuffix(".py")
    assert found == [stem] if stem != "campaigns" else len(found) >= 2


def test_parsing_imports_no_heavy_package(ours: dict[str, Any]) -> None:
    assert HEAVY & set(ours["modules"]) == set()


def test_every_dag_says_whose_it_is_and_what_to_do(ours: dict[str, Any]) -> None:
    for dag_id, dag in ours["dags"].items():
        assert dag["owner"] and dag["owner"] != "airflow", dag_id
        assert len(TIERS & set(dag["tags"])) == 1, dag_id
        assert "**If it fails**" in dag["doc"], dag_id
        assert dag["catchup"] is False, dag_id
        # a campaign that waits for a second person keeps no other run of it waiting
        assert dag["max_active_runs"] == (16 if dag["tasks"].keys() >= {"plan", "approve"} else 1), dag_id


def test_every_task_has_limits_and_a_pool_that_the_set_up_makes(ours: dict[str, Any]) -> None:
    pools = json.loads((DAGS / "pools.json").read_text())
    for dag_id, dag in ours["dags"].items():
        assert dag["tasks"], dag_id
        for name, task in dag["tasks"].items():
            assert 0 < task["timeout"] <= GRACE, (dag_id, name)  # the lake keeps replaced files for so long
            assert task["failure_callback"], (dag_id, name)
            assert task["pool"] in pools, (dag_id, name)
            # the next dispatch is the retry; a test that was sent is sent again by a person only
            assert (task["retries"] >= 1) == (dag_id not in ("dispatch_messages", "test_campaign")), (dag_id, name)
            assert task["backoff"] >= 2, (dag_id, name)


def test_the_day_is_one_chain_of_assets(ours: dict[str, Any]) -> None:
    """By DAG: the assets it waits for, and those it tells of. Whoever adds a DAG or a campaign needs no line here."""
    facts, profiles, models, scores = (f"controltower_{name}" for name in ("facts", "profiles", "models", "scores"))
    expected = {
        "ingest_data": ([], [facts]),
        "build_profiles": ([facts], [profiles]),
        "measure_campaigns": ([facts], []),
        "train_models": ([profiles], [models]),
        "score_customers": ([models], [scores]),
        "campaign_picked_for_you": ([scores], []),
        "campaign_win_back": ([scores], []),
        "example_export_top_customers": ([scores], []),
        "cancel_campaign": ([], []),
        "pause_campaign": ([], []),
        "test_campaign": ([], []),
        "dispatch_messages": ([], []),
        "ingest_feedback": ([], ["controltower_feedback"]),
    }
    found = {
        dag_id: (dag["assets"], [outlet for task in dag["tasks"].values() for outlet in task["outlets"]])
        for dag_id, dag in ours["dags"].items()
    }
    assert {dag_id: found.get(dag_id) for dag_id in expected} == expected


def test_plans_are_made_one_at_a_time(ours: dict[str, Any]) -> None:
    """Two at once would both find the same frequency caps free."""
    assert json.loads((DAGS / "pools.json").read_text())["planning"]["slots"] == 1
    planning = {
        dag_id for dag_id, dag in ours["dags"].items() if dag["tasks"].get("plan", {}).get("pool") == "planning"
    }
    assert planning == {dag_id for dag_id in ours["dags"] if dag_id.startswith("campaign_")}


@pytest.mark.parametrize("dag", ["cancel_campaign", "pause_campaign"])
def test_the_campaign_to_stop_is_chosen_from_the_specs(ours: dict[str, Any], dag: str) -> None:
    form = ours["dags"][dag]["params"]
    assert form["campaign"]["enum"] == sorted(p.stem for p in SPECS.glob("*.yaml"))
    assert form["occasion"]["default"] is None


def test_the_form_of_a_test_takes_no_address(ours: dict[str, Any]) -> None:
    """Airflow keeps what a DAG is triggered with."""
    form = ours["dags"]["test_campaign"]["params"]
    assert form["campaign"]["enum"] == sorted(p.stem for p in SPECS.glob("*.yaml"))
    assert {name: field["default"] for name, field in form.items() if name != "campaign"} == {
        "variant": None, "customer": None, "sandbox_mode": False
    }  # fmt: skip


def test_a_campaigns_form_is_filled_from_its_spec(ours: dict[str, Any]) -> None:
    form = ours["dags"]["campaign_picked_for_you"]["params"]
    assert form["channels"]["default"] == form["channels"]["examples"] == ["push", "email", "in_app"]
    assert form["variants"]["default"] == ["personal", "product_first"]
    assert form["holdout"]["default"] == 0.1
    assert form["at_most"]["default"] == 1000
    assert form["occasion"]["default"] is None
    assert all(field["title"] and field["description"] and field["section"] for field in form.values())


def test_the_form_may_lower_the_threshold_of_approval_and_says_whose_hours_it_means(
    parse: Parse, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "include" / "shops" / "simulated.yaml", tmp_path / "shop.yaml")
    form = parse(DAGS, tmp_path)["dags"]["campaign_win_back"]["params"]
    above = form["approve_above"]
    assert (above["default"], above["minimum"], above["maximum"]) == (1500, 0, 1500)
    assert all("Asia/Seoul" in form[name]["description"] for name in ("occasion", "window_start", "window_end"))


def test_a_plan_is_released_after_its_approval(ours: dict[str, Any]) -> None:
    tasks = ours["dags"]["campaign_win_back"]["tasks"]
    assert (tasks["plan"]["before"], tasks["approve"]["before"]) == (["approve"], ["release"])


def test_a_broken_shop_file_takes_no_dag_away(parse: Parse, tmp_path: Path, ours: dict[str, Any]) -> None:
    (tmp_path / "shop.yaml").write_text("name: [unclosed\n")
    found = parse(DAGS, tmp_path)
    assert found["errors"] == {}
    assert found["dags"].keys() == ours["dags"].keys()


def test_the_daily_load_follows_the_shops_zone(parse: Parse, tmp_path: Path) -> None:
    shutil.copy(ROOT / "include" / "shops" / "simulated.yaml", tmp_path / "shop.yaml")
    dag = parse(DAGS, tmp_path)["dags"]["ingest_data"]
    assert (dag["timetable"], dag["zone"], dag["scheduled"]) == ("CronDataIntervalTimetable", "Asia/Seoul", True)


def test_a_home_whose_clock_is_set_is_not_on_the_wall_clocks_schedule(parse: Parse, tmp_path: Path) -> None:
    dags = parse(DAGS, tmp_path, CONTROLTOWER_NOW="2011-11-09T06:30:00+00:00")["dags"]
    assert not dags["ingest_data"]["scheduled"]
    assert dags["dispatch_messages"]["scheduled"]


def test_what_is_due_now_cannot_be_backfilled(ours: dict[str, Any]) -> None:
    run_types = {dag_id: dag["run_types"] for dag_id, dag in ours["dags"].items() if dag["run_types"]}
    campaigns = [run_types.pop(dag_id) for dag_id in list(run_types) if dag_id.startswith("campaign_")]
    assert campaigns == [["asset_triggered", "manual", "operator_triggered", "scheduled"]] * len(campaigns)
    assert run_types == {
        "cancel_campaign": ["manual"],
        "dispatch_messages": ["manual", "scheduled"],
        "ingest_events": ["manual", "scheduled"],
        "ingest_feedback": ["manual", "scheduled"],
        "pause_campaign": ["manual"],
        "test_campaign": ["manual"],
    }


def test_a_broken_spec_is_one_dag_that_shows_its_error(parse: Parse, tmp_path: Path) -> None:
    specs = tmp_path / "campaigns"
    shutil.copytree(ROOT / "include" / "campaigns", specs)
    (specs / "half_made.yaml").write_text("name: half_made\ntitle: [unclosed\n")
    (specs / "no_audience.yaml").write_text("name: no_audience\ntitle: No audience\n")
    cron = (specs / "win_back.yaml").read_text().replace("win_back", "monthly").replace("after_scores", "0 9 1 * *")
    (specs / "monthly.yaml").write_text(cron)
    found = parse(DAGS, tmp_path, CONTROLTOWER_CAMPAIGNS=str(specs))
    assert found["errors"] == {}
    dags = found["dags"]
    assert "half_made.yaml is not valid YAML" in dags["campaign_half_made"]["doc"]
    assert "no_audience.yaml" in dags["campaign_no_audience"]["doc"]
    broken = {dag_id for dag_id, dag in dags.items() if "broken" in dag["tags"]}
    assert broken == {"campaign_half_made", "campaign_no_audience"}
    assert set(dags["campaign_half_made"]["tasks"]) == {"show_error"}
    assert "half_made" in dags["cancel_campaign"]["params"]["campaign"]["enum"]  # messages of its may wait
    assert set(dags["campaign_win_back"]["tasks"]) == {"plan", "approve", "release"}
    assert dags["campaign_monthly"]["timetable"] == "CronDataIntervalTimetable"
