"""Which day a campaign's run is for, however it was started."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from support.airflow_process import ROOT, airflow_environment

CASES = [
    ({"run_type": "manual", "given": "2026-06-15"}, ["2026-06-15"]),
    ({"run_type": "manual", "run_after": "2026-06-15T14:59:00+00:00"}, ["2026-06-15"]),
    ({"run_type": "manual", "run_after": "2026-06-15T15:00:00+00:00"}, ["2026-06-16"]),  # midnight in Seoul
    # an inferred interval is not what a run by hand is for
    ({"run_type": "manual", "interval_end": "2026-06-01T00:00:00+00:00"}, ["2026-06-20"]),
    ({"run_type": "scheduled", "interval_end": "2026-06-14T20:00:00+00:00"}, ["2026-06-15"]),
    ({"run_type": "asset_triggered", "events": [["2026-06-14T20:00:00+00:00"]]}, ["2026-06-15"]),
    # a backfill's events come together and out of order, two of them for one day
    (
        {
            "run_type": "asset_triggered",
            "events": [["2026-05-02T20:00:00Z", "2026-05-03T01:00:00Z"], ["2026-05-01T20:00:00Z"]],
        },
        ["2026-05-02", "2026-05-03"],
    ),
]


def ask(airflow_home: Path, home: Path, cases: list[dict], **more: str) -> list[list[str | None]]:
    command = [sys.executable, str(ROOT / "tests" / "support" / "occasions.py"), json.dumps(cases)]
    environment = airflow_environment(airflow_home, home, **more)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[str | None]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_day_is_the_forms_the_events_the_intervals_or_the_runs(tmp_path: Path) -> None:
    shutil.copy(ROOT / "include" / "shops" / "simulated.yaml", tmp_path / "shop.yaml")
    found = ask(tmp_path / "airflow", tmp_path, [case for case, _ in CASES])
    for (case, expected), days in zip(CASES, found, strict=True):
        assert days == expected, case


def test_with_a_set_clock_a_run_by_hand_means_its_today(tmp_path: Path) -> None:
    shutil.copy(ROOT / "include" / "shops" / "simulated.yaml", tmp_path / "shop.yaml")
    cases = [{"run_type": "manual"}, {"run_type": "asset_triggered", "events": [["2026-06-14T20:00:00Z"]]}]
    found = ask(tmp_path / "airflow", tmp_path, cases, CONTROLTOWER_NOW="2026-06-15T06:30:00+09:00")
    assert found == [[None], ["2026-06-15"]]
