"""The Tower app in Airflow's own API server, walked by visitors with different permissions, with two auth managers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from controltower.jobs.campaigns import plan_campaign
from controltower.models.recommend.algorithms.popularity import Popularity
from controltower.models.registry import Registry
from controltower.settings import Settings
from controltower.web.guards import TOWER
from models.conftest import planted
from models.test_registry import card
from support import scored_shop
from support.airflow_process import ROOT, airflow_environment

Walk = dict[str, int]
GETS = [f"GET {path}" for method, path in TOWER if method == "GET"]
CHANGE = "POST /runs/{run_id}/{action}"
OF_CAMPAIGN = [route for route in GETS if "{name}" in route]
OF_RUN = [route for route in GETS if "{run_id}" in route]
OF_ANYBODY = [route for route in GETS if route not in (*OF_CAMPAIGN, *OF_RUN)]


@pytest.fixture
def shop(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """On SQLite only: who may do what is Airflow's to say."""
    conf = scored_shop.make(home, monkeypatch)
    scored_shop.write_shop(conf, approve_above=None)
    Registry(conf.home / "models").store(Popularity().fit(planted()), card("m", -1))
    return conf


def walk(shop: Settings, airflow_home: Path, visitors: dict[str, Any], **more: str) -> dict[str, Walk]:
    """Each visitor's statuses by route, as support/tower_walk.py finds them."""
    plan_campaign("spring")
    environment = airflow_environment(
        airflow_home,
        shop.home,
        CONTROLTOWER_CAMPAIGNS=str(shop.campaigns),
        CONTROLTOWER_TEMPLATES=str(shop.templates),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
        **more,
    )
    command = [sys.executable, str(ROOT / "tests" / "support" / "tower_walk.py"), json.dumps(visitors)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Walk] = json.loads(done.stdout.splitlines()[-1])
    return found


def expect(found: Walk, *, anybody: int, campaign: int, run: int, change: int) -> None:
    wanted = dict.fromkeys(OF_ANYBODY, anybody) | dict.fromkeys(OF_CAMPAIGN, campaign)
    assert found == wanted | dict.fromkeys(OF_RUN, run) | {CHANGE: change}


def expect_strangers_out(found: dict[str, Walk]) -> None:
    """A page sends them to Airflow's log-in, a form is refused; a token that isn't Airflow's is refused everywhere."""
    expect(found["anonymous"], anybody=303, campaign=303, run=303, change=401)
    expect(found["forged"], anybody=403, campaign=403, run=403, change=403)


@pytest.mark.airflow
def test_the_simple_auth_manager(shop: Settings, tmp_path: Path) -> None:
    found = walk(shop, tmp_path / "airflow", {"viewer": "viewer", "user": "user", "nobody": None})
    expect_strangers_out(found)
    expect(found["viewer"], anybody=200, campaign=200, run=200, change=403)
    expect(found["user"], anybody=200, campaign=200, run=200, change=303)
    expect(found["nobody"], anybody=200, campaign=403, run=404, change=404)


@pytest.mark.airflow
@pytest.mark.slow
def test_fab_with_permissions_by_campaign(shop: Settings, tmp_path: Path) -> None:
    runs = [["can_create", "DAG Runs"], ["can_read", "DAG Runs"]]
    visitors = {
        "viewer": "Viewer",
        "user": "User",
        "nobody": [],
        "reader": [["can_read", "DAG:campaign_spring"], *runs],
        "marketer": [["can_read", "DAG:campaign_spring"], ["can_edit", "DAG:campaign_spring"], *runs],
        "other": [["can_read", "DAG:campaign_win_back"], ["can_edit", "DAG:campaign_win_back"], *runs],
    }
    fab = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    found = walk(shop, tmp_path / "airflow", visitors, AIRFLOW__CORE__AUTH_MANAGER=fab)
    expect_strangers_out(found)
    for name in ("viewer", "reader"):
        expect(found[name], anybody=200, campaign=200, run=200, change=403)
    for name in ("user", "marketer"):
        expect(found[name], anybody=200, campaign=200, run=200, change=303)
    for name in ("nobody", "other"):
        expect(found[name], anybody=200, campaign=403, run=404, change=404)
